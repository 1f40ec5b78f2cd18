"""Is a secret never printed, in any form, wherever it comes from?"""

import html
import json
from collections import deque
from pathlib import Path
from urllib.parse import quote

import pytest

from gan.storage.masking import cause_without_secrets, masked, masked_url, remember
from tests.support.aws_credentials import CANARY, Explain, helper, process_output, use_profile
from tests.support.aws_credentials import explain as explain
from tests.support.aws_credentials import folder as folder
from tests.support.command import run_gan
from tests.support.mirror_server import Handler, MirrorServer


@pytest.mark.parametrize(
    "secret", ["canary", "canary\r\n", " canary", 'can"ary/+=', "can&ary@host?x", "can\nary", "canäry"]
)
@pytest.mark.parametrize(
    "write", [str, repr, str.strip, json.dumps, quote, html.escape, lambda text: repr(text.encode())]
)
@pytest.mark.parametrize("remembered", [False, True])
def test_no_form_of_a_secret_is_left(
    monkeypatch: pytest.MonkeyPatch, secret: str, write: object, remembered: bool
) -> None:
    if remembered:
        monkeypatch.setattr("gan.storage.masking._used", deque())
        remember(secret)
    else:
        monkeypatch.setenv("AWS_SESSION_TOKEN", secret)
    assert callable(write)
    shown = masked(f"the header <{write(secret)}> is refused")
    assert "***" in shown and "can" not in shown and "ary" not in shown
    assert shown.startswith("the header <") and shown.endswith("> is refused")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:canary@host:9/a", "http://***@host:9/a"),
        ("http://me:can/a?r#y@host:9", "http://***@host:9"),
        ("me:canary@host", "***@host"),
        ("http://me:can ary@host", "http://***@host"),
        ("http://host/a?token=canary", "http://host/a?***"),
        ("http://host/a#canary", "http://host/a#***"),
        ("http://host:9000", "http://host:9000"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert masked_url(url) == shown
    if "//" in url and " " not in url:
        assert masked(f'cannot open "{url}".') == f'cannot open "{shown}".'


def test_a_cause_with_a_secret_in_its_chain_is_dropped() -> None:
    remember("canary-in-a-chain")
    good, bad = ValueError("plain"), ValueError("outer")
    bad.__cause__ = ValueError("Invalid header value b'canary-in-a-chain\\n'")
    assert cause_without_secrets(good) is good
    assert cause_without_secrets(bad) is None


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize(
    "name",
    [
        "AWS_SESSION_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SECURITY_TOKEN",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
    ],
)
def test_a_variable_that_ends_with_a_line_end_is_named_and_not_printed(folder: Path, name: str, end: str) -> None:
    secret = f"http://me:{CANARY}@127.0.0.1:9" if "ENDPOINT" in name else CANARY
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    ended = run_gan(folder, "verify", "s3://gan/runs/mine", **(keys | {name: secret + end}))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"error: {name} ends with a line end. Set it again, or unset it.\n"


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", " ", "\x00", "ä"])
@pytest.mark.parametrize("part", ["AccessKeyId", "SecretAccessKey", "SessionToken"])
def test_what_a_process_prints_is_checked_and_not_printed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    explain: Explain,
    part: str,
    end: str,
) -> None:
    use_profile(
        folder,
        monkeypatch,
        f"credential_process = {helper(folder, process_output(**{'SessionToken': 't', part: CANARY + end}))}",
    )
    name = {"AccessKeyId": "access key id", "SecretAccessKey": "secret access key", "SessionToken": "session token"}[
        part
    ]
    assert explain().startswith(f"s3://gan cannot be used: the {name} of credential_process of the profile ")


@pytest.mark.parametrize("part", ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"])
def test_two_lines_in_a_profile_are_not_printed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    explain: Explain,
    part: str,
) -> None:
    values = {"aws_access_key_id": "k", "aws_secret_access_key": "s"} | {part: f"{CANARY}\n  {CANARY}"}
    use_profile(folder, monkeypatch, "\n".join(f"{name} = {value}" for name, value in values.items()))
    assert "of the profile has a control character in it. Correct it in AWS_SHARED" in explain()


@pytest.mark.parametrize("source", ["variables", "profile", "process"])
def test_a_server_that_repeats_the_secret_does_not_get_it_printed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    explain: Explain,
    mirror: MirrorServer,
    source: str,
) -> None:
    if source == "process":
        use_profile(folder, monkeypatch, f"credential_process = {helper(folder, process_output(SessionToken=CANARY))}")
    else:
        names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        for name in names if source == "variables" else ():
            monkeypatch.setenv(name.upper(), CANARY)
        use_profile(folder, monkeypatch, "\n".join(f"{name} = {CANARY}" for name in names))
    mirror.answers["gan/runs/a/config.json"] = repeat_the_token
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", mirror.url)
    assert "the store does not accept the credentials (InvalidToken: *** is wrong)" in explain()


def repeat_the_token(handler: Handler) -> None:
    token = handler.headers["X-Amz-Security-Token"]
    text = f"<Error><Code>InvalidToken</Code><Message>{token} is wrong</Message></Error>".encode()
    handler.head(400, Content_Length=len(text))
    handler.wfile.write(text)


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        (f"http://me:{CANARY} {CANARY}@127.0.0.1:9", " at http://***@127.0.0.1:9 cannot be read"),
        (f"http://me:{CANARY}/x@127.0.0.1:9", " at http://***@127.0.0.1:9 cannot be read"),
        (f"http://127.0.0.1:9?token={CANARY}", " at http://127.0.0.1:9?*** cannot be read"),
        (
            f"me:{CANARY}@127.0.0.1:9",
            "Invalid endpoint: ***@127.0.0.1:9. Correct AWS_ENDPOINT_URL_S3, or the profile's",
        ),
    ],
)
def test_an_endpoint_is_shown_without_its_secrets(
    folder: Path, monkeypatch: pytest.MonkeyPatch, explain: Explain, endpoint: str, sentence: str
) -> None:
    use_profile(
        folder, monkeypatch, f"endpoint_url = {endpoint}\naws_access_key_id = k\naws_secret_access_key = {CANARY}"
    )
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert sentence in explain()


@pytest.mark.parametrize("scheme", ["s3", "https"])
def test_a_password_in_the_address_of_a_store_is_not_printed(tmp_path: Path, scheme: str) -> None:
    ended = run_gan(tmp_path, "verify", f"{scheme}://me:{CANARY}@bucket/runs/mine")
    assert ended.returncode == 1 and ended.stderr.startswith(f"error: {scheme}://***@bucket/runs/mine ")
