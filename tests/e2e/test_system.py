"""Does the stack do what README says, for who starts it and trains with it?"""

import json
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prefect.client.schemas.actions import ArtifactCreate, DeploymentScheduleCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from websockets.sync.client import connect

from stack import backup
from tests.e2e.discs import import_discs
from tests.e2e.stack import BUCKET, FINAL, PROJECT, ROOT, SERVICES, Receiver, Stack, docker, is_in_layers, wait_for

pytestmark = pytest.mark.e2e

IMAGES = tuple(f"{name}:{PROJECT}" for name in ("gan-train", "gan-train-minio", "gan-train-tensorboard"))
SHORT = {"num_steps": 600, "snapshot_steps": 200}


@pytest.fixture(scope="module")
def run(stack: Stack) -> FlowRun:
    """Train a short run from the command line, as README says, and wait for its end."""
    config = f"config={json.dumps(SHORT)}"
    stack.exec("worker", "prefect", "deployment", "run", "gan-train/default", "--watch", "--param", config)
    with stack.prefect() as client:
        (found,) = [run for run in client.read_flow_runs() if run.parameters == {"config": SHORT}]
    return found


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = [stack.container(service) for service in SERVICES]
    secrets = stack.secrets()

    stack.up()

    assert [stack.container(service) for service in SERVICES] == before
    assert stack.secrets() == secrets


def test_a_run_from_the_command_line_is_in_the_bucket_to_the_byte(stack: Stack, run: FlowRun) -> None:
    assert stack.states(run)[-1] == "Completed"

    verdict = stack.gan("verify", stack.address(run))

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr
    assert set(stack.manifest(run)) >= {"losses.npz", "grids/step-000200.png", "checkpoints/step-000600.safetensors"}


@pytest.mark.clone
def test_a_run_names_the_commit_of_the_checkout(stack: Stack, run: FlowRun) -> None:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "gan", "flows", "stack", "prefect.yaml")
    provenance = stack.s3().get_object(Bucket=BUCKET, Key=f"runs/{run.id}/provenance.json")["Body"].read()
    assert json.loads(provenance)["git_commit"] == git("rev-parse", "HEAD") + ("-dirty" if changed else "")


def test_an_event_keeps_letters_of_every_language(stack: Stack) -> None:
    letters = "é 字 😀"
    with stack.prefect() as client:
        client.create_artifact(ArtifactCreate(key="letters", type="markdown", description=letters, data="-"))
        query = {"filter": {"event": {"name": ["prefect.artifact.created"]}}}

        def kept() -> bool:
            return letters in str(client.request("POST", "/events/filter", json=query).json())

        wait_for(kept, 30, "the event")
    assert stack.exec("postgres", "psql", "-U", "prefect", "-Atc", "SHOW server_encoding").strip() == "UTF8"


def test_nothing_names_an_address_that_nobody_can_open(stack: Stack) -> None:
    printed = stack.logs("prefect-server") + stack.logs("deploy") + stack.logs("worker")
    assert "0.0.0.0" not in printed
    assert f"Prefect's UI: {stack.prefect_url}" in printed


def test_the_health_of_the_worker_is_served_in_its_container_alone(stack: Stack) -> None:
    sockets = stack.exec("worker", "cat", "/proc/net/tcp", "/proc/net/tcp6")
    assert re.findall(r": (\S+):1F90 \S+ 0A", sockets) == ["0100007F"]  # who listens on port 8080: 127.0.0.1


def test_tensorboard_shows_both_losses_and_every_grid(stack: Stack, run: FlowRun) -> None:
    def has(plugin: str) -> dict[str, dict[str, object]]:
        found: dict[str, dict[str, object]] = httpx.get(f"{stack.tensorboard_url}/data/plugin/{plugin}/tags").json()
        return found

    name = f"{run.id}/tensorboard"
    wait_for(lambda: name in has("scalars"), 60, "the run in TensorBoard")
    assert {"g_loss", "d_loss"} <= set(has("scalars")[name])
    query: dict[str, str | int] = {"run": name, "tag": "samples", "sample": 0}
    grids = httpx.get(f"{stack.tensorboard_url}/data/plugin/images/images", params=query).json()
    assert [grid["step"] for grid in grids] == [200, 400, 600]


def test_the_report_link_opens_without_credentials(stack: Stack, run: FlowRun) -> None:
    with stack.prefect() as client:
        (shown,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["gan-train-report"])), limit=1
        )
    made_anew = stack.gan("report", "--link", stack.address(run)).stdout.strip()

    for link in (re.search(r"\((http[^)]+)\)", str(shown.data))[1], made_anew):  # type: ignore[index]
        page = httpx.get(link)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html")
        assert "600" in page.text


def test_a_scheduled_run_takes_its_seed_from_its_time(stack: Stack) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=30)  # new schedules are looked for every 10 s
    daily = IntervalSchedule(interval=timedelta(days=1), anchor_date=at)
    with stack.prefect() as client:
        nightly = client.read_deployment_by_name("gan-train/nightly")
        extra = DeploymentScheduleCreate(schedule=daily, active=True, parameters={"config": SHORT}, slug="test")
        (schedule,) = client.create_deployment_schedules(nightly.id, [extra])
        try:
            run = wait_for(lambda: _scheduled(stack, nightly.id, at), 75, "a scheduled run")
            stack.finish(run)
        finally:
            client.delete_deployment_schedule(nightly.id, schedule.id)

    config = json.loads(stack.s3().get_object(Bucket=BUCKET, Key=f"runs/{run.id}/config.json")["Body"].read())
    assert config["seed"] == int(f"{at:%Y%m%d%H%M}")


def test_one_training_at_a_time_the_other_waits_and_is_told_of(stack: Stack, receiver: Receiver) -> None:
    import_discs(stack, "waiting")
    discs = {"data": "waiting", "snapshot_steps": 300}  # no judge: to measure a run takes longer than to train it
    first, second = stack.run(**discs, num_steps=600), stack.run("nightly", **discs, num_steps=300)
    most, states = 0, [first.state_type, second.state_type]
    with stack.prefect() as client:
        while states[1] not in FINAL:
            most = max(most, stack.trainers())
            states = [client.read_flow_run(each.id).state_type for each in (first, second)]
            assert states != ["RUNNING", "RUNNING"]
            time.sleep(1)

    assert most == 1
    stack.finish(first)
    stack.finish(second)
    late = f"gan-train nightly run {second.name} has not started: is a worker running?"  # its name before it trained
    assert late in [told["text"] for told in receiver.received]


def test_a_failed_nightly_run_is_told(stack: Stack, receiver: Receiver) -> None:
    run = stack.run("nightly", num_steps=100, data="nothing")

    failed = f"gan-train nightly run {run.name} failed: "
    wait_for(lambda: [told for told in receiver.received if told["text"].startswith(failed)], 120, "a notification")

    assert stack.states(run)[-1] == "Failed"


def test_who_does_not_sign_in_gets_nothing(stack: Stack) -> None:
    for path in ("/api/flow_runs/filter", "/api/artifacts/filter", "/api/block_documents/filter"):
        assert httpx.post(f"{stack.prefect_url}{path}", json={}).status_code == 401
    assert httpx.get(f"{stack.prefect_url}/api/admin/settings").status_code == 401
    for path in (f"/{BUCKET}", f"/{BUCKET}/runs", "/"):
        assert httpx.get(f"{stack.minio_url}{path}").status_code == 403
    for path in ("/api/events/in", "/api/events/out", "/api/logs/out"):
        with connect(f"{stack.prefect_url.replace('http', 'ws', 1)}{path}", subprotocols=["prefect"]) as socket:  # type: ignore[list-item]
            socket.send(json.dumps({"type": "auth", "token": "wrong"}))
            with pytest.raises(Exception, match="1008"):
                socket.recv(timeout=10)
                socket.recv(timeout=10)


def test_no_credential_is_where_it_does_not_belong(stack: Stack, run: FlowRun) -> None:
    secrets = [secret.encode() for secret in stack.secrets().values()]
    seen = {service: stack.logs(service).encode() for service in (*SERVICES, "secrets", "bucket", "deploy")}
    with stack.prefect() as client:
        seen["artifacts"] = str([each.data for each in client.read_artifacts()]).encode()
        seen["logs"] = str([each.message for each in client.read_logs()]).encode()
    s3 = stack.s3()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for each in page["Contents"]:
            if not each["Key"].endswith(".safetensors"):
                seen[each["Key"]] = s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
    for image in IMAGES:
        seen[image] = docker("history", "--no-trunc", image).encode()

    assert [where for where, content in seen.items() for secret in secrets if secret in content] == []
    assert len(seen) > 20


@pytest.mark.long
@pytest.mark.parametrize("image", IMAGES)
def test_no_credential_is_in_an_image(stack: Stack, image: str) -> None:
    secrets = [secret.encode() for secret in stack.secrets().values()]

    assert not is_in_layers(image, secrets)
    assert is_in_layers(image, [b"ca-certificates"])  # the search finds what is there


@pytest.mark.parametrize("service", SERVICES)
def test_a_container_may_do_no_more_than_it_must(stack: Stack, service: str) -> None:
    status = stack.exec(service, "cat", "/proc/1/status")
    found = dict(line.split(":\t", 1) for line in status.splitlines())

    assert "0" not in found["Uid"].split()
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == 0
    assert found["NoNewPrivs"] == "1"
    assert " / overlay ro," in stack.exec(service, "cat", "/proc/mounts")
    with pytest.raises(AssertionError):
        stack.exec(service, "touch", "/written")
    ports = json.loads(docker("inspect", stack.container(service)))[0]["NetworkSettings"]["Ports"]
    assert {each["HostIp"] for bound in ports.values() for each in bound or ()} <= {"127.0.0.1"}


def test_down_and_up_keep_everything(stack: Stack, run: FlowRun) -> None:
    with stack.prefect() as client:
        nightly = client.read_deployment_by_name("gan-train/nightly")
        (schedule,) = nightly.schedules
        client.update_deployment_schedule(nightly.id, schedule.id, active=False)
    secrets, files = stack.secrets(), stack.manifest(run)

    stack.compose("down")
    assert docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}") == ""
    stack.up()

    assert stack.secrets() == secrets
    assert stack.manifest(run) == files
    assert stack.states(run)[-1] == "Completed"
    with stack.prefect() as client:
        (schedule,) = client.read_deployment_by_name("gan-train/nightly").schedules
        assert not schedule.active
        client.update_deployment_schedule(nightly.id, schedule.id, active=True)


def test_a_backup_is_restored_to_a_stack_that_has_nothing(
    stack: Stack, run: FlowRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    secrets, files = stack.secrets(), stack.manifest(run)

    backup.main(["save", str(tmp_path / "monday")])
    assert stack.states(run)[-1] == "Completed"  # it has been started again
    with pytest.raises(SystemExit, match="this stack has data"):
        backup.main(["restore", str(tmp_path / "monday")])
    stack.compose("down", "--volumes")
    backup.main(["restore", str(tmp_path / "monday")])
    stack.up()

    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "monday").iterdir()} == {0o600}
    assert stack.secrets() == secrets
    assert stack.manifest(run) == files
    assert stack.states(run)[-1] == "Completed"
    assert stack.trainers() == 0


def _scheduled(stack: Stack, deployment: object, at: datetime) -> FlowRun | None:
    with stack.prefect() as client:
        runs = client.read_flow_runs(limit=200)
    found = [run for run in runs if run.deployment_id == deployment and run.expected_start_time == at]
    return found[0] if found else None
