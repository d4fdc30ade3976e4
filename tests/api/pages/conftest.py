from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.api.pages import browser


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser for the tests of a module; its tests are skipped where there is none."""
    if browser.CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium (make env does so where it may)")
    expect.set_options(timeout=browser.PATIENCE)
    with browser.running() as found:
        yield found
