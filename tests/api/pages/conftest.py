from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.api.pages import browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of a module, which are skipped if Chromium is not installed."""
    if browser.CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium (make env does so if permitted)")
    expect.set_options(timeout=browser.TIMEOUT_MS)
    with browser.running() as launched:
        yield launched
