"""What can somebody do who has only a browser and the password?"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from tests.e2e.browser import (
    WINDOW,
    fill_in,
    form_field,
    log_in,
    open_artifact,
    open_deployment,
    open_run_form,
    patient_chromium,
    run_state,
    start_run,
    visit,
)
from tests.e2e.discs import SETS_DIR, import_discs
from tests.e2e.stack import BUCKET, Stack, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.browser]

RUN = "from-the-browser"
TRAINED_MS = 300_000
CANCELLED_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with patient_chromium() as browser:
        yield browser


@pytest.fixture
def stranger(browser: Browser) -> Iterator[Page]:
    """Open a window that knows no password."""
    page = browser.new_page(viewport=WINDOW)
    yield page
    page.close()


@pytest.fixture(scope="module")
def logged_in(browser: Browser, stack: Stack) -> Any:
    """Log in once; return what the browser keeps of it."""
    page = browser.new_page(viewport=WINDOW)
    visit(page, stack.prefect_url)
    log_in(page, stack.credentials["PREFECT_API_AUTH_STRING"])
    expect(page.get_by_role("main")).to_contain_text("Active Work Pools")
    kept = page.context.storage_state()
    page.close()
    return kept


@pytest.fixture
def page(browser: Browser, logged_in: Any) -> Iterator[Page]:
    page = browser.new_page(viewport=WINDOW, storage_state=logged_in)
    yield page
    page.close()


@pytest.fixture(scope="module")
def completed(browser: Browser, logged_in: Any, stack: Stack) -> str:
    """Train by the form, watch until the run is Completed, and return the address of its page."""
    page = browser.new_page(viewport=WINDOW, storage_state=logged_in)
    start_run(page, stack.prefect_url, RUN, num_steps=300, snapshot_steps=100)
    expect(run_state(page, "Completed")).to_be_visible(timeout=TRAINED_MS)
    url = page.url
    page.close()
    return url


def test_the_ui_asks_for_the_password(stranger: Page, stack: Stack) -> None:
    visit(stranger, stack.prefect_url)
    expect(stranger.get_by_role("button", name="Login")).to_be_visible()
    expect(stranger.get_by_role("link", name="Deployments")).to_have_count(0)


def test_a_wrong_password_is_refused(stranger: Page, stack: Stack) -> None:
    visit(stranger, stack.prefect_url)
    log_in(stranger, "admin:wrong")
    expect(stranger.get_by_text("Invalid credentials")).to_be_visible()
    expect(stranger.get_by_role("link", name="Deployments")).to_have_count(0)


def test_the_right_password_lets_in(stranger: Page, stack: Stack) -> None:
    visit(stranger, stack.prefect_url)
    log_in(stranger, stack.credentials["PREFECT_API_AUTH_STRING"])
    expect(stranger.get_by_role("main").get_by_role("link", name="gpu")).to_be_visible()


def test_the_pages_ask_nobody_but_the_stack(page: Page, stack: Stack) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    open_run_form(page, stack.prefect_url)
    expect(form_field(page, "Num Steps")).to_be_visible()
    visit(page, stack.tensorboard_url)
    expect(page.get_by_role("tab", name="Time Series")).to_be_visible()
    ours = {"", *(urlsplit(url).netloc for url in (stack.prefect_url, stack.tensorboard_url))}  # "": data:, blob:
    assert [url for url in asked if urlsplit(url).netloc not in ours] == []


def test_both_deployments_are_listed(page: Page, stack: Stack) -> None:
    visit(page, stack.prefect_url)
    page.get_by_role("link", name="Deployments").click()
    expect(page.get_by_role("row", name="default gan-train Ready")).to_be_visible()
    expect(page.get_by_role("row", name="nightly gan-train Ready")).to_contain_text("At 03:00 AM")


def test_the_run_form_says_what_each_value_is(page: Page, stack: Stack) -> None:
    open_run_form(page, stack.prefect_url)
    expect(form_field(page, "Num Steps")).to_contain_text(
        "Steps to train; a step is one update of each network; empty:"
    )
    expect(form_field(page, "Device").get_by_role("button", name="Select Device")).to_have_text("auto")
    expect(form_field(page, "Batch Size").get_by_role("spinbutton")).to_have_value("64")


@pytest.mark.parametrize(
    ("title", "value", "complaint"),
    [
        ("Num Steps", 0, "Value must be greater than or equal to 1."),
        ("Batch Size", 24, "Value must be greater than or equal to 25."),
        ("Snapshot Steps", 1_000_001, "Value must be less than or equal to 1000000."),
    ],
)
def test_the_run_form_refuses_a_value_out_of_bounds(
    page: Page, stack: Stack, title: str, value: int, complaint: str
) -> None:
    open_run_form(page, stack.prefect_url)
    fill_in(page, title, value)
    page.get_by_role("button", name="Submit").click()
    number = form_field(page, title).get_by_role("spinbutton")
    expect(number).to_be_focused()
    assert number.evaluate("field => field.validationMessage") == complaint


def test_a_run_of_the_form_is_completed_with_what_was_filled_in(page: Page, completed: str) -> None:
    visit(page, completed)
    page.get_by_role("tab", name="Parameters").click()
    parameters = page.get_by_role("tabpanel", name="Parameters")
    expect(parameters).to_contain_text(re.compile(r'"num_steps":\s*300\b'))
    expect(parameters).to_contain_text(re.compile(r'"snapshot_steps":\s*100\b'))


def test_the_progress_reads_100_percent(page: Page, completed: str) -> None:
    visit(page, completed)
    expect(open_artifact(page, RUN, "gan-train-progress")).to_contain_text("Progress: 100%")
    expect(page.get_by_role("main")).to_contain_text("step 300 of 300")


def test_the_newest_samples_are_shown_with_their_losses(page: Page, completed: str) -> None:
    visit(page, completed)
    samples = open_artifact(page, RUN, "gan-train-samples")
    expect(samples.get_by_role("row").nth(1)).to_have_text(re.compile(r"^300\s*\d+\.\d{4}\s*\d+\.\d{4}\s*[\d,.]+$"))
    picture = samples.get_by_role("img", name="step 300")
    expect(picture).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    expect(picture).to_have_js_property("naturalWidth", 152)


def test_the_film_moves(page: Page, completed: str) -> None:
    visit(page, completed)
    film = open_artifact(page, RUN, "gan-train-film").get_by_role("img", name="300 steps")
    expect(film).to_have_attribute("src", re.compile("^data:image/gif;base64,"))
    expect(film).to_have_js_property("naturalWidth", 152)
    first = film.screenshot()
    wait_for(lambda: film.screenshot() != first, 10, "another frame")


def test_the_report_opens_by_its_link_without_a_password(page: Page, stranger: Page, completed: str) -> None:
    visit(page, completed)
    link = open_artifact(page, RUN, "gan-train-report").get_by_role("link", name="Report of s3://gan/runs/")
    visit(stranger, link.get_attribute("href") or "")
    expect(stranger).to_have_title(re.compile("gan-train$"))
    expect(stranger.locator("#film")).to_have_js_property("naturalWidth", 152)
    link.click()
    expect(page).to_have_title(re.compile("gan-train$"))


def test_cancel_stops_a_run_within_30_seconds(page: Page, stack: Stack) -> None:
    start_run(page, stack.prefect_url, "cancelled-in-the-browser", num_steps=100_000, snapshot_steps=50)
    expect(page.get_by_role("log")).to_contain_text("training steps 1 to 100000", timeout=TRAINED_MS)
    page.get_by_role("main").get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name="Cancel").click()
    page.get_by_role("alertdialog").get_by_role("button", name="Cancel Flow Run").click()
    expect(run_state(page, "Cancelled")).to_be_visible(timeout=CANCELLED_MS)
    wait_for(lambda: stack.trainers() == 0, 5, "no process of it")


def test_a_paused_schedule_stays_paused_when_the_stack_is_started_again(page: Page, stack: Stack) -> None:
    open_deployment(page, stack.prefect_url, "nightly")
    schedule = page.get_by_role("switch", name="toggle At 03:00 AM")
    schedule.click()
    expect(schedule).not_to_be_checked()
    stack.up()
    visit(page, page.url)
    expect(schedule).not_to_be_checked()
    schedule.click()
    expect(schedule).to_be_checked()


def test_tensorboard_shows_both_losses_and_the_grids(page: Page, stack: Stack, completed: str) -> None:
    visit(page, stack.tensorboard_url)
    expect(page.get_by_role("navigation")).to_contain_text(completed.split("/")[-1].split("?")[0])
    groups = page.get_by_role("button", name="Expand group")
    for tag in ("d_loss", "g_loss"):
        expect(groups.filter(has_text=tag)).to_be_visible()
    groups.filter(has_text="samples").click()
    page.get_by_role("checkbox", name="Image", exact=True).click()
    expect(page.locator("image-card img").first).to_have_js_property("naturalWidth", 152)


def test_a_run_on_an_imported_set_has_a_champion_beside_that_of_mnist(page: Page, stack: Stack, completed: str) -> None:
    import_discs(stack, "discs", "--channels", "3", "--test-share", "0.3", "--attribution", "nobody but chance")
    stack.exec("worker", "gan", "judge", "train", "--data", "discs", "--sets-dir", SETS_DIR)
    start_run(page, stack.prefect_url, "on-discs", num_steps=100, snapshot_steps=50, data="discs")
    expect(run_state(page, "Completed")).to_be_visible(timeout=TRAINED_MS)

    found = stack.s3().list_objects_v2(Bucket=BUCKET, Prefix="champion")["Contents"]
    keys = [each["Key"] for each in found]
    assert len(keys) == 2 and "champion.json" in keys
    (sha256,) = [match[1] for key in keys if (match := re.fullmatch("champions/([0-9a-f]{64}).json", key))]
    key = f"gan-train-champion-discs-{sha256[:8]}"
    page.get_by_role("tab", name="Artifacts").click()
    expect(page.get_by_role("tabpanel", name="Artifacts").get_by_role("link", name=key)).to_be_visible()
    with stack.prefect() as client:
        (shown,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    assert "attribution: nobody but chance" in (shown.description or "")
