"""Does the server have what it needs after a deploy, and what its users changed after the next one?"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.api import ServerError
from flows.deploy import main, make_automations, make_pool
from flows.prefect_compat import working_dir_of
from flows.worker import POOL
from gan.errors import SettingError
from tests.support.answers import HEALTHY, LOCKED, server
from tests.support.deployment import deploy

KILLED, FAILED, LATE = (
    f"gan-train: {what}" for what in ("killed runs", "a nightly run failed", "a nightly run is late")
)


@pytest.fixture
def client(api: str) -> Iterator[SyncPrefectClient]:
    """Talk to the server."""
    with get_client(sync_client=True) as client:
        yield client


def test_a_second_deploy_doubles_nothing_and_undoes_nothing(
    api: str, client: SyncPrefectClient, deployed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nightly = client.read_deployment_by_name("gan-train/nightly")
    assert [schedule.slug for schedule in nightly.schedules] == ["nightly"]
    assert client.read_work_pool(POOL).concurrency_limit == 1
    client.update_deployment_schedule(nightly.id, nightly.schedules[0].id, active=False)
    client.update_work_pool(POOL, WorkPoolUpdate(concurrency_limit=2))

    deploy(api, deployed)

    told = [line for line in caplog.messages if line.startswith("deployment: ")]
    assert told == ["deployment: gan-train/default", "deployment: gan-train/nightly"]
    again = client.read_deployment_by_name("gan-train/nightly")
    assert [(each.id, each.active) for each in again.schedules] == [(nightly.schedules[0].id, False)]
    pool = client.read_work_pool(POOL)
    assert pool.concurrency_limit == 2
    assert pool.base_job_template["variables"]["properties"]["working_dir"]["default"] == str(deployed)
    (killed,) = client.read_automations_by_name(KILLED)
    assert killed.trigger.match_related.root == {  # type: ignore[union-attr]
        "prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{again.tags[0]}"
    }  # fmt: skip


def test_a_pool_stays_where_it_is_unless_it_is_moved(
    client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deployment from another folder does not move it."""
    make_pool(client, tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    make_pool(client, None)
    assert working_dir_of(client.read_work_pool(POOL).base_job_template) == tmp_path / "first"
    make_pool(client, tmp_path)
    assert working_dir_of(client.read_work_pool(POOL).base_job_template) == tmp_path


@pytest.mark.usefixtures("deployed")
def test_the_form_of_a_run_has_bounds_and_help(client: SyncPrefectClient) -> None:
    schema = client.read_deployment_by_name("gan-train/default").parameter_openapi_schema
    steps = schema["definitions"]["TrainConfig"]["properties"]["num_steps"]
    assert steps["description"].startswith("Steps to train")
    assert steps["minimum"] == 1


def test_bad_nights_are_told_only_where_an_address_is_set(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def count() -> list[int]:
        return [len(client.read_automations_by_name(name)) for name in (FAILED, LATE)]

    make_automations(client)
    assert count() == [0, 0]
    monkeypatch.setenv("GAN_NOTIFY_URL", "http://127.0.0.1:9/hook")
    make_automations(client)
    make_automations(client)
    assert count() == [1, 1]
    monkeypatch.delenv("GAN_NOTIFY_URL")
    make_automations(client)
    assert count() == [0, 0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("GAN_NOTIFY_LATE_SECONDS", "1h", "GAN_NOTIFY_LATE_SECONDS is '1h'. Set it to a whole number of seconds"),
        ("GAN_NOTIFY_LATE_SECONDS", "0", "GAN_NOTIFY_LATE_SECONDS is '0'"),
        ("GAN_NOTIFY_LATE_SECONDS", "-5", "GAN_NOTIFY_LATE_SECONDS is '-5'"),
        ("GAN_NOTIFY_LATE_SECONDS", "9", "GAN_NOTIFY_LATE_SECONDS is '9'"),
        ("GAN_NOTIFY_LATE_SECONDS", "9" * 20, "10 to 2592000"),
        ("GAN_NOTIFY_URL", "hooks.example/services/s3cret", "GAN_NOTIFY_URL is not a web address"),
        ("GAN_NOTIFY_URL", "hooks.example:443/s3cret", "one of the form https://HOST/PATH"),
        ("GAN_WORK_DIR", __file__, "GAN_WORK_DIR is '.*test_deploy.py', which is no directory"),
        ("GAN_WORK_DIR", "~nobody-of-this-name/runs", "GAN_WORK_DIR is '~nobody-of-this-name/runs', which is no dir"),
        ("GAN_NOTIFY_URL", "https:///s3cret", "GAN_NOTIFY_URL is not a web address"),
        ("GAN_NOTIFY_URL", "https://hooks.example/s3cret\r", "GAN_NOTIFY_URL is not a web address"),
        ("GAN_NOTIFY_URL", "https://hooks.example:99999/s3cret", "GAN_NOTIFY_URL is not a web address"),
    ],
)
def test_a_wrong_variable_is_reported_before_anything_is_registered(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """No server is needed for that."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=message) as caught:
        main()
    assert "s3cret" not in str(caught.value)


def test_a_server_that_refuses_the_password_ends_the_deployment() -> None:
    settings = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}
    with (
        server(LOCKED) as address,
        temporary_settings({PREFECT_API_URL: f"{address}/api", **settings}),
        pytest.raises(ServerError, match="asks for a password"),
    ):
        main()


@pytest.mark.parametrize(("answer", "said"), [((403, "{}"), ".*403 Forbidden"), ((200, "<html>"), "Expecting value")])
def test_a_server_that_does_not_register_is_told_in_a_sentence(answer: tuple[int, str], said: str) -> None:
    refuses = HEALTHY | {"/api/admin/version": (200, '"3.0.0"'), f"/api/work_pools/{POOL}": answer}
    settings = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 30}
    with (
        server(refuses) as address,
        temporary_settings({PREFECT_API_URL: f"{address}/api", **settings}),
        pytest.raises(ServerError, match=f"^not everything is registered: {said}.*Run this again"),
    ):
        main()


def test_an_automation_that_was_disabled_stays_so(client: SyncPrefectClient) -> None:
    make_automations(client)
    (automation,) = client.read_automations_by_name(KILLED)
    client.pause_automation(automation.id)
    make_automations(client)
    assert [each.enabled for each in client.read_automations_by_name(KILLED)] == [False]
