"""Chromium for the tests, with the errors that a page causes."""

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
TIMEOUT_MS = 90_000
"""Long, because other tests run in parallel and a page may wait for a whole search."""
Scheme = Literal["light", "dark"]
DESKTOP, PHONE = (1280, 900), (390, 844)


@contextmanager
def running() -> Iterator[Browser]:
    """Chromium for the duration of the block, in which Playwright owns the event loop of the thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A tab and its errors: errors and policy violations on the console, exceptions, requests to other hosts."""

    page: Page
    url: str
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        self.page.on("request", lambda request: self._on_request(request.url))
        self.page.set_default_timeout(TIMEOUT_MS)

    def open(self, path: str) -> Page:
        """Open a page of the service and wait until all of its resources are loaded."""
        self.page.goto(self.url + path)
        return self.page

    def _on_console(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(f"{message.type}: {message.text} ({self.page.url})")

    def _on_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"data", "blob"} and parts.netloc != urlsplit(self.url).netloc:
            self.errors.append(f"request to another host: {url}")


def wait_for_charts(page: Page) -> None:
    """Hover over every visible chart of a page and wait until Plotly has drawn it."""
    for chart in page.locator(".chart:visible").all():
        chart.hover()
        chart.locator(".main-svg").first.wait_for()


@contextmanager
def visiting(
    browser: Browser, url: str, *, size: tuple[int, int] = DESKTOP, scheme: Scheme = "light", scripts: bool = True
) -> Iterator[Visit]:
    """A tab in its own profile, with JavaScript disabled unless `scripts`. Raises AssertionError at the end if it had
    errors."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts
    )
    visit = Visit(context.new_page(), url)
    try:
        yield visit
    finally:
        context.close()
    assert not visit.errors, "\n".join(visit.errors)


def violations(page: Page) -> list[str]:
    """The serious and critical violations that axe-core finds, one line each."""
    package = find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    page.evaluate(Path(package.origin).with_name("axe.min.js").read_text())
    results = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:200] for node in each['nodes'][:3]]}"
        for each in results
        if each["impact"] in {"serious", "critical"}
    ]
