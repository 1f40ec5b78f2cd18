"""Are the compose files and the credentials of the stack right, as far as this can be tested without Docker?"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from stack.bucket import policy
from stack.credentials import describe, main, make, read

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


def test_the_gpu_file_only_adds_a_gpu_to_the_worker() -> None:
    worker: dict[str, Any] = GPU["services"]["worker"]
    assert (set(GPU["services"]), set(worker)) == ({"worker"}, {"deploy", "environment"})


def test_every_variable_of_the_compose_files_is_explained() -> None:
    texts = [(ROOT / name).read_text() for name in ("docker-compose.yml", "docker-compose.gpu.yml")]
    used = {name for text in texts for name in VARIABLE.findall(text)} - {"VARIABLE"}
    example = (ROOT / ".env.example").read_text()
    assert set(re.findall(r"^#([A-Z_0-9]+)=", example, re.MULTILINE)) == used


def test_the_images_hold_versions_that_are_tested() -> None:
    tested = locked("requirements.lock")
    for name in ("requirements-app.lock", "requirements-tensorboard.lock"):
        versions = locked(name)
        assert versions
        assert {package: found for package, found in versions.items() if not found <= tested[package]} == {}
    assert not {"torch", "pytest"} & locked("requirements-tensorboard.lock").keys()
    assert not {"pytest", "ruff", "mypy", "playwright"} & locked("requirements-app.lock").keys()
