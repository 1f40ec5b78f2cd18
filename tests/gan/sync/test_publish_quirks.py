"""Is a run published to a store that lacks what is not needed?"""

import logging
from pathlib import Path

import pytest

from gan.storage.address import open_store
from gan.sync.stored_run import StoredRun
from gan.sync.verification import verify
from tests.support.publishing import publish
from tests.support.quirk_proxy import Answer, Forward, Quirk, Request, quirky
from tests.support.s3_server import S3Server, new_address


def lists_uploads(request: Request) -> bool:
    return request.method == "GET" and "uploads" in request.target


def answer_to_uploads(answer: Answer) -> Quirk:
    """Answer so to ListMultipartUploads."""
    return lambda request, forward: answer if lists_uploads(request) else forward(request)


def error(status: int, code: str) -> Answer:
    return Answer(status, {"Content-Type": "application/xml"}, f"<Error><Code>{code}</Code></Error>".encode())


def lists_foreign_uploads(request: Request, forward: Forward) -> Answer:
    """Ignore the prefix that is asked for."""
    if not lists_uploads(request):
        return forward(request)
    upload = "<Upload><Key>theirs</Key><UploadId>1</UploadId></Upload>"
    return Answer(200, {}, f"<ListMultipartUploadsResult>{upload}</ListMultipartUploadsResult>".encode())


def deletes_nothing(request: Request, forward: Forward) -> Answer:
    return error(403, "AccessDenied") if request.method == "DELETE" else forward(request)


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text("{}")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (error(403, "AccessDenied"), "access is denied (AccessDenied"),
        (error(501, "NotImplemented"), "the store lacks a feature that is needed (NotImplemented"),
        (Answer(405), "the store lacks a feature that is needed (405"),
        (error(400, "InvalidRequest"), "the store refuses the request (InvalidRequest"),
    ],
    ids=["403", "501", "405", "400"],
)
def test_a_store_that_does_not_list_uploads_in_parts_takes_a_run(
    seaweedfs: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    run_path: Path,
    answer: Answer,
    reason: str,
) -> None:
    with quirky(seaweedfs, answer_to_uploads(answer)) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        run = StoredRun(open_store(new_address()), "a")
        manifest = publish(run_path, run)
        assert publish(run_path, run) == manifest == run.manifest()
        assert verify(run).problems == [] and (run_path / "manifest.json").exists()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert reason in warnings[0] and "broken uploads have left below runs/a/" in warnings[0]


def test_a_store_that_lists_the_uploads_of_others_loses_none(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, run_path: Path
) -> None:
    with quirky(seaweedfs, lists_foreign_uploads) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        publish(run_path, StoredRun(open_store(new_address()), "a"))
        assert [each for each in proxy.requests if each.method == "DELETE" and "theirs" in each.target] == []


def test_a_run_is_published_without_the_right_to_delete(
    seaweedfs: S3Server, monkeypatch: pytest.MonkeyPatch, run_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    denied = error(403, "AccessDenied")
    with quirky(
        seaweedfs, lambda request, forward: denied if request.method == "DELETE" else forward(request)
    ) as proxy:
        seaweedfs.use(monkeypatch, proxy.url)
        run = StoredRun(open_store(new_address()), "a")
        run.store.put_new("runs/a/grids/step-000900.png", b"of an earlier attempt")
        assert publish(run_path, run) == run.manifest()
        assert [problem.problem for problem in verify(run).problems] == ["unlisted"]
    assert "files of earlier holders stay below runs/a/ in" in caplog.text
