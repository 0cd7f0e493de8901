"""Photographs the pages for docs/: report.webp, report_dark.webp and app.webp, with a headless Chromium.

python docs/draw_pages.py          # after `make demo` and the explain scripts of the methods that are to be seen
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import skimage.data
from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from app import running
from config import App

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REPORT = (ROOT / "outputs" / "reports" / "synthetic.html").as_uri()


def save(page: Page, name: str) -> None:
    """The window as a picture of docs/."""
    Image.open(io.BytesIO(page.screenshot(animations="disabled"))).save(DOCS / name, quality=88, method=6)


def draw_summary(browser: Browser) -> None:
    """The first screen of the report."""
    page = browser.new_page(viewport={"width": 1360, "height": 900}, device_scale_factor=1.4)
    page.goto(REPORT)
    save(page, "report.webp")


def draw_face(browser: Browser) -> None:
    """One misclassified face under every method, on dark ground."""
    page = browser.new_page(viewport={"width": 1440, "height": 860}, device_scale_factor=1.4, color_scheme="dark")
    page.goto(REPORT)
    page.locator(".filmstrip a:has(.wrong)").first.click()
    page.locator(".controls").first.evaluate(
        "each => window.scrollTo(0, each.getBoundingClientRect().top + scrollY - 24)"
    )
    save(page, "report_dark.webp")


def draw_app(browser: Browser) -> None:
    """The web page with a photo explained by occlusion."""
    photo = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(photo, "PNG")
    with running(App(device="cpu")) as address:
        page = browser.new_page(viewport={"width": 1360, "height": 1320})
        page.set_default_timeout(60_000)
        page.goto(address)
        upload = {"name": "astronaut.png", "mimeType": "image/png", "buffer": photo.getvalue()}
        page.locator("input[type=file]").first.set_input_files([upload])
        page.locator(".explanation").wait_for()
        page.get_by_label("Explained by", exact=True).click()
        page.get_by_role("option", name="Occlusion", exact=True).click()
        page.locator(".explanation[aria-label^='Occlusion']").wait_for()
        page.wait_for_timeout(2000)
        save(page, "app.webp")


def main() -> None:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for draw in (draw_summary, draw_face, draw_app):
            draw(browser)


if __name__ == "__main__":
    main()
