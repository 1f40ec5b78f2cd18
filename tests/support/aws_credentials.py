"""How does a test make credentials fail, and read the error?"""

import json
import logging
import stat
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from gan.errors import StorageError
from gan.storage.address import open_store
from tests.support.s3_server import S3Server, free_ports

CANARY = "canary-0123456789"  # stands for each secret
Explain = Callable[[], str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder, and lead boto3 to an endpoint that is down, without credentials."""
    server = S3Server("none", free_ports(1)[0], tmp_path)
    server.use(monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 1)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "token").write_text(CANARY)
    (tmp_path / "two-lines").write_text(f"{CANARY}\n\nx")
    return tmp_path


def use_profile(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (folder / "config").write_text(f"[default]\n{text}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))


def helper(folder: Path, output: str, code: int = 0) -> str:
    """Return the path of a program that prints a text, as `credential_process` names one."""
    (folder / "output").write_text(output)
    path = folder / "helper"
    path.write_text(f"#!/bin/sh\ncat {folder}/output\ncat {folder}/output >&2\nexit {code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def process_output(**more: str) -> str:
    return json.dumps({"Version": 1, "AccessKeyId": CANARY, "SecretAccessKey": CANARY, **more})


@pytest.fixture
def explain(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Explain:
    """Return a function that reads an object and returns the message of the error."""

    def explanation() -> str:
        with pytest.raises(StorageError) as caught:
            open_store("s3://gan").read("runs/a/config.json")
        shown = "".join(traceback.format_exception(caught.value))
        assert CANARY[:6] not in f"{shown}{''.join(capfd.readouterr())}{caplog.text}"
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return explanation
