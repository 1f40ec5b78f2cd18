"""Does a setting that Prefect cannot use end a command in one sentence, which says where it is set?"""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import PREFECT_FLOWS_DEFAULT_RETRIES, PREFECT_TASKS_DEFAULT_RETRIES, temporary_settings

from flows.prefect_settings import check_settings, source_of
from gan.errors import SettingError
from tests.support.flow_command import run_gan_train

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, which is also Prefect's home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def refused() -> str:
    with pytest.raises(SettingError) as caught:
        check_settings()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PREFECT_API_REQUEST_TIMEOUT", "abc", "PREFECT_API_REQUEST_TIMEOUT is 'abc' (set in the environment): "),
        ("PREFECT_LOGGING_LEVEL", "verbose", "PREFECT_LOGGING_LEVEL is 'VERBOSE' (set in the environment): "),
        ("PREFECT_LOGGING_TO_API_BATCH_INTERVAL", "x", "PREFECT_LOGGING_TO_API_BATCH_INTERVAL is 'x'"),
        ("PREFECT_HOME", "~nobody-of-this-name", "Prefect's settings cannot be read: "),
        ("PREFECT_FLOW_DEFAULT_RETRIES", "x", "PREFECT_FLOW_DEFAULT_RETRIES is 'x' (set in the environment): "),
        ("PREFECT_SERVER_API_PORT", "http", "PREFECT_SERVER_API_PORT is 'http' (set in the environment): "),
        ("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "5", "Input should be greater than or equal to 30. Correct it"),
        ("PREFECT_RESULTS_PERSIST_BY_DEFAULT", "maybe", "PREFECT_RESULTS_PERSIST_BY_DEFAULT is 'maybe'"),
        ("PREFECT_CLIENT_CUSTOM_HEADERS", "{s3cret", "PREFECT_CLIENT_CUSTOM_HEADERS (set in the environment) "),
        ("PREFECT_API_REQUEST_TIMEOUT", "-1", "PREFECT_API_REQUEST_TIMEOUT (set in the environment) is not above 0"),
        ("PREFECT_HOME", __file__, "which is no folder that can be used (File exists). Set it to another one."),
        ("PREFECT_HOME", "/proc/nope", "PREFECT_HOME is '/proc/nope' (set in the environment), which is no folder"),
        ("PREFECT_API_URL", "http://there/api\r", "PREFECT_API_URL is 'http://there/api\\r' (set in the environment)"),
        ("PREFECT_API_URL", "127.0.0.1:4200/api", "it does not begin with http:// or https://"),
        ("PREFECT_API_URL", "http:///api", "it has no host"),
        ("PREFECT_API_URL", "http://there:99999/api", "Port out of range"),
        ("PREFECT_API_URL", "http://me:s3cret@there /api", "'http://***@there /api'"),
        ("PREFECT_API_KEY", "s3cret\r", "PREFECT_API_KEY (set in the environment) ends with a line end"),
        ("PREFECT_API_KEY", "s3crét", "PREFECT_API_KEY (set in the environment) has a character that cannot be sent"),
        ("PREFECT_API_AUTH_STRING", "me:s3cret\n", "PREFECT_API_AUTH_STRING (set in the environment) ends with a line"),
        (
            "ALL_PROXY",
            "socks5://me:s3cret@there:1080",
            "all_proxy is a proxy by socks5://, which Prefect's client does",
        ),
        ("https_proxy", "proxy://there", "or unset https_proxy for this command"),
        ("PREFECT_PROFILE", "nope", "PREFECT_PROFILE is 'nope'. There is no such profile; there are cloud, "),
    ],
)
def test_a_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    said = refused()
    assert message in said
    assert "s3cr" not in said


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("profiles.toml", b"[profiles.x\n", "profiles.toml is not TOML (Expected ']'"),
        ("profiles.toml", b"\xff\xfe", "profiles.toml is not TOML ('utf-8' codec can't decode"),
        ("profiles.toml", b"profiles = 3\n", "profiles.toml has no tables [profiles.NAME]"),
        ("profiles.toml", b"active = 'y'\n[profiles.x]\n", "profiles.toml is 'y'. There is no such profile"),
        (
            "profiles.toml",
            b"active = 'x'\n[profiles.x]\nPREFECT_API_REQUEST_TIMEOUT = 'abc'\n",
            "PREFECT_API_REQUEST_TIMEOUT is 'abc' (set in the profile 'x' in ",
        ),
        ("logging.yml", b"][", "logging.yml is not YAML. Correct it, or set PREFECT_LOGGING_CONFIG_PATH anew."),
        ("prefect.toml", b"[api\n", "prefect.toml is not TOML"),
        ("prefect.toml", b"[api]\nrequest_timeout = 'abc'\n", "is 'abc' (set in prefect.toml): "),
        ("pyproject.toml", b"[tool.prefect.api]\nrequest_timeout = 'abc'\n", "is 'abc' (set in pyproject.toml): "),
        (".env", b"PREFECT_API_REQUEST_TIMEOUT=abc\n", "is 'abc' (set in .env): "),
    ],
)
def test_a_file_is_named(folder: Path, file: str, content: bytes, message: str) -> None:
    (folder / file).write_bytes(content)
    assert message in refused()


def test_a_profile_that_is_a_folder(folder: Path) -> None:
    (folder / "profiles.toml").mkdir()
    assert "profiles.toml cannot be read (Is a directory)" in refused()


def test_usable_settings_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "profiles.toml").write_text("active = 'x'\n[profiles.x]\nPREFECT_API_URL = 'http://127.0.0.1:1/api'\n")
    check_settings()
    assert source_of("PREFECT_API_URL") == f"the profile 'x' in {folder}/profiles.toml"
    monkeypatch.setenv("PREFECT_API_URL", "")
    check_settings()
    assert source_of("PREFECT_API_URL") == "the environment"


def test_gan_train_ends_with_2(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_PROFILE", "nope")
    done = run_gan_train(folder, "http://127.0.0.1:9/api", "--num-steps", "60")
    assert done.returncode == 2
    assert re.fullmatch(r"error: PREFECT_PROFILE is 'nope'\. .*\n", done.stderr)


def test_the_worker_ends_with_2_before_it_imports_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_REQUEST_TIMEOUT", "abc")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = subprocess.run([sys.executable, "-m", "flows.worker"], capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: PREFECT_API_REQUEST_TIMEOUT is 'abc' .*\n", done.stderr)


def test_retries_in_prefects_settings_do_not_count() -> None:
    with temporary_settings({PREFECT_FLOWS_DEFAULT_RETRIES: 1, PREFECT_TASKS_DEFAULT_RETRIES: 1}):
        flow = runpy.run_path(str(ROOT / "flows/gan_train.py"))["gan_train"]
        tasks = {**runpy.run_path(str(ROOT / "flows/tasks.py")), **runpy.run_path(str(ROOT / "flows/data_tasks.py"))}
    assert flow.retries == tasks["validate_mnist"].retries == tasks["render_report"].retries == 0
