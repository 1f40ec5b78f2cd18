"""Has a set without labels a champion, by a judge that knows no classes?"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.gan.cli.test_champion_of_set import gan, measure_few
from tests.support.digits import digits

pytestmark = pytest.mark.usefixtures("small_networks")


def test_runs_without_classes_are_compared_by_their_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gan.registry.promotion.measure", measure_few)
    np.savez(tmp_path / "plain.npz", images=digits(600)[0])
    words = ["--name", "plain", "--side", "28", "--channels", "1", "--test-share", "0.5"]
    assert gan(tmp_path, "data", "import", "plain.npz", *words).returncode == 0
    assert gan(tmp_path, "judge", "train", "--data", "plain").returncode == 0
    for run_id, rate in (("first", "0.0006"), ("second", "0.1")):
        options = ["--num-steps", "4", "--batch-size", "25", "--num-threads", "1", "--learning-rate", rate]
        done = gan(tmp_path, "train", "--run-dir", f"store/runs/{run_id}", "--data", "plain", *options)
        assert done.returncode == 0, done.stderr
    first = gan(tmp_path, "champion", "promote", "store/runs/first")
    assert first.stdout == "first is the champion of plain now: it is the first one\n", first.stderr
    second = gan(tmp_path, "champion", "promote", "store/runs/second")
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith("second is the champion of plain now: distance ")
    assert "classes" not in second.stdout
    decision = json.loads(gan(tmp_path, "champion", "promote", "store/runs/first", "--json").stdout)
    assert decision["outcome"] == "kept" and "class_shares" not in decision["evaluation"]
    assert decision["data"]["classes"] == []
    shown = gan(tmp_path, "champion", "show", "--data", "plain").stdout
    assert "classes" not in shown and "fixed random network" in shown
    kept = gan(tmp_path, "champion", "history", "--data", "plain", "--json")
    assert [each["run_id"] for each in json.loads(kept.stdout)["history"]] == [
        "first", "second",
    ]  # fmt: skip
    shutil.rmtree(tmp_path / "data")
    assert gan(tmp_path, "sample", "champion", "--data", "plain", "--out", "f.png").returncode == 0
