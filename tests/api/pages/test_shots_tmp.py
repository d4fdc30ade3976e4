"""Screenshots of the sign-in and keys pages, in a fixture-run (pytest)."""
from tests.api.keys import BOOTSTRAP
from tests.api.pages.browser import DESKTOP, PHONE, visiting
from tests.api.pages.conftest import chromium
from tests.api.conftest import keyed

def test_shots(chromium, keyed):
    keyed.issued(["read","write","manage"]); k=keyed.issued(["read"], name="continuous integration"); keyed.send("DELETE", f"/v1/api-keys/{k['id']}"); keyed.issued(["read"], name="notebook of Ada", expires_in_seconds=86400)
    url=str(keyed.api.http.base_url).rstrip("/")
    for size,scheme,tag in ((DESKTOP,"light","light"),(DESKTOP,"dark","dark"),(PHONE,"light","phone"),(PHONE,"dark","phonedark")):
        with visiting(chromium,url,size=size,scheme=scheme) as v:
            p=v.open("/keys"); p.screenshot(path=f"/tmp/h/signin/signin-{tag}.png")
            p.get_by_label("API key").fill("x"); p.keyboard.press("Enter"); p.locator("#key-refused:not(:empty)").wait_for()
            p.screenshot(path=f"/tmp/h/signin/refused-{tag}.png")
            p.get_by_label("API key").fill(BOOTSTRAP); p.keyboard.press("Enter")
            p.locator("#name").fill("robot"); p.screenshot(path=f"/tmp/h/signin/keys-{tag}.png", full_page=True)
            p.get_by_role("button", name="Make the key").click(); p.locator("#issued").wait_for(); p.screenshot(path=f"/tmp/h/signin/issued-{tag}.png")
            p.locator("[data-rotate]").first.click(); p.screenshot(path=f"/tmp/h/signin/rotate-{tag}.png")
            print(tag, v.complaints, p.evaluate("document.documentElement.scrollWidth")); v.complaints.clear()
