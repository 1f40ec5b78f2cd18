"""Does training continue without delay if Prefect's API is slow or unreachable?"""

import socket
import threading
import time
from pathlib import Path

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import artifacts as progress
from gan.config import TrainConfig
from gan.data.dataset import load_dataset
from gan.registry.promotion import promote
from gan.storage.local import LocalStore
from gan.training.runner import open_run
from tests.support.challengers import by_figures, challenger_at
from tests.support.sample_run import write_sample_run

CONFIG = TrainConfig(num_steps=20, snapshot_steps=10, num_threads=1)


@pytest.mark.filterwarnings("ignore:Artifact creation outside of a flow:FutureWarning")
def test_an_api_that_never_answers_does_not_delay_training(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LAST_UPDATE_SECONDS", 0.1)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        temporary_settings({PREFECT_API_URL: address(silent), PREFECT_CLIENT_MAX_RETRIES: 0}),
        open_run(tmp_path / "run", CONFIG, load_dataset(data_dir, pinned=False)) as run,
    ):
        with progress.publish_progress(run), silent.accept()[0] as request:
            assert request.recv(1000).startswith(b"GET /api/")
            assert [snapshot.step for snapshot in run.train()] == [10, 20]
            began = time.monotonic()
        assert time.monotonic() - began < 1
    for thread in threading.enumerate():
        if thread.name == "artifacts":
            thread.join()


@pytest.mark.parametrize(
    ("evaluated", "rows"),
    [
        ([], []),
        ([2000], ["| 2,000 | 200.00 | 2.50 | 9 of 10 |"]),
        ([1000, 2000, 3000], ["| 3,000 | 133.33 | 2.50 | 10 of 10 |"]),
    ],
)
def test_the_last_evaluation_is_a_table(tmp_path: Path, evaluated: list[int], rows: list[str]) -> None:
    table = progress.evaluation_table(write_sample_run(tmp_path / "run", evaluated=evaluated))
    assert table.splitlines()[2:] == rows


def test_the_best_evaluation_is_a_row_beside_the_last(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", evaluated=[1000, 2000, 3000])
    (run.checkpoints_dir / "step-003000.safetensors").unlink()
    table = progress.evaluation_table(run)
    assert [row.split()[1] for row in table.splitlines()[2:]] == ["2,000", "3,000"]


def test_ids_of_older_runs_mean_nothing_in_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[object, ...]] = []
    monkeypatch.setattr(progress._Live, "show", lambda _self, *content: shown.append(content))
    better = challenger_at("[x](http:<b>", 10.0)
    progress.show_decision(promote(LocalStore(tmp_path), better, by_figures(better), "me"), {})
    progress.show_report("s3://b/runs/a`$(id)`/", "https://store/link")
    (rows, description), (report, _) = shown
    assert isinstance(rows, list) and rows[0]["run"] == "10.000 ± 0.500"
    assert str(description).startswith("\\[x\\](http\\:\\<b\\> is the champion now")
    assert str(description).endswith("\n\nrun: \\[x\\](http\\:\\<b\\>, step 2,000\n\nchampion so far: none")
    assert report == (
        "[Report of s3://b/runs/a\\`\\$(id)\\`/](https://store/link)\n\n"
        "The link works for seven days; `` gan report --link 's3://b/runs/a`$(id)`/' `` makes another."
    )


def test_a_plain_id_is_shown_as_it_is() -> None:
    assert progress._text("20261128-030000-tuned-0a1b, my_run.2") == "20261128-030000-tuned-0a1b, my_run.2"


@pytest.mark.usefixtures("api")
def test_a_later_attempt_of_a_flow_run_updates_the_card_of_the_first() -> None:
    @flow
    def attempts() -> None:
        for figure in ("distance", "score"):
            progress._Live("table").show([{"figure": figure, "better": "lower"}], "about {id}")

    run_id = attempts(return_state=True).state_details.flow_run_id
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
    with get_client(sync_client=True) as client:
        (card,) = client.read_artifacts(artifact_filter=of_run)
    assert card.data == '[{"figure": "score", "better": "lower"}]'  # a text, of which no database sorts the keys
    assert card.description == f"about {card.id}"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("brave-tiger", "tuned, 3,000 steps, seed 7, 2024-05-06 07:08 UTC"),
        ("Refined-Puma", "tuned, 3,000 steps, seed 7, 2024-05-06 07:08 UTC"),
        ("psi55-fornacis", "tuned, 3,000 steps, seed 7, 2024-05-06 07:08 UTC"),
        ("sample", "tuned, 3,000 steps, seed 7, 2024-05-06 07:08 UTC (sample)"),  # its run id
        ("with more dropout", "with more dropout"),
        ("from-the-browser", "from-the-browser"),
    ],
)
def test_a_flow_run_is_named_by_what_it_trains_unless_somebody_has_named_it(
    tmp_path: Path, given: str, shown: str
) -> None:
    assert progress.name_for(given, write_sample_run(tmp_path / "run")) == shown


def address(server: socket.socket) -> str:
    return f"http://127.0.0.1:{server.getsockname()[1]}/api"
