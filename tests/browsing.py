"""The system's Chromium without a window, for tests of pages; conftest.py makes its fixture `browser` known to all."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


@pytest.fixture(scope="module")  # two at a time cannot be: each needs an event loop of its own in the same thread
def browser():
    """A running Chromium; the tests are skipped where there is none, or where Playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@dataclass
class Visit:
    """A page and all that it said and asked for."""

    page: object
    errors: list[str] = field(default_factory=list)  # of the console and of scripts
    requests: list[str] = field(default_factory=list)  # addresses, data: and blob: left out


@contextlib.contextmanager
def open_page(browser, address: str, width: int = 1440, height: int = 900, **options) -> Iterator[Visit]:
    """A fresh page at `address`; `options` as those of Playwright's new_page (color_scheme, java_script_enabled, …)."""
    page = browser.new_page(viewport={"width": width, "height": height}, **options)
    visit = Visit(page)
    page.on("console", lambda message: visit.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on("request", lambda request: note_request(visit, request.url))
    try:
        page.goto(address)
        yield visit
    finally:
        page.close()


def note_request(visit: Visit, address: str) -> None:
    if not address.startswith(("data:", "blob:")):
        visit.requests.append(address)


def overflow(page) -> int:
    """By how many pixels the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


def accessibility_findings(page) -> list[str]:
    """axe-core's serious and critical findings, each with the first element that has it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    found = axe.Axe().run(page).response["violations"]
    grave = [finding for finding in found if finding["impact"] in ("serious", "critical")]
    return [f"{row['id']}: {row['help']}: {row['nodes'][0]['html'][:200]}" for row in grave]
