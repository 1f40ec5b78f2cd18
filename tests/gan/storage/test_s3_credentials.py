"""Does an error of credentials say its cause in one sentence, without a secret?"""

import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gan.errors import StorageError
from gan.storage.address import open_store
from gan.sync.lease import Timing, hold
from gan.sync.stored_run import StoredRun
from gan.sync.uploader import uploading
from tests.support.aws_credentials import CANARY, Explain, helper, process_output, use_profile
from tests.support.aws_credentials import explain as explain
from tests.support.aws_credentials import folder as folder
from tests.support.mirror_server import MirrorServer, status
from tests.support.s3_server import ADMIN, S3Server, new_address
from tests.support.spooled_run import SpooledRun

ROLE = "arn:aws:iam::123456789012:role/a"
SSO = "sso_account_id = 123456789012\nsso_role_name = r\n"
SSO_SESSION = f"sso_session = s\n{SSO}[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x.example/start"
PROCESS = "credential_process of the profile gives no credentials"


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("credential_process = /no/helper x", f"{PROCESS} (No such file or directory: /no/helper). Correct it in AWS"),
        ("credential_process = {folder} x", f"{PROCESS} (Permission denied: {{folder}})"),
        ("credential_process = 'x", PROCESS),
        ("credential_process =", PROCESS),
        (SSO_SESSION, "single sign-on gives no credentials (Error loading SSO Token: Token for s does not exist)"),
        (f"{SSO}sso_region = eu-west-1\nsso_start_url = https://x.example/start", "Log in with `aws sso login`"),
        (f"{SSO}sso_session = s", 'The specified sso-session does not exist: "s"'),
        (f"role_arn = {ROLE}\nsource_profile = nobody", 'The source_profile "nobody" referenced'),
        (f"role_arn = {ROLE}\nweb_identity_token_file = /no/token", "(No such file or directory: /no/token). Check"),
        ("metadata_service_timeout = abc", "a number in the profile is invalid"),
        ("aws_access_key_id =\naws_secret_access_key =", "cannot be used: the access key id of the profile is empty."),
        ("s3 = path", "boto3's settings are invalid ('str' object has no attribute"),
        ("region =", "region is empty in the profile. Set it, or delete the line."),
    ],
)  # fmt: skip
def test_a_profile_that_has_none(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    explain: Explain,
    profile: str,
    sentence: str,
) -> None:
    use_profile(folder, monkeypatch, profile.replace("{folder}", str(folder)))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    message = explain()
    assert message.startswith("s3://gan") and sentence.replace("{folder}", str(folder)) in message


@pytest.mark.parametrize(
    ("output", "code", "reason"),
    [
        (CANARY, 0, "it does not print the JSON that is expected"),
        ("", 0, "it does not print the JSON that is expected"),
        (f'["{CANARY}"]', 0, "it does not print the JSON that is expected"),
        ("null", 0, "it does not print the JSON that is expected"),
        (process_output(Expiration=CANARY), 0, "it does not print the JSON that is expected"),
        (f'{{"Version": "{CANARY}"}}', 0, "it fails, or its answer has none"),
        (f'{{"Version": 1, "SecretAccessKey": "{CANARY}"}}', 0, "it fails, or its answer has none"),
        (process_output(), 3, "it fails, or its answer has none"),
        (process_output(Expiration="2020-01-01T00:00:00Z"), 0, "they have expired"),
    ],
)
def test_a_process_that_prints_none(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    explain: Explain,
    output: str,
    code: int,
    reason: str,
) -> None:
    use_profile(folder, monkeypatch, f"credential_process = {helper(folder, output, code)}")
    assert explain().startswith(f"s3://gan cannot be used: {PROCESS} ({reason}). Correct it in AWS_CONFIG_FILE")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ("AWS_DEFAULT_REGION=", "AWS_DEFAULT_REGION is empty. Set it again, or unset it."),
        ("AWS_PROFILE=", "AWS_PROFILE is empty."),
        ("AWS_METADATA_SERVICE_TIMEOUT=abc", "AWS_METADATA_SERVICE_TIMEOUT is not a whole number above 0."),
        ("AWS_METADATA_SERVICE_NUM_ATTEMPTS=-1", "AWS_METADATA_SERVICE_NUM_ATTEMPTS is not a whole number above 0."),
        ("AWS_ACCESS_KEY_ID=k", "the environment gives no credentials (Partial credentials found in env"),
        (f"AWS_ROLE_ARN={ROLE} AWS_WEB_IDENTITY_TOKEN_FILE=/no/it", "the web identity gives no credentials (No such"),
        (f"AWS_ROLE_ARN={ROLE} AWS_WEB_IDENTITY_TOKEN_FILE=FOLDER", "the web identity gives no credentials (Is a"),
        (f"AWS_ROLE_ARN={ROLE} AWS_WEB_IDENTITY_TOKEN_FILE=FOLDER/binary", "(they cannot be read: UnicodeDecodeError)"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE=FOLDER/token", "no role ARN"),
        (
            f"AWS_ROLE_ARN={ROLE} AWS_WEB_IDENTITY_TOKEN_FILE=FOLDER/token AWS_ENDPOINT_URL_STS=x",
            "web identity gives no credentials (Invalid endpoint: x). Check AWS_WEB_IDENTITY_TOKEN_FILE",
        ),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI=http://example.com/x", "(Unsupported host 'example.com'."),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI=http://[::1/x", "(Invalid IPv6 URL). Check AWS_CONTAINER"),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI=ANSWERS AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/no/token",
            "the container's credential service gives no credentials (No such file or directory: /no/token)",
        ),
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI=ANSWERS AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=FOLDER/two-lines",
            "the container's credential service gives no credentials (Auth token value is not a legal header value)",
        ),
        (
            f"AWS_CONTAINER_CREDENTIALS_FULL_URI=ANSWERS AWS_CONTAINER_AUTHORIZATION_TOKEN={CANARY}",
            "the container's credential service gives no credentials (it fails, or its answer has none). Check",
        ),
    ],
)  # fmt: skip
def test_variables_that_lead_to_none(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    explain: Explain,
    mirror: MirrorServer,
    variables: str,
    sentence: str,
) -> None:
    monkeypatch.setattr("botocore.utils.ContainerMetadataFetcher.RETRY_ATTEMPTS", 1)
    mirror.answers["credentials"] = status(401)
    variables = variables.replace("FOLDER", str(folder)).replace("ANSWERS", f"{mirror.url}/credentials")
    for name, value in (pair.split("=", 1) for pair in variables.split(" ")):
        monkeypatch.setenv(name, value)
    assert sentence in explain()


def test_the_threads_say_it_too_and_go_on_when_it_is_mended(
    tmp_path: Path,
    seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "gan")
    monkeypatch.setattr("gan.sync.uploader.FIRST_DELAY_SECONDS", 0.05)
    seaweedfs.use(monkeypatch)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()  # so soon that each request asks for new ones
    path = Path(helper(tmp_path, process_output(AccessKeyId=ADMIN[0], SecretAccessKey=ADMIN[1], Expiration=soon)))
    use_profile(tmp_path, monkeypatch, f"credential_process = {path}")
    run = SpooledRun(tmp_path / "run")
    with (
        hold(StoredRun(open_store(new_address()), "a"), Timing(heartbeat_seconds=0.1)) as lease,
        uploading(run.dir.path, lease) as uploader,
    ):
        path.rename(tmp_path / "away")
        run.snapshot(10)
        with pytest.raises(StorageError, match=f"{PROCESS} .No such file or directory: {path}"):
            uploader.flush(0.5)
        (tmp_path / "away").rename(path)
        uploader.flush(10)
        lease.check()
    assert "training continues: s3://gan/" in caplog.text and "could not be renewed: s3://gan/" in caplog.text
    assert "Traceback" not in caplog.text and ADMIN[1] not in caplog.text
