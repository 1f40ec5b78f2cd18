"""How does a Prefect server get the work pool, deployments and automations? Running this again changes nothing else."""

import flows.first  # isort: skip  # noqa: F401  # before anything else of Prefect

import logging
import os
import re
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_UI_URL
from prefect.workers.process import ProcessWorker
from pydantic import SecretStr

from flows.api import ServerError, wait_for_api
from flows.prefect_compat import set_working_dir, working_dir_of
from flows.worker import POOL
from gan.cli.entry import run_program
from gan.errors import SettingError
from gan.storage.masking import masked

PREFECT_FILE = Path(__file__).parents[1] / "prefect.yaml"  # also if this runs in another folder
DEPLOY = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(PREFECT_FILE)]
REGISTERED = re.compile(r"Deployment '(.+?)' successfully (?:created|updated)")
SERVER_SECONDS = 180.0
MISSED_HEARTBEATS = 3
LATE_SECONDS = 3600  # notify if a nightly run waits longer; see GAN_NOTIFY_LATE_SECONDS
MIN_LATE_SECONDS = 10  # Prefect's own minimum
MAX_LATE_SECONDS = 30 * 86_400
TAG = "gan-train"  # our deployments' runs have it; the automation ignores other flows, which may send no heartbeats
NOTIFY_BLOCK = "gan-train-notify"
ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Crashed", "Cancelled", "AwaitingRetry")}
MESSAGE = '{{"text": {{{{ ("gan-train nightly run " ~ flow_run.name ~ " {what}" ~ {more}) | tojson }}}}}}'

log = logging.getLogger(__name__)


def main() -> int:
    """Register everything with the server of Prefect's settings.

    Raises:
        SettingError: a variable, or prefect.yaml, cannot be used. Nothing was registered.
        ServerError: the server does not answer, or refuses something.
    """
    notify_url()  # a wrong value is reported before anything is registered
    late_seconds()
    work_dir = work_dir_given()
    _heartbeat_seconds()
    if not PREFECT_FILE.is_file():
        raise SettingError(f"{PREFECT_FILE} is not there. It lists the deployments: install a checkout of the project.")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    give_up_at = time.monotonic() + SERVER_SECONDS
    wait_for_api(lambda: _sleep_until(give_up_at))
    try:
        with get_client(sync_client=True) as client:
            make_pool(client, work_dir)
            make_automations(client)
    except (httpx.HTTPError, PrefectException, ValueError) as error:  # a ValueError: an answer that is not Prefect's
        said = masked((str(error).splitlines() or [type(error).__name__])[0])
        raise ServerError(f"not everything is registered: {said}. Run this again when the server works.") from error
    return _deploy()


def _deploy() -> int:
    """Register the deployments of prefect.yaml. Prefect's output is not shown: its advice names another worker."""
    done = subprocess.run(DEPLOY, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        log.error("%s", done.stdout)
    for name in REGISTERED.findall(done.stdout):
        log.info("deployment: %s", name)
    if not done.returncode and (url := PREFECT_UI_URL.value()):
        log.info("Prefect's UI: %s", url)
    return done.returncode


def _sleep_until(deadline: float) -> bool:
    """Sleep for a second. Return whether the deadline is over."""
    time.sleep(1)
    return time.monotonic() > deadline


def make_pool(client: SyncPrefectClient, work_dir: Path | None) -> None:
    """Make the work pool. A new one trains one run at a time; a changed limit stays.

    Its runs work in `work_dir`. If that is None, they stay where they are; those of a new pool work in this directory.
    """
    template: dict[str, Any] = ProcessWorker.get_default_base_job_template()
    try:
        before = client.read_work_pool(POOL)
    except ObjectNotFound:
        set_working_dir(template, work_dir or Path.cwd())
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template, concurrency_limit=1)
        )
    else:
        set_working_dir(template, work_dir or working_dir_of(before.base_job_template) or Path.cwd())
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
    log.info("work pool %s: runs in %s; GAN_WORK_DIR changes that", POOL, working_dir_of(template))


def make_automations(client: SyncPrefectClient) -> None:
    """Make the automation that finds killed runs and, if GAN_NOTIFY_URL is set, those that report bad nightly runs."""
    within = timedelta(seconds=MISSED_HEARTBEATS * _heartbeat_seconds())
    alive = {"prefect.flow-run.heartbeat", "prefect.flow-run.Running"}
    _put(
        client,
        AutomationCore(
            name="gan-train: killed runs",
            description="A flow run without heartbeats is set to Crashed. The next worker resumes it.",
            trigger=EventTrigger(
                after=alive,
                expect=alive | ENDED,
                match={"prefect.resource.id": "prefect.flow-run.*"},
                match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                within=within,
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message=f"no heartbeat for {within.seconds} s")],
        ),
    )
    ended_badly = {"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"}
    failed = EventTrigger(expect=ended_badly, posture=Posture.Reactive, **_NIGHTLY)
    late = EventTrigger(
        after={"prefect.flow-run.Late"},
        expect={"prefect.flow-run.Pending", "prefect.flow-run.Running", *ENDED},
        posture=Posture.Proactive,
        within=timedelta(seconds=late_seconds()),
        **_NIGHTLY,
    )
    _notify(client, "gan-train: a nightly run failed", failed, "failed: ", "flow_run.state.message")
    _notify(client, "gan-train: a nightly run is late", late, "has not started: is a worker running?", '""')


_NIGHTLY: dict[str, Any] = {
    "match": {"prefect.resource.id": "prefect.flow-run.*"},
    "match_related": {"prefect.resource.role": "deployment", "prefect.resource.name": "nightly"},
    "for_each": {"prefect.resource.id"},
}


def notify_url() -> str | None:
    """Return GAN_NOTIFY_URL, or None if it is not set. Raises SettingError if it is not a web address."""
    url = os.environ.get("GAN_NOTIFY_URL")
    if url and not _is_web_address(url):  # not shown, because the address of a webhook is a secret
        raise SettingError("GAN_NOTIFY_URL is not a web address. Set it to one of the form https://HOST/PATH.")
    return url or None


def late_seconds() -> int:
    """Return GAN_NOTIFY_LATE_SECONDS, or its default. Raises SettingError if it is not a number of seconds."""
    text = os.environ.get("GAN_NOTIFY_LATE_SECONDS") or str(LATE_SECONDS)
    if not (text.isdecimal() and MIN_LATE_SECONDS <= int(text) <= MAX_LATE_SECONDS):
        allowed = f"{MIN_LATE_SECONDS} to {MAX_LATE_SECONDS}"
        raise SettingError(f"GAN_NOTIFY_LATE_SECONDS is {text!r}. Set it to a whole number of seconds, {allowed}.")
    return int(text)


def work_dir_given() -> Path | None:
    """Return GAN_WORK_DIR, which may be a directory of another machine; None if it is not set.

    Raises SettingError if it can be no directory here.
    """
    given = os.environ.get("GAN_WORK_DIR")
    if not given:
        return None
    try:
        path = Path(given).expanduser().resolve()
        if path.is_dir() or not path.exists():
            return path
    except (OSError, RuntimeError, ValueError):  # no such user, or a loop of links
        pass
    raise SettingError(f"GAN_WORK_DIR is {given!r}, which is no directory. Set it to that of the worker's runs.")


def _heartbeat_seconds() -> int:
    seconds: int | None = PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()
    if not seconds:
        raise SettingError("PREFECT_FLOWS_HEARTBEAT_FREQUENCY is not set. Set it here and for the worker, to 30 say.")
    return seconds


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket left open, or a port out of range
        return False
    return is_address and text.isprintable() and " " not in text


def _notify(client: SyncPrefectClient, name: str, trigger: EventTrigger, what: str, more: str) -> None:
    """Make an automation that posts {"text": ...} to GAN_NOTIFY_URL, or delete it if that is not set."""
    url = notify_url()
    if url is None:
        for existing in client.read_automations_by_name(name):
            client.delete_automation(existing.id)
        return
    block = Webhook(method="POST", url=SecretStr(url)).save(NOTIFY_BLOCK, overwrite=True)
    message = MESSAGE.format(what=what, more=more)
    action = CallWebhook(block_document_id=block, payload=message)
    _put(client, AutomationCore(name=name, trigger=trigger, actions=[action]))


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create an automation, or update the one of the same name. A disabled one stays disabled."""
    found = client.read_automations_by_name(automation.name)
    if found:
        client.update_automation(found[0].id, automation.model_copy(update={"enabled": found[0].enabled}))
    else:
        client.create_automation(automation)
    log.info("automation: %s", automation.name)


if __name__ == "__main__":
    sys.exit(run_program(main))
