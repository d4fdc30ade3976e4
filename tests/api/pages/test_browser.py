"""Every page in a browser: nothing is against the policy, axe-core finds nothing serious, and it fits a phone."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Route
from sqlalchemy import Engine, update

from db.engine import transaction
from db.tables import PointRow
from tests.api import rows
from tests.api.pages.browser import DESKTOP, PHONE, Scheme, violations, visiting
from tests.api.process import Api
from tests.api.test_exports import RECORD

PAGES = (
    "/searches",
    "/searches/new?dataset={dataset}&preset=tiny",
    "/searches/new?method=scalenet&dataset={dataset}",
    "/searches/{search}",
    "/trials/{trial}",
    "/points/{point}",
    "/compare?search={search}&search={other}",
    "/datasets",
    "/datasets/{dataset}",
    "/workers",
    "/keys",
)


@pytest.fixture(scope="module")
def made(stored: Engine) -> dict[str, str]:
    """Ids of what the pages show: two searches with points, one of which runs."""
    dataset = rows.ready_dataset(stored, report={"class_counts": {"train": {"bag": 500}}, "corrupt": ["x.png"]})
    ids = {"dataset": dataset, "search": rows.search(stored, dataset, labels={"team": "vision"})}
    ids["other"] = rows.search(stored, dataset)
    began = datetime.now(UTC)
    ids["trial"] = rows.trial(stored, ids["search"], params={"stage": "train"}, started_at=began, finished_at=began)
    file = rows.artifact(stored, ids["search"], ids["trial"], name="w.safetensors", sha256="a" * 64, size=1)
    ids["point"] = rows.point(
        stored, ids["search"], ids["trial"], "w0.5", artifact_id=file, **RECORD["metrics"], params=9e4
    )
    rows.point(stored, ids["search"], ids["trial"], "w1", macs=5e6, params=2e5, selection_top1=0.9)
    rows.point(stored, ids["search"], ids["trial"], "worse", macs=5e6, params=2e5, selection_top1=0.5)
    rows.point(stored, ids["search"], ids["trial"], "alone", macs=4e6, selection_top1=0.7, role="baseline")
    rows.point(stored, ids["other"], rows.trial(stored, ids["other"]), "w1", macs=3e6, selection_top1=0.8)
    with transaction(stored) as session:
        session.execute(update(PointRow).where(PointRow.id == ids["point"]).values(record=RECORD))
    rows.set_search(stored, ids["other"], state="succeeded", stop_reason="completed", started_at=began)
    return ids


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_for_everybody(chromium: Browser, api: Api, made: dict[str, str], path: str) -> None:
    url = str(api.http.base_url).rstrip("/")
    looks: tuple[tuple[tuple[int, int], Scheme], ...] = ((DESKTOP, "light"), (PHONE, "dark"))
    for size, scheme in looks:
        with visiting(chromium, url, size=size, scheme=scheme) as visit:
            page = visit.open(path.format(**made))
            assert violations(page) == []
            too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(too_wide) == 0, f"{path} is wider than {size[0]} pixels"


def test_a_keyboard_reaches_the_content_and_the_front(chromium: Browser, api: Api, made: dict[str, str]) -> None:
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open(f"/searches/{made['search']}")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page.locator("#axis").focus()
        page.keyboard.press("p")
        page.locator('#front[data-drawn-over="params"]').wait_for()
        assert page.evaluate("document.activeElement.id") == "axis"
        page.keyboard.press("Tab")
        page.keyboard.type("100k")
        assert "w0.5" in page.locator("#chosen").inner_text()


def test_what_is_chosen_before_the_page_s_module_runs_counts(chromium: Browser, api: Api, made: dict[str, str]) -> None:
    url = str(api.http.base_url).rstrip("/")
    held: list[Route] = []
    with visiting(chromium, url) as visit:
        visit.page.route(re.compile("new_search.*[.]js"), lambda route: held.append(route), times=1)
        with visit.page.expect_request(re.compile("new_search.*[.]js")):
            visit.page.goto(f"{url}/searches/new?dataset={made['dataset']}", wait_until="commit")
        visit.page.get_by_label("Start from").select_option("tiny")
        [module] = held
        module.continue_()
        visit.page.wait_for_url(re.compile("preset=tiny"))
        assert visit.page.locator("#dataset-id").input_value() == made["dataset"]
