"""Sign-in, key management and sign-out in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from playwright.sync_api import Browser, expect

from tests.api.keys import BOOTSTRAP, KeyedApi
from tests.api.pages.browser import DESKTOP, PHONE, Visit, violations, visiting

REFUSED = "the server responded with a status of 401"


@pytest.fixture
def visit(chromium: Browser, keyed: KeyedApi) -> Iterator[Visit]:
    """A tab without a session. The 401 responses on its console are not errors."""
    with visiting(chromium, str(keyed.api.http.base_url).rstrip("/")) as visit:
        yield visit
        visit.errors[:] = [each for each in visit.errors if REFUSED not in each]


def sign_in(visit: Visit, key: str) -> None:
    """Sign in by keyboard alone: the input of the key has the focus."""
    expect(visit.page.get_by_role("button", name="Sign in")).to_be_enabled()
    expect(visit.page.get_by_label("API key", exact=True)).to_be_focused()
    visit.page.keyboard.type(key)
    visit.page.keyboard.press("Enter")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_sign_in_page_is_accessible_and_fits_the_screen(
    chromium: Browser, keyed: KeyedApi, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    with visiting(chromium, str(keyed.api.http.base_url).rstrip("/"), size=size, scheme=scheme) as visit:
        page = visit.open("/searches")
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]
        visit.errors.clear()


def test_sign_in_with_a_key_and_sign_out(visit: Visit, keyed: KeyedApi) -> None:
    key = keyed.issued(["read"], tenant="browsing")
    page = visit.open("/workers?from=link")
    for wrong in ("pf_wrong", "schlüssel"):
        sign_in(visit, wrong)
        expect(page.get_by_role("alert").filter(has_text=re.compile("key"))).to_be_visible()
        expect(page.get_by_label("API key", exact=True)).to_have_attribute("aria-invalid", "true")
    sign_in(visit, key["key"])
    expect(page.get_by_role("heading", name="Workers", exact=True)).to_be_visible()
    assert page.url.endswith("/workers?from=link")
    expect(page.get_by_role("group", name="Session")).to_contain_text(f"browsing key:{key['id']}")
    expect(page.get_by_role("link", name="Keys")).to_have_count(0)
    assert page.evaluate("document.cookie") == ""

    # The browser sends no cookie with a link on another site (SameSite=Strict).
    page.goto(f"http://localhost:{keyed.api.http.base_url.port}/workers")
    page.evaluate("url => { location.href = url; }", visit.url + "/datasets")
    expect(page.get_by_role("heading", name="Datasets", exact=True)).to_be_visible()
    visit.errors[:] = [each for each in visit.errors if "another host" not in each]

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()
    page.go_back()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()


def test_keys_are_created_rotated_and_revoked(visit: Visit, keyed: KeyedApi) -> None:
    page = visit.open("/keys")
    sign_in(visit, BOOTSTRAP)
    page.locator("#name").fill("robot")
    page.get_by_label("write: ").uncheck()
    page.locator("#expires").select_option("in 30 days")
    page.get_by_role("button", name="Create key").click()
    shown = page.get_by_label("The new key", exact=True)
    expect(page.locator("#issued")).to_be_focused()
    key = shown.input_value()
    assert violations(page) == []
    session = keyed.send("GET", "/v1/session", key).json()
    assert session["scopes"] == ["read"]
    lifetime = datetime.fromisoformat(session["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=29) < lifetime <= timedelta(days=30)

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.locator("#copied")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == key

    key_id = key.split("_")[1]
    page.locator(f"#rotate-{key_id}").click()
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.locator(f"#rotate-{key_id}").click()
    page.locator("#overlap").select_option("for an hour")
    page.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    expect(shown).not_to_have_value(key)
    successor = shown.input_value()
    expect(page.locator("#keys tr", has_text=key_id).locator(".badge")).to_have_text("replaced")
    assert [keyed.send("GET", "/v1/usage", each).status_code for each in (key, successor)] == [200, 200]

    page.on("dialog", lambda dialog: dialog.accept())
    page.locator(f"#revoke-{key_id}").click()
    expect(page.locator("#keys tr", has_text=key_id).locator(".badge")).to_have_text("revoked")
    assert [keyed.send("GET", "/v1/usage", each).status_code for each in (key, successor)] == [401, 200]
    # The key is shown only once.
    page.reload()
    expect(page.locator("#issued")).to_be_hidden()
    assert successor not in page.content()


def test_revoking_ones_own_key_ends_the_session(visit: Visit, keyed: KeyedApi) -> None:
    key = keyed.issued(["read", "manage"], tenant="leaving")
    page = visit.open("/keys")
    sign_in(visit, key["key"])
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator(f"#revoke-{key['id']}").click()
    expect(page.get_by_label("API key", exact=True)).to_be_visible()
