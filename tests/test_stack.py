"""Are the compose files and the credentials of the stack right, as far as this can be tested without Docker?"""

import json
import os
import re
import socket
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gan.errors import GanError
from stack import backup, ports
from stack.bucket import READ_BUCKET, READ_OBJECTS, policy
from stack.bucket import main as bucket_main
from stack.credentials import check_addresses, describe, main, make, read

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GPU = yaml.safe_load((ROOT / "docker-compose.gpu.yml").read_text())
SERVICES = COMPOSE["services"]
ONCE = {"secrets", "bucket", "deploy"}
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+):?-?")


def modes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): f"{path.stat().st_mode & 0o777:o}" for path in root.rglob("*") if path.is_file()
    }


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def locked(name: str) -> dict[str, set[str]]:
    """Return the versions in a lock file, by package."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==(\S+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


def test_each_service_gets_only_its_own_files(tmp_path: Path) -> None:
    make(tmp_path)
    assert modes(tmp_path) == {
        "all/credentials.json": "400",
        "postgres/password": "444",
        "minio/user": "400",
        "minio/password": "400",
        "app/credentials": "400",
        "server/profiles.toml": "400",
        "client/profiles.toml": "400",
    }


def test_credentials_are_made_once(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    make(tmp_path)
    assert contents(tmp_path) == before


def test_two_stacks_have_different_credentials(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    first, second = (json.loads((tmp_path / name / "all/credentials.json").read_text()) for name in "ab")
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())
    assert [value for value in first.values() if not re.fullmatch("[0-9a-f]{32}", value)] == []


def test_a_lost_volume_is_filled_again_with_the_same_credentials(tmp_path: Path) -> None:
    make(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "app/credentials").unlink()
    (tmp_path / "client/profiles.toml").unlink()
    make(tmp_path)
    assert contents(tmp_path) == before


def test_no_service_reads_a_secret_of_another(tmp_path: Path) -> None:
    make(tmp_path)
    known = read(tmp_path)
    client = (tmp_path / "client/profiles.toml").read_text()
    assert tomllib.loads(client)["profiles"]["stack"]["PREFECT_API_AUTH_STRING"] == f"admin:{known.prefect_password}"
    for name in ("app", "client"):
        seen = "".join(path.read_text() for path in (tmp_path / name).iterdir())
        assert known.postgres_password not in seen
        assert known.minio_root_password not in seen


def test_make_prints_nothing_and_show_prints_all_credentials(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["--root", str(tmp_path), "make"]).output == ""
    env = {"PREFECT_PUBLIC_URL": "http://p", "S3_PUBLIC_ENDPOINT_URL": "http://s", "AWS_DEFAULT_REGION": "here"}
    shown = CliRunner().invoke(main, ["--root", str(tmp_path), "show"], env=env).output
    assert [value for value in vars(read(tmp_path)).values() if value not in shown] == []


def test_the_shown_lines_set_up_a_client_of_the_stack(tmp_path: Path) -> None:
    make(tmp_path)
    lines = describe(read(tmp_path), "http://127.0.0.1:4200", "http://127.0.0.1:9000", "us-east-1").splitlines()
    assert "export PREFECT_API_URL=http://127.0.0.1:4200/api" in lines
    assert f"export PREFECT_API_AUTH_STRING=admin:{read(tmp_path).prefect_password}" in lines


def test_credentials_do_not_show_in_a_repr(tmp_path: Path) -> None:
    make(tmp_path)
    assert read(tmp_path).prefect_password not in repr(read(tmp_path))


def test_without_credentials_it_says_what_to_do(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["--root", str(tmp_path), "show"])
    assert (shown.exit_code, shown.exception.__class__) == (1, SystemExit)
    assert shown.output.endswith("no credentials yet. Start the stack first: docker compose up -d --wait\n")


def test_the_app_may_use_only_its_own_bucket() -> None:
    resources = {name for statement in policy("digits")["Statement"] for name in statement["Resource"]}
    actions = {name for statement in policy("digits")["Statement"] for name in statement["Action"]}
    assert resources == {"arn:aws:s3:::digits", "arn:aws:s3:::digits/*"}
    assert not [action for action in actions if "*" in action]


def test_a_reader_of_the_bucket_changes_nothing_in_it() -> None:
    actions = {name for rule in policy("digits", READ_BUCKET, READ_OBJECTS)["Statement"] for name in rule["Action"]}
    assert actions == {"s3:GetBucketLocation", "s3:ListBucket", "s3:GetObject"}


@pytest.mark.parametrize("name", ["gan-train", "minio-root", "ad", "a" * 21, "ada lovelace", "ada/x", "$(id)", "-x1"])
def test_the_name_of_a_person_is_checked_before_minio_is_asked(name: str) -> None:
    done = CliRunner().invoke(bucket_main, ["add", "--", name])
    assert (done.exit_code, "a name has 3 to 20 letters and digits" in done.output) == (2, True)


@pytest.mark.parametrize("address", ["http://0.0.0.0:4200", "http://[::]:9000", "https://0.0.0.0"])
def test_an_address_that_no_browser_can_open_is_refused_with_what_to_set(address: str) -> None:
    with pytest.raises(GanError, match=r"^BIND_ADDRESS is \S+: .* Set PUBLIC_HOST in \.env to the name"):
        check_addresses({"PREFECT_PUBLIC_URL": address})


@pytest.mark.parametrize("address", ["", "gan.example.org:4200", "ftp://gan", "http://[::1", "https://"])
def test_an_address_that_is_none_names_its_variable(address: str) -> None:
    with pytest.raises(GanError, match=r"^S3_PUBLIC_ENDPOINT_URL is "):
        check_addresses({"PREFECT_PUBLIC_URL": "http://127.0.0.1:4200", "S3_PUBLIC_ENDPOINT_URL": address})


def test_the_addresses_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    env = {"PREFECT_PUBLIC_URL": "http://0.0.0.0:4200"}
    done = CliRunner().invoke(main, ["--root", str(tmp_path), "make"], env=env)
    assert (done.exit_code, modes(tmp_path)) == (1, {})
    assert "Set PUBLIC_HOST" in done.output


def test_every_address_for_people_follows_the_bind_address_and_the_public_host() -> None:
    host = "http://${PUBLIC_HOST:-${BIND_ADDRESS:-127.0.0.1}}"
    expected = {
        "PREFECT_UI_URL": f"${{PREFECT_PUBLIC_URL:-{host}:${{PREFECT_PORT:-4200}}}}",
        "PREFECT_PUBLIC_URL": f"${{PREFECT_PUBLIC_URL:-{host}:${{PREFECT_PORT:-4200}}}}",
        "S3_PUBLIC_ENDPOINT_URL": f"${{S3_PUBLIC_ENDPOINT_URL:-{host}:${{MINIO_PORT:-9000}}}}",
    }
    given = [item for service in SERVICES.values() for item in service.get("environment", {}).items()]
    assert [(name, value) for name, value in given if expected.get(name, value) != value] == []
    assert {name for name, value in given if "127.0.0.1" in str(value)} == expected.keys()


def test_each_image_is_built_once_and_named_after_the_project() -> None:
    built = [service["image"] for service in SERVICES.values() if "build" in service]
    tag = "${GAN_TAG:-${COMPOSE_PROJECT_NAME:-local}}"
    assert sorted(built) == [f"gan-train-minio:{tag}", f"gan-train-tensorboard:{tag}", f"gan-train:{tag}"]
    assert {service["image"] for service in SERVICES.values()} - {*built} == {SERVICES["postgres"]["image"]}
    assert "name" not in COMPOSE  # so a second checkout does not take over the stack of the first


def published(host: str, number: int, target: int = 4200) -> dict[str, Any]:
    """Return a part of what `docker compose config` prints."""
    return {"services": {"one": {"ports": [{"host_ip": host, "published": str(number), "target": target}]}, "two": {}}}


@pytest.mark.parametrize("target", ports.VARIABLES)
def test_a_taken_port_names_its_variable(target: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        [line] = ports.problems(published("127.0.0.1", number, target), set())
        assert ports.problems(published("127.0.0.1", number, target), {"one"}) == []  # the stack itself has it
    variable = ports.VARIABLES[target]
    assert line == f"port {number} is taken by another program. Set {variable} in .env to a free port."
    assert ports.problems(published("127.0.0.1", number, target), set()) == []


def test_an_address_of_another_machine_names_its_variable() -> None:
    [line] = ports.problems(published("192.0.2.1", 4200), set())
    assert line == "this machine does not have the address 192.0.2.1. Correct BIND_ADDRESS in .env."


def test_every_published_port_has_its_variable() -> None:
    given = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert {int(port.rpartition(":")[2]): VARIABLE.findall(port)[1] for port in given} == ports.VARIABLES


def test_every_volume_is_saved_or_made_anew_at_each_start() -> None:
    made_anew = {name for name in COMPOSE["volumes"] if name.startswith("credentials-")} | {"postgres-socket"}
    assert {*backup.VOLUMES} | made_anew == COMPOSE["volumes"].keys()


def test_a_folder_that_exists_is_not_overwritten_by_a_backup(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=f"^Error: {tmp_path} exists already. Name a new folder.$"):
        backup.main(["save", str(tmp_path)])


def test_a_folder_without_every_file_is_not_restored(tmp_path: Path) -> None:
    for name in backup.VOLUMES[:-1]:
        (tmp_path / f"{name}.tgz").touch()
    with pytest.raises(SystemExit, match=f"^Error: {tmp_path}/runs.tgz is missing: this is no backup of the stack.$"):
        backup.main(["restore", str(tmp_path)])


def test_the_database_keeps_utf8_in_every_image() -> None:
    environment = SERVICES["postgres"]["environment"]
    assert (environment["POSTGRES_INITDB_ARGS"], environment["LC_ALL"]) == ("--encoding=UTF8", "C.UTF-8")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_right_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert (service["init"], service["read_only"], service["cap_drop"]) == (True, True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == ("postgres" if name == "postgres" else "1000:1000")
    assert service["mem_limit"] and service["pids_limit"] and service["logging"]["options"]["max-size"]
    assert not {"cap_add", "privileged"} & service.keys()


@pytest.mark.parametrize("name", [name for name in SERVICES if "ports" in SERVICES[name]])
def test_ports_are_published_on_the_loopback_address(name: str) -> None:
    for port in SERVICES[name]["ports"]:
        assert re.fullmatch(r"\$\{BIND_ADDRESS:-127\.0\.0\.1\}:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port)


def test_which_services_can_connect_to_the_database_and_the_store() -> None:
    inside: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for network in service.get("networks", []):
            inside.setdefault(network, set()).add(name)
    assert inside == {
        "database": {"postgres", "prefect-server"},
        "api": {"prefect-server", "deploy", "worker"},
        "store": {"minio", "bucket", "worker"},
        "curves": {"tensorboard"},
    }


def test_which_service_reads_which_credentials() -> None:
    readers: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, _, mode = volume.partition(":")[0], *volume.rpartition(":")[1:]
            if source.startswith("credentials"):
                assert (mode == "ro") == (name != "secrets")
                readers.setdefault(source, set()).add(name)
    assert {source: names - {"secrets"} for source, names in readers.items()} == {
        "credentials": set(),
        "credentials-postgres": {"postgres"},
        "credentials-minio": {"minio", "bucket"},
        "credentials-app": {"bucket", "worker"},
        "credentials-server": {"prefect-server"},
        "credentials-client": {"deploy", "worker"},
    }


def test_the_worker_waits_for_every_service_that_ends() -> None:
    assert set(SERVICES["worker"]["depends_on"]) == ONCE  # a service that ends and is waited for by none fails `--wait`
    assert {name for name, service in SERVICES.items() if service["restart"] != "unless-stopped"} == ONCE


def compose_config(*files: str, **environment: str) -> dict[str, Any]:
    """Return what `docker compose config` makes of these files. It needs no Docker engine."""
    words = ["docker", "compose", *(word for file in files for word in ("-f", file)), "config", "--format", "json"]
    shown = subprocess.run(words, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, check=True)
    return dict(json.loads(shown.stdout))


@pytest.mark.compose
def test_the_gpu_file_only_adds_a_gpu_to_the_worker_and_cuda_to_the_image() -> None:
    plain = compose_config("docker-compose.yml")
    on_gpu = compose_config("docker-compose.yml", "docker-compose.gpu.yml", GPU_DEVICE="1")
    worker = on_gpu["services"]["worker"]
    devices = worker.pop("deploy")["resources"]["reservations"].pop("devices")
    assert devices == [{"driver": "nvidia", "device_ids": ["1"], "capabilities": ["gpu"]}]
    assert worker["environment"].pop("NVIDIA_DRIVER_CAPABILITIES") == "compute,utility"  # of the driver's libraries
    del on_gpu["x-gpu-app"]
    built = on_gpu["services"]["secrets"]["build"]["args"]
    assert (built["DEVICE"], built["TORCH_INDEX_URL"]) == ("gpu", "")
    built["DEVICE"] = "cpu"
    for service in on_gpu["services"].values():
        service["image"] = service["image"].replace("gan-train-gpu:", "gan-train:")  # of all that have the same code
    assert on_gpu == plain


def test_the_gpu_file_has_no_more_than_a_device_and_an_image() -> None:
    """What can be read without Docker's own reading."""
    services: dict[str, Any] = GPU["services"]
    worker = services["worker"]
    image = SERVICES["worker"]["image"]
    assert set(services) == {name for name, service in SERVICES.items() if service["image"] == image}
    assert {service["image"] for service in services.values()} == {image.replace("train:", "train-gpu:")}
    assert services["secrets"]["build"] == {"args": {"DEVICE": "gpu", "TORCH_INDEX_URL": ""}}
    assert set(worker) == {"image", "deploy", "environment"}
    assert set(worker["deploy"]) == {"resources"} and set(worker["deploy"]["resources"]) == {"reservations"}
    assert set(worker["environment"]) == {"NVIDIA_DRIVER_CAPABILITIES"}


def test_every_variable_of_the_compose_files_is_explained() -> None:
    texts = [(ROOT / name).read_text() for name in ("docker-compose.yml", "docker-compose.gpu.yml")]
    used = {name for text in texts for name in VARIABLE.findall(text)} - {"VARIABLE"}
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#([A-Z_0-9]+)=", example, re.MULTILINE)) == used


def test_the_images_hold_versions_that_are_tested() -> None:
    tested = locked("requirements.lock")
    for name in ("requirements-app.lock", "requirements-tensorboard.lock", "requirements-uv.lock"):
        versions = locked(name)
        assert versions
        assert {package: found for package, found in versions.items() if not found <= tested[package]} == {}
    assert not {"torch", "pytest"} & locked("requirements-tensorboard.lock").keys()
    assert not {"pytest", "ruff", "mypy", "playwright"} & locked("requirements-app.lock").keys()
