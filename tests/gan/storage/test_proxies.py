"""Is a variable that names no proxy told, without its password, before it is used?"""

from pathlib import Path

import pytest

from gan.storage.proxies import fault_of_proxies
from tests.support.command import run_gan
from tests.support.s3_server import ADMIN, REGION


@pytest.mark.parametrize(
    "value", ["http://proxy:3128", "proxy:3128", "proxy", "https://me:pass%2Fword@[::1]:3128/", "socks5://proxy", ""]
)
def test_a_proxy_can_be_written_so(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert fault_of_proxies() is None


@pytest.mark.parametrize(
    "value",
    [
        "http://me:can/ary@proxy:3128",
        "http://me:12/ary@proxy:3128",
        "http://me:can#ary@proxy",
        "http://me:can?ary@proxy",
        "me:canary@proxy:port",
        "http://me:canary@proxy:3128\n",
        "http://me:can ary@proxy",
        "http://",
    ],
)
def test_a_proxy_cannot_be_written_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    for words in (["runs", "s3://gan"], ["download", "--mirror", "https://mirror.example", "--no-pinned-hash"]):
        ended = run_gan(tmp_path, *words)
        assert ended.returncode == 1 and "https_proxy is not the address of a proxy. Set it to" in ended.stderr
        assert "can" not in ended.stderr.replace("cannot", "") and "ary" not in ended.stderr


def test_a_proxy_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan.storage.s3.ATTEMPTS", 1)
    keys = {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1], "AWS_DEFAULT_REGION": REGION}
    ended = run_gan(tmp_path, "runs", "s3://gan", HTTPS_PROXY="http://me:canary@127.0.0.1:9", **keys)
    assert "the proxy between here and the store cannot be used" in ended.stderr and "NO_PROXY" in ended.stderr
    assert "canary" not in ended.stderr
