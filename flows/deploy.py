"""How does a Prefect server get the work pool, the deployments and the automations? Run it again: nothing doubles."""

import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import StateType
from prefect.events import EventTrigger
from prefect.events.actions import CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY
from prefect.workers.process import ProcessWorker
from pydantic import SecretStr

from flows.worker import POOL

DEPLOY = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
SERVER_SECONDS = 180.0
MISSED_HEARTBEATS = 3
LATE_SECONDS = 3600  # a nightly run that waits longer for its turn is told of; see GAN_NOTIFY_LATE_SECONDS
TAG = "gan-train"  # of our deployments' runs, and all that a heartbeat tells of them; other flows have other habits
NOTIFY_BLOCK = "gan-train-notify"
ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Crashed", "Cancelled", "AwaitingRetry")}
MESSAGE = '{{"text": {{{{ ("gan-train nightly run " ~ flow_run.name ~ " {what}" ~ {more}) | tojson }}}}}}'

log = logging.getLogger("flows.deploy")


def main() -> int:
    """Register everything with the server that Prefect's settings name."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    log.setLevel(logging.INFO)
    with get_client(sync_client=True) as client:
        _wait_for(client)
        make_pool(client, Path(os.environ.get("GAN_WORK_DIR", ".")).resolve())
        make_automations(client)
    return subprocess.run(DEPLOY, check=False).returncode


def make_pool(client: SyncPrefectClient, work_dir: Path) -> None:
    """Make the pool, its runs working in a directory; one training at a time, unless somebody has set another limit."""
    template: dict[str, Any] = ProcessWorker.get_default_base_job_template()
    template["variables"]["properties"]["working_dir"]["default"] = str(work_dir)
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template, concurrency_limit=1)
        )
    else:
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template))
    log.info("work pool %s: runs in %s", POOL, work_dir)


def make_automations(client: SyncPrefectClient) -> None:
    """Make the automation that notices killed runs and, where GAN_NOTIFY_URL is set, those that tell of bad nights."""
    heartbeat_seconds = PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()
    if not heartbeat_seconds:
        raise SystemExit("PREFECT_FLOWS_HEARTBEAT_FREQUENCY is not set: set it, to 30 say, here and for the worker")
    within = timedelta(seconds=MISSED_HEARTBEATS * heartbeat_seconds)
    alive = {"prefect.flow-run.heartbeat", "prefect.flow-run.Running"}
    _put(
        client,
        AutomationCore(
            name="gan-train: killed runs",
            description="A flow run without heartbeats is called Crashed; the next worker goes on with it.",
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
        within=timedelta(seconds=int(os.environ.get("GAN_NOTIFY_LATE_SECONDS") or LATE_SECONDS)),
        **_NIGHTLY,
    )
    _notify(client, "gan-train: a nightly run failed", failed, "failed: ", "flow_run.state.message")
    _notify(client, "gan-train: a nightly run is late", late, "has not begun: is a worker there?", '""')


_NIGHTLY: dict[str, Any] = {
    "match": {"prefect.resource.id": "prefect.flow-run.*"},
    "match_related": {"prefect.resource.role": "deployment", "prefect.resource.name": "nightly"},
    "for_each": {"prefect.resource.id"},
}


def _notify(client: SyncPrefectClient, name: str, trigger: EventTrigger, what: str, more: str) -> None:
    """Make an automation that posts {"text": ...} to GAN_NOTIFY_URL, or delete it where that is not set."""
    url = os.environ.get("GAN_NOTIFY_URL")
    if not url:
        for there in client.read_automations_by_name(name):
            client.delete_automation(there.id)
        return
    block = Webhook(method="POST", url=SecretStr(url)).save(NOTIFY_BLOCK, overwrite=True)
    message = MESSAGE.format(what=what, more=more)
    action = CallWebhook(block_document_id=block, payload=message)
    _put(client, AutomationCore(name=name, trigger=trigger, actions=[action]))


def _put(client: SyncPrefectClient, automation: AutomationCore) -> None:
    """Create an automation, or make the one of its name like it; one that was disabled stays so."""
    if found := client.read_automations_by_name(automation.name):
        client.update_automation(found[0].id, automation.model_copy(update={"enabled": found[0].enabled}))
    else:
        client.create_automation(automation)
    log.info("automation: %s", automation.name)


def _wait_for(client: SyncPrefectClient) -> None:
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            client.hello().raise_for_status()
            return
        time.sleep(1)
    raise SystemExit(f"{client.api_url} does not answer. Start the Prefect server, or correct PREFECT_API_URL.")


if __name__ == "__main__":
    sys.exit(main())
