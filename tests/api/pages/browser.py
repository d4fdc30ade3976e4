"""Chromium as the tests use it, and everything that it complains about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE = 90_000
"""Milliseconds: the machine has other tests to run, and a search takes some itself."""
Scheme = Literal["light", "dark"]
DESKTOP, PHONE = (1280, 900), (390, 844)


@contextmanager
def running() -> Iterator[Browser]:
    """A Chromium, until the end of the block. While it is there the thread's event loop belongs to Playwright."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A tab, and what was wrong in it: errors and violations of the policy on the console, exceptions, requests to
    other hosts."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"exception: {error}"))
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.set_default_timeout(PATIENCE)

    def open(self, path: str) -> Page:
        """Go to a page of the service and wait until all that it names is loaded."""
        self.page.goto(self.url + path)
        return self.page

    def _said(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text} ({self.page.url})")

    def _asked(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and parts.netloc != urlsplit(self.url).netloc:
            self.complaints.append(f"request to another host: {url}")


def drawn(page: Page) -> None:
    """See every chart of a page and point at it, and wait until Plotly has drawn it."""
    for chart in page.locator(".chart:visible").all():
        chart.hover()
        chart.locator(".main-svg").first.wait_for()


@contextmanager
def visiting(
    browser: Browser, url: str, *, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light", scripts: bool = True
) -> Iterator[Visit]:
    """A tab in a profile of its own; without `scripts` a page is as it comes. Raises AssertionError at the end if
    anything was complained about."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts
    )
    visit = Visit(context.new_page(), url)
    try:
        yield visit
    finally:
        context.close()
    assert not visit.complaints, "\n".join(visit.complaints)


def violations(page: Page) -> list[str]:
    """What axe-core calls serious or critical, one line each."""
    package = find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    page.evaluate(Path(package.origin).with_name("axe.min.js").read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]
