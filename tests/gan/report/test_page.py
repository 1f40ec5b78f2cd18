"""Does a report show the content of the run directory, and nothing else?"""

import base64
import hashlib
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gan.data.dataset import load_dataset
from gan.data.download import download_dataset, mirrors_from_env
from gan.files import atomic_write
from gan.health import HealthEvent
from gan.images import grid_png
from gan.report.facts import MAX_FRAMES
from gan.report.film import FILM_BYTES
from gan.report.page import TEMPLATES, device_words, render
from gan.runs.run_dir import RunDir
from tests.support.sample_run import random_images, write_sample_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>'\"&{{data}}"


class Page(HTMLParser):
    """Hold what a browser would find in a page: elements with their attributes, and the text outside scripts."""

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.content: dict[str, list[str]] = {"script": [], "style": [], "text": []}
        self.feed(run.report_path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag = self.cdata_elem if self.cdata_elem in ("script", "style") else "text"
        self.content[tag].append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.content["text"]).split())

    @property
    def data(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.content["script"][0])
        return values

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return write_sample_run(tmp_path / "sample")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the page of the sample run, for tests that only read it."""
    return report(write_sample_run(tmp_path_factory.mktemp("module") / "sample"))


def report(run: RunDir) -> Page:
    render(run)
    return Page(run)


def grey(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)).convert("L")).astype(int)


@pytest.mark.parametrize(
    "said",
    [
        "From noise to images in 3,000 steps",
        "3 grids, drawn every 1,000 steps: the same 25 points of noise each time.",
        "Recipe tuned Seed 7 Duration 1 min 0 s Throughput 50.0 steps/s Device CPU, Sample CPU, 2 threads",
        "begun 2024-05-06 07:08:09 UTC last snapshot 2024-05-06 08:01:00 UTC",
        "device cpu, since cuda cannot be used: there is no NVIDIA driver; Sample(R) CPU",
        "gan-train · sample · tuned, 3,000 steps, seed 7, 2024-05-06 07:08 UTC",
        "git commit 0123456789abcdef0123456789abcdef01234567",
        "gan-train 0.1.0 python 3.11.7 torch 2.6.0 numpy 1.26.4",
        "train-images-idx3-ubyte ba89" + "0" * 60 + " t10k-images-idx3-ubyte 0fa7" + "1" * 60,
        "learning_rate 0.0006 Adam's learning rate before it decays.",
        "gan sample sample --out samples.png",
        "gan train --run-dir sample --resume",
        "gan-train --run-id sample",
        "gan verify sample",
    ],
)
def test_a_page_contains_the_text(page: Page, said: str) -> None:
    assert said in page.text


def test_a_page_shows_every_config_field(run: RunDir) -> None:
    text = report(run).text
    for name, value in json.loads(run.config_path.read_text()).items():
        rounded = f"{value:.4g}".replace("e-0", "e-") if isinstance(value, float) else value
        assert name == "version" or f"{name} {rounded} " in text


def test_the_film_and_the_page_show_each_grid_in_order(run: RunDir) -> None:
    data = report(run).data
    assert data["steps"] == [1000, 2000, 3000]
    with Image.open(run.film_path) as film:
        for index, (_, path) in enumerate(run.grids()):
            film.seek(index)
            grid = grey(path.read_bytes())
            assert np.abs(grey(base64.b64decode(data["frames"][index])) - grid).max() <= 8
            assert np.abs(np.array(film.convert("L"))[:152].astype(int) - grid).max() <= 8


def test_the_last_grid_and_the_reals_are_in_the_page_byte_for_byte(run: RunDir) -> None:
    sources = [attributes["src"] for tag, attributes in report(run).elements if tag == "img"]
    shown = [base64.b64decode((source or "").removeprefix("data:image/png;base64,")) for source in sources]
    last, reals = run.grid_path(3000).read_bytes(), run.reals_path.read_bytes()
    assert shown == [last, last, reals]


def test_the_neighbours_are_in_the_page_byte_for_byte(run: RunDir) -> None:
    assert "Nearest training images" not in report(run).text
    run.neighbours_path.write_bytes(grid_png(random_images(25)))
    page = report(run)
    [image] = [attributes for tag, attributes in page.elements if attributes.get("class") == "pairs grid"]
    assert base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,")) == grid_png(random_images(25))
    assert "Left in each pair is a sample of step 3,000" in page.text


def test_the_same_run_gives_the_same_bytes_in_any_folder(run: RunDir, tmp_path: Path) -> None:
    moved = RunDir(tmp_path / "elsewhere" / "moved")
    shutil.copytree(run.path, moved.path)
    render(run)
    render(moved)
    render(moved)
    assert run.report_path.read_bytes() == moved.report_path.read_bytes()
    assert run.film_path.read_bytes() == moved.film_path.read_bytes()


def test_a_page_refers_to_nothing_outside_itself(page: Page) -> None:
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "url(" not in "".join(page.content["style"])
    assert "://" not in "".join(page.content["script"] + page.content["style"])


def test_the_policy_allows_only_the_pages_own_script_and_style(page: Page) -> None:
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy") or ""
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    hashes = {
        tag: f"'sha256-{base64.b64encode(hashlib.sha256(page.content[tag][-1].encode()).digest()).decode()}'"
        for tag in ("script", "style")
    }
    assert directives == {
        "default-src": "'none'",
        "script-src": hashes["script"],
        "style-src": hashes["style"],
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@pytest.mark.parametrize("field", ["run_id", "created", "device", "git_commit", "versions", "data"])
def test_a_hostile_value_is_shown_as_text(page: Page, tmp_path: Path, field: str) -> None:
    value = {HOSTILE: HOSTILE} if field in ("versions", "data") else HOSTILE
    hostile = report(write_sample_run(tmp_path / "hostile", **{field: value}))
    assert HOSTILE in hostile.text
    assert {tag: hostile.count(tag) for tag in ("script", "img", "svg")} == {"script": 2, "img": 3, "svg": 3}
    assert hostile.content["script"] == page.content["script"]


def test_a_run_id_is_quoted_for_the_shell(tmp_path: Path) -> None:
    text = report(write_sample_run(tmp_path / "run", run_id="a; rm -r b's")).text
    assert """gan-train --run-id 'a; rm -r b'"'"'s'""" in text


@pytest.mark.parametrize("value", ["</script>", "<!--<script>", "]]>", "&lt;", "é\u2028\U0001f600"])
def test_json_in_a_page_cannot_leave_its_element(value: str) -> None:
    text = TEMPLATES.environment.from_string("{{ data|tojson }}").render(data={"value": value})
    assert json.loads(text) == {"value": value}
    assert not set(text) & set("<>&") and text.isascii()


def test_a_finished_run_is_not_called_unfinished(page: Page) -> None:
    assert "unfinished" not in page.text


def test_a_run_that_was_interrupted_is_called_unfinished(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", steps=[1000])
    text = report(run).text
    assert "unfinished: 1,000 of 3,000 steps" in text
    assert "One grid, at step 1,000: the same 25 points of noise." in text


def test_a_published_run_says_that_its_grids_are_fakes_of_a_batch(run: RunDir) -> None:
    run.write_config(run.read_config().model_copy(update={"recipe": "published"}))
    assert "the first 25 fakes of a batch each time" in report(run).text


def test_the_page_of_a_run_without_a_diagnosis_says_so(page: Page) -> None:
    assert "Health nothing found No snapshot of this training was dead, collapsed or not finite." in page.text


def test_health_events_are_listed(run: RunDir) -> None:
    dead, mended = (
        HealthEvent(event=kind, attempt=1, step=step, since=step - 1000, finding=finding, action=action,
                    to_step=to_step, seed=None, vitals=None)
        for kind, step, finding, action, to_step in [
            ("dead_discriminator", 2000, "dead <b>discriminator</b>", "ignored", None),
            ("collapse", 3000, "collapse: samples vary 2.0% as much", "rolled_back", 1000),
        ]
    )  # fmt: skip
    metrics = run.metrics_path.read_text()
    run.metrics_path.write_text(f"{dead.model_dump_json()}\n{metrics}{mended.model_dump_json()}\n")
    assert (
        "Health step 2,000 dead <b>discriminator</b>, since step 1,000: training continued "
        "step 3,000 collapse: samples vary 2.0% as much, since step 2,000: back to step 1,000 with fresh latents Config"
    ) in report(run).text


def test_an_unknown_commit_is_called_not_recorded(tmp_path: Path) -> None:
    assert "git commit not recorded" in report(write_sample_run(tmp_path / "run", git_commit=None)).text


def test_a_run_of_very_many_grids_is_shown_by_evenly_spaced_ones(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", steps=[3000])
    for step in range(0, 3000, 10):
        shutil.copy(run.grid_path(3000), run.grid_path(step))
    page = report(run)
    assert len(page.data["steps"]) == MAX_FRAMES
    assert (page.data["steps"][0], page.data["steps"][-1]) == (0, 3000)
    assert set(np.diff(page.data["steps"]).tolist()) == {10, 20}
    assert f"{MAX_FRAMES} of 301 grids" in page.text


def test_a_full_run_of_untrained_generators_keeps_the_size_limits(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", steps=[*range(1000, 93_000, 1000), 92_763])
    render(run)
    with Image.open(run.film_path) as film:
        assert getattr(film, "n_frames", 1) == 93
    assert run.film_path.stat().st_size < FILM_BYTES
    assert run.report_path.stat().st_size < 2_500_000


@pytest.mark.mnist
def test_a_film_of_real_digits_keeps_its_16_greys(tmp_path: Path) -> None:
    download_dataset(tmp_path / "data", mirrors_from_env())
    images = load_dataset(tmp_path / "data").train_images
    run = write_sample_run(tmp_path / "run", steps=[*range(1000, 93_000, 1000), 92_763])
    for index, (_, path) in enumerate(run.grids()):
        atomic_write(path, grid_png(torch.from_numpy(images[25 * index :][:25].copy()).unsqueeze(1)))
    render(run)
    with Image.open(run.film_path) as film:
        assert len(np.unique(np.array(film.convert("L")))) == 16
    assert run.film_path.stat().st_size < FILM_BYTES
    assert run.report_path.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("cpu, as asked: AMD EPYC 9B14", "CPU, AMD EPYC 9B14, 2 threads"),
        ("cpu, since cuda cannot be used: a fault; Intel(R) Xeon(R) Processor", "CPU, Intel Xeon Processor, 2 threads"),
        ("cuda: NVIDIA H100 80GB HBM3", "GPU, NVIDIA H100 80GB HBM3"),
    ],
)
def test_the_device_is_in_plain_words(reason: str, words: str) -> None:
    assert device_words(reason, 2) == words


def test_no_number_has_more_than_4_digits_after_the_leading_zeros(tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run")
    assert run.read_config().lr_decay_to != 0.0001945
    text = report(run).text
    assert "lr_decay_to 0.0001945 " in text and not re.search(r"0\.0*[1-9]\d{4}", text)
