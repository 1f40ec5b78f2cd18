"""Does the report work in a browser, opened from disk?"""

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from gan.report.page import render
from gan.runs.run_dir import RunDir
from gan.training.neighbours import sheet_png
from tests.support.browser import chromium
from tests.support.sample_run import random_images, write_sample_run

pytestmark = pytest.mark.browser

HOSTILE = "</script><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@dataclass
class Opened:
    """A page, its messages and its requests."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = write_sample_run(tmp_path_factory.mktemp("run") / "sample")
    render(run)
    return run


def opened(browser: Browser, run: RunDir, *, width: int = 1280, **options: Any) -> Opened:
    """Open a run's report from disk; no autoplay unless `reduced_motion` says otherwise."""
    options = {"reduced_motion": "reduce", **options}
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    opened = Opened(page, run.report_path.as_uri())
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(opened.url)
    return opened


@pytest.fixture
def page(browser: Browser, run: RunDir) -> Iterator[Page]:
    made = opened(browser, run)
    yield made.page
    made.page.close()
    assert made.complaints == []
    assert [url for url in made.requests if not url.startswith("data:")] == [made.url]


def shown_step(page: Page) -> str:
    """Return the step whose frame the film shows, by its pixels."""
    source = page.locator("#film").get_attribute("src")
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    frames = {"data:image/png;base64," + png: step for png, step in zip(data["frames"], data["steps"], strict=True)}
    return f"step {frames[source or '']:,}"


def test_the_slider_moves_the_film_by_keyboard_and_says_the_step(page: Page) -> None:
    slider = page.get_by_role("slider", name="Step of the film")
    for key, step in (("Home", "step 1,000"), ("ArrowRight", "step 2,000"), ("End", "step 3,000")):
        slider.press(key)
        expect(page.locator("#film-step")).to_have_text(step)
        expect(slider).to_have_attribute("aria-valuetext", step)
        expect(page.locator("#film")).to_have_attribute("alt", f"25 generated images at {step}")
        assert shown_step(page) == step


def test_the_film_plays_and_pauses(page: Page) -> None:
    film_step = page.locator("#film-step")
    expect(film_step).to_have_text("step 3,000")
    page.get_by_role("button", name="Play").click()
    expect(film_step).to_have_text("step 1,000")
    expect(film_step).to_have_text("step 2,000")
    page.get_by_role("button", name="Pause").click()
    paused = film_step.text_content()
    page.wait_for_timeout(1200)
    assert film_step.text_content() == paused
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_the_slider_pauses_the_film(page: Page) -> None:
    page.get_by_role("button", name="Play").click()
    page.get_by_role("slider", name="Step of the film").fill("1")
    expect(page.get_by_role("button", name="Play")).to_be_visible()


@pytest.mark.parametrize(("motion", "button"), [("no-preference", "Pause"), ("reduce", "Play")])
def test_the_film_starts_by_itself_unless_reduced_motion_is_set(
    browser: Browser, run: RunDir, motion: str, button: str
) -> None:
    page = opened(browser, run, reduced_motion=motion).page
    expect(page.locator("#play")).to_have_text(button)
    page.close()


def test_pointing_at_the_curves_reads_both_losses_there(page: Page) -> None:
    area = page.get_by_role("slider", name="Step at which the losses are read")
    box = area.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 3, box["y"] + 50)
    expect(page.locator("#read-step")).to_have_text(re.compile(r"^at step (99\d|1,00\d)$"))
    expect(page.locator("#g-value")).to_have_text(re.compile(r"^1\.33\d$"))  # 1 + step / 3000
    expect(page.locator("#d-value")).to_have_text(re.compile(r"^0\.66\d\d$"))
    expect(area).to_have_attribute("aria-valuetext", re.compile(r"^at step [\d,]+: g_loss 1\.33\d, d_loss 0\.66\d\d$"))


def test_the_curves_are_read_by_keyboard_too(page: Page) -> None:
    area = page.get_by_role("slider", name="Step at which the losses are read")
    area.press("Home")
    expect(area).to_have_attribute("aria-valuetext", "at step 1: g_loss 1.001, d_loss 0.5006")
    area.press("ArrowRight")
    expect(page.locator("#read-step")).to_have_text("at step 7")  # 3000 steps in 480 buckets
    expect(page.locator("#read-bucket")).to_have_text("mean of 7\u201312")
    area.press("End")
    expect(area).to_have_attribute("aria-valuetext", "at step 3,000: g_loss 1.999, d_loss 0.9995")


def test_the_dots_are_on_the_drawn_lines(page: Page) -> None:
    page.get_by_role("slider", name="Step at which the losses are read").press("End")
    for name in ("g", "d"):
        dot = page.locator(f"#{name}-dot").bounding_box()
        line = page.locator(f".curves .{name}.mean").bounding_box()
        assert dot is not None and line is not None
        # Both losses rise: each line ends at its highest point.
        assert abs(dot["y"] + dot["height"] / 2 - line["y"]) < 3
        assert abs(dot["x"] + dot["width"] / 2 - (line["x"] + line["width"])) < 3


@pytest.mark.parametrize(("share", "step"), [(0.02, "step 1,000"), (0.6, "step 2,000"), (0.98, "step 3,000")])
def test_a_click_on_the_curves_brings_the_film_to_the_nearest_grid(page: Page, share: float, step: str) -> None:
    area = page.get_by_role("slider", name="Step at which the losses are read")
    box = area.bounding_box()
    assert box is not None
    area.click(position={"x": share * box["width"], "y": 50})
    expect(page.locator("#film-step")).to_have_text(step)


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_window(browser: Browser, tmp_path: Path, width: int) -> None:
    run = write_sample_run(
        tmp_path / "run", range(1000, 31_000, 1000), range(1000, 31_000, 1000),
        run_id="x" * 200, device="gpu " * 60, git_commit="0" * 40 + "-dirty",
    )  # fmt: skip
    run.neighbours_path.write_bytes(sheet_png(random_images(25), random_images(25)))
    render(run)
    page = opened(browser, run, width=width).page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
    ) == 0  # fmt: skip
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out_from_the_page_in_light_and_dark(browser: Browser, run: RunDir, scheme: str) -> None:
    page = opened(browser, run, color_scheme=scheme).page
    colours = page.evaluate(
        """() => Object.fromEntries(["--paper", "--soft", "--ink", "--quiet", "--g", "--d"].map(
             name => [name, getComputedStyle(document.documentElement).getPropertyValue(name).trim()]))"""
    )
    assert (luminance(colours["--paper"]) > 0.5) == (scheme == "light")
    assert contrast(colours["--ink"], colours["--soft"]) >= 7
    for name in ("--ink", "--quiet", "--g", "--d"):
        assert contrast(colours[name], colours["--paper"]) >= 4.5
    page.close()


def test_the_quality_and_the_neighbours_are_there_without_scripts(browser: Browser, tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", evaluated=[1000, 2000, 3000])
    run.neighbours_path.write_bytes(sheet_png(random_images(25), random_images(25)))
    render(run)
    made = opened(browser, run, java_script_enabled=False)
    quality = made.page.get_by_role("region", name="Quality")
    expect(quality.locator(".metric").first).to_be_visible()
    charts = quality.get_by_role("img")
    expect(charts).to_have_count(3)
    expect(charts.last).to_have_attribute("aria-label", re.compile(r"^0: 10\.0%, 1: 10\.0%, "))
    sheet = made.page.get_by_role("img", name="25 pairs")
    expect(sheet).to_have_js_property("naturalWidth", 324)
    assert made.complaints == []
    made.page.close()


def test_the_curve_of_distances_ends_in_its_best_dot(browser: Browser, tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", evaluated=[1000, 2000, 3000])
    render(run)
    page = opened(browser, run).page
    line, best = (page.locator(f".metrics .{name}").first.bounding_box() for name in ("metric", "best"))
    assert line is not None and best is not None
    assert abs(line["x"] + line["width"] - best["x"] - best["width"] / 2) < 3
    assert abs(line["y"] + line["height"] - best["y"] - best["height"] / 2) < 3
    page.close()


def test_one_grid_is_shown_without_a_film(browser: Browser, tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run", steps=[1000])
    render(run)
    made = opened(browser, run, reduced_motion="no-preference")
    expect(made.page.locator("#play")).to_be_disabled()
    expect(made.page.locator("#slider")).to_be_disabled()
    assert (shown_step(made.page), made.complaints) == ("step 1,000", [])
    made.page.close()


def test_without_scripts_the_last_grid_the_curves_and_the_tables_are_there(browser: Browser, run: RunDir) -> None:
    page = opened(browser, run, java_script_enabled=False).page
    last = base64.b64encode(run.grid_path(3000).read_bytes()).decode()
    expect(page.locator("#film")).to_have_attribute("src", "data:image/png;base64," + last)
    expect(page.locator(".curves")).to_be_visible()
    expect(page.get_by_text("the film is in training.gif")).to_be_visible()
    expect(page.get_by_role("button")).to_have_count(0)
    page.close()


def test_hostile_values_run_nothing(browser: Browser, tmp_path: Path) -> None:
    run = write_sample_run(
        tmp_path / "run", run_id=HOSTILE, device=HOSTILE, git_commit=HOSTILE, data={HOSTILE: HOSTILE}
    )
    render(run)
    made = opened(browser, run)
    expect(made.page).to_have_title(HOSTILE + " · gan-train")
    expect(made.page.locator("#film-step")).to_have_text("step 3,000")
    assert made.complaints == []
    made.page.close()


def test_an_injected_script_does_not_run(browser: Browser, tmp_path: Path) -> None:
    run = write_sample_run(tmp_path / "run")
    render(run)
    page = run.report_path.read_text()
    run.report_path.write_text(page.replace("<main>", "<script>document.title = 'taken'</script><main>"))
    made = opened(browser, run)
    expect(made.page).to_have_title("sample · gan-train")
    assert "Content Security Policy" in made.complaints[0]
    made.page.close()


def luminance(colour: str) -> float:
    """Return the relative luminance of #rrggbb, as WCAG defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21; WCAG AA asks for 4.5 in text."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)
