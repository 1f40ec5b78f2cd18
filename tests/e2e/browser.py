"""How does somebody who has only a browser and the password work with the stack?"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Error, Locator, Page, Request, ViewportSize, expect

from tests.e2e.stack import wait_for
from tests.support.browser import chromium

WINDOW: ViewportSize = {"width": 1280, "height": 900}
PATIENCE = 30_000  # ms for a page to show something; a busy server is slow
PLAYWRIGHTS_OWN = 5_000
NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"


@contextmanager
def patient_chromium() -> Iterator[Browser]:
    """Run Chromium; what is expected of its pages is waited for."""
    expect.set_options(timeout=PATIENCE)
    with chromium() as browser:
        yield browser
    expect.set_options(timeout=PLAYWRIGHTS_OWN)


def visit(page: Page, url: str) -> None:
    """Open an address; again where Chromium let go of its requests, as it does when a container starts or stops."""
    wait_for(lambda: _opened(page, url), 60, url)


def _opened(page: Page, url: str) -> bool:
    failures: list[str] = []

    def note(request: Request) -> None:
        failures.append(request.failure or "")

    page.on("requestfailed", note)
    try:
        page.goto(url)
    except Error as error:
        if NETWORK_CHANGED not in error.message:
            raise
        failures.append(error.message)
    page.remove_listener("requestfailed", note)
    return not any(NETWORK_CHANGED in failure for failure in failures)


def log_in(page: Page, auth: str) -> None:
    """Fill in and send the page that asks for the password."""
    page.get_by_placeholder("admin:pass").fill(auth)
    page.get_by_role("button", name="Login").click()


def open_deployment(page: Page, url: str, name: str) -> None:
    """Go from the UI's front page to a deployment."""
    visit(page, url)
    page.get_by_role("link", name="Deployments").click()
    page.get_by_role("link", name=name, exact=True).click()


def open_run_form(page: Page, url: str) -> None:
    """Open the form of a custom run of the deployment `default`."""
    open_deployment(page, url, "default")
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()


def form_field(page: Page, title: str) -> Locator:
    """Return a field of the run form: its title, its help, and where its value goes."""
    return page.get_by_text(f"{title} (Optional)", exact=True).locator("xpath=ancestor::div[fieldset][1]")


def fill_in(page: Page, title: str, value: int) -> None:
    """Give a value to a field of the run form."""
    form_field(page, title).get_by_role("spinbutton").fill(str(value))


def start_run(page: Page, url: str, name: str, *, num_steps: int, snapshot_steps: int, data: str = "") -> None:
    """Start a run by the form and go to its page. `data` is an imported data set."""
    open_run_form(page, url)
    page.get_by_role("textbox", name="Run Name").fill(name)
    fill_in(page, "Num Steps", num_steps)
    fill_in(page, "Snapshot Steps", snapshot_steps)
    if data:
        form_field(page, "Data").get_by_role("textbox").fill(data)
    page.get_by_role("button", name="Submit").click()
    page.get_by_role("link", name="View run").click()
    expect(page.get_by_role("tab", name="Subflow Runs")).to_be_visible()  # the page before shows other runs' states


def run_state(page: Page, state: str) -> Locator:
    """Return the badge on a run's page that says its state."""
    return page.get_by_role("main").get_by_text(state, exact=True).first


def open_artifact(page: Page, run_name: str, key: str) -> Locator:
    """Go from a run's page to one of its artifacts; return what that shows."""
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("tabpanel", name="Artifacts").get_by_role("link", name=key).click()
    newest = page.get_by_role("main").get_by_role("link", name=run_name, exact=True).first  # other runs' are there, too
    newest.locator("xpath=ancestor::div[.//a[contains(@href, '/artifacts/artifact/')]][1]").get_by_role(
        "link", name=re.compile("^[0-9a-f]{8}$")
    ).click()
    return page.get_by_role("tabpanel", name="Artifact")
