"""Every page in a browser: it obeys the content security policy, passes axe-core and fits a phone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import Engine, update

from paretofit.db.engine import transaction
from paretofit.db.tables import MetricRow, PointRow, WeightsRow
from tests.api import rows
from tests.api.pages.browser import DESKTOP, PHONE, Scheme, violations, visiting, wait_for_charts
from tests.api.process import Api, running
from tests.api.test_exports import RECORD
from tests.api.test_weights import FILE
from tests.db import rows as workers

pytestmark = pytest.mark.integration

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
    "/weights",
    "/weights/{weights}",
    "/searches/new?dataset={dataset}&weights={weights}",
    "/workers",
    "/keys",
)


@pytest.fixture(scope="module")
def resources(stored: Engine) -> dict[str, str]:
    """Ids of the resources on the pages, such as two searches with points, one of which has finished."""
    dataset = rows.ready_dataset(stored, report={"class_counts": {"train": {"bag": 500}}, "corrupt": ["x.png"]})
    ids = {"dataset": dataset, "search": rows.search(stored, dataset, labels={"team": "vision"})}
    ids["weights"] = workers.add_weights(stored, name="from elsewhere")
    ids["other"] = rows.search(stored, dataset)
    began = datetime.now(UTC)
    ids["trial"] = rows.trial(stored, ids["search"], params={"stage": "train"}, started_at=began, finished_at=began)
    file = rows.artifact(stored, ids["search"], ids["trial"], name="w.safetensors", sha256="a" * 64, size=1)
    ids["point"] = rows.point(
        stored, ids["search"], ids["trial"], "w0.5", artifact_id=file, **RECORD["metrics"], params=9e4
    )
    rows.point(stored, ids["search"], ids["trial"], "w1", macs=5e6, params=2e5, selection_top1=0.9, artifact_id=file)
    rows.point(stored, ids["search"], ids["trial"], "worse", macs=5e6, params=2e5, selection_top1=0.5)
    rows.point(stored, ids["search"], ids["trial"], "alone", macs=4e6, selection_top1=0.7, role="baseline")
    rows.point(stored, ids["other"], rows.trial(stored, ids["other"]), "w1", macs=3e6, selection_top1=0.8)
    with transaction(stored) as session:
        session.execute(update(PointRow).where(PointRow.id == ids["point"]).values(record=RECORD))
    rows.set_search(stored, ids["other"], state="succeeded", stop_reason="completed", started_at=began)
    return ids


@pytest.mark.parametrize("path", PAGES)
def test_pages_are_accessible_and_fit_the_screen(
    chromium: Browser, api: Api, resources: dict[str, str], path: str
) -> None:
    url = str(api.http.base_url).rstrip("/")
    views: tuple[tuple[tuple[int, int], Scheme], ...] = ((DESKTOP, "light"), (PHONE, "dark"))
    for size, scheme in views:
        with visiting(chromium, url, size=size, scheme=scheme) as visit:
            page = visit.open(path.format(**resources))
            wait_for_charts(page)
            assert violations(page) == []
            too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.evaluate(too_wide) == 0, f"{path} is wider than {size[0]} pixels"


def test_content_and_front_are_reachable_by_keyboard(chromium: Browser, api: Api, resources: dict[str, str]) -> None:
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open(f"/searches/{resources['search']}")
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


def test_joint_front_of_a_dataset_is_drawn_over_any_axis(chromium: Browser, api: Api, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored)
    for name, macs, accuracy in (("<b>one</b>", 1e6, 0.7), ("two", 4e6, 0.8), ("three", 5e6, 0.6)):
        search = rows.search(stored, dataset, name=name)
        trial = rows.trial(stored, search)
        file = rows.artifact(stored, search, trial, name="w", sha256="a" * 64, size=1)
        rows.point(stored, search, trial, "net", macs=macs, params=1e5, selection_top1=accuracy, artifact_id=file)
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open(f"/datasets/{dataset}")
        expect(page.locator("#front tbody tr[data-point]")).to_have_count(2)
        wait_for_charts(page)
        page.locator("#budget").fill("2M")
        expect(page.locator("#chosen")).to_contain_text("70.00 % at 1.00M")
        page.locator("#dominated-points summary").click()
        expect(page.locator("#dominated-points tbody tr")).to_have_count(1)
        expect(page.locator("#dominated-points tbody td a")).to_have_text("three")
        assert violations(page) == []
        page.locator("#axis").select_option("params")
        page.locator('#front[data-drawn-over="params"]').wait_for()
        expect(page.locator("#front tbody tr[data-point]")).to_have_count(1)
        expect(page.locator("#budget")).to_have_value("")


def test_choices_made_before_the_script_loads_are_kept(chromium: Browser, api: Api, resources: dict[str, str]) -> None:
    url = str(api.http.base_url).rstrip("/")
    held: list[Route] = []
    with visiting(chromium, url) as visit:
        visit.page.route(re.compile("new_search.*[.]js"), lambda route: held.append(route), times=1)
        with visit.page.expect_request(re.compile("new_search.*[.]js")):
            visit.page.goto(f"{url}/searches/new?dataset={resources['dataset']}", wait_until="commit")
        visit.page.get_by_label("Start from").select_option("tiny")
        [module] = held
        module.continue_()
        visit.page.wait_for_url(re.compile("preset=tiny"))
        assert visit.page.locator("#dataset-id").input_value() == resources["dataset"]


def test_majority_class_is_a_line_in_both_charts(chromium: Browser, api: Api, stored: Engine) -> None:
    search = rows.search(stored, rows.ready_dataset(stored, report={"class_counts": rows.COUNTS}))
    trial = rows.trial(stored, search)
    rows.point(stored, search, trial, "small", macs=1e6, params=1e5, selection_top1=0.3, top1=0.3)
    rows.point(stored, search, trial, "large", macs=5e6, params=1e5, selection_top1=0.41, top1=0.36)
    rows.end(stored, search)
    url = str(api.http.base_url).rstrip("/")
    with visiting(chromium, url) as visit:
        page = visit.open(f"/searches/{search}")
        expect(page.locator("#summary .warning")).to_contain_text("always answering 'boot' reaches 35.0 %")
        assert violations(page) == []
        static_height = _height(page, "line.majority")
        wait_for_charts(page)
        expect(page.locator("#front-chart .picture")).to_have_count(0)
        # The margins of the two charts differ by a few pixels.
        assert abs(static_height - _height(page, ".layer-below .shapelayer path")) < 25
        assert visit.open("/searches").locator(".badge.warning").first.inner_text() == "at chance"
        assert violations(page) == []


def _height(page: Page, mark: str) -> float:
    """The distance of the only such mark from the upper edge of the front chart, in pixels."""
    line = page.locator(f"#front-chart {mark}")
    expect(line).to_have_count(1)
    chart, box = page.locator("#front-chart").bounding_box(), line.bounding_box()
    assert chart is not None
    assert box is not None
    return box["y"] - chart["y"]


def test_front_is_drawn_without_scripts(chromium: Browser, api: Api, resources: dict[str, str]) -> None:
    url = str(api.http.base_url).rstrip("/")
    with visiting(chromium, url, scripts=False) as visit:
        page = visit.open(f"/searches/{resources['search']}")
        expect(page.locator("#front-chart .plot")).to_be_visible()
        assert [page.locator(f".plot path.{name}").get_attribute("d") != "" for name in ("dominated", "front")] == [
            True
        ] * 2
    with visiting(chromium, url) as visit:
        page = visit.open(f"/searches/{resources['search']}")
        assert violations(page) == []
        page.locator("#budget").fill("2M")
        expect(page.locator("#front-chart .bound:not([hidden])")).to_have_count(1)
        expect(page.locator("#front-chart .chosen")).to_be_visible()
        page.locator("#dominated").uncheck()
        expect(page.locator("#front-chart path.dominated")).to_be_hidden()
        expect(page.locator("#front-chart path.front")).to_be_visible()
        wait_for_charts(page)
        expect(page.locator("#front-chart .picture")).to_have_count(0)
        dots = page.locator("#front-chart .layer-between .shapelayer path")
        tooltip = page.locator("#front-chart .hovertext")
        expect(dots).to_have_count(0)
        page.locator("#dominated").check()
        expect(dots).to_have_count(1)
        assert (dots.get_attribute("d") or "").count("M") == 1
        # A dominated point has a tooltip only while it is visible.
        box = dots.bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        expect(tooltip).to_contain_text("worse")
        page.locator("#dominated").uncheck()
        page.mouse.move(x, y)
        expect(tooltip).to_have_count(0)


@pytest.mark.parametrize(
    ("path", "field"),
    [("/searches/new?dataset={dataset}", "#name"), ("/datasets", "[name=name]"), ("/keys", "#name")],
)
def test_form_is_not_submitted_before_its_script_loads(
    chromium: Browser, api: Api, resources: dict[str, str], path: str, field: str
) -> None:
    with visiting(chromium, str(api.http.base_url).rstrip("/"), scripts=False) as visit:
        page = visit.open(path.format(**resources))
        before = page.url
        page.locator(field).fill("early")
        page.keyboard.press("Enter")
        page.wait_for_timeout(100)
        assert page.url == before
        assert page.locator(field).input_value() == "early"


def test_search_is_edited(chromium: Browser, api: Api, stored: Engine, resources: dict[str, str]) -> None:
    search = rows.search(
        stored, resources["dataset"], name="before", labels={"team": "vision", "a=b": "x, y", "old": "1"}
    )
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open(f"/searches/{search}")
        page.get_by_text("Edit", exact=True).click()
        page.get_by_label("Name", exact=True).fill("after")
        labels = page.get_by_role("textbox", name="Labels")
        expect(labels).to_have_value('"a=b"="x, y", old=1, team=vision')
        labels.fill('team=vision, "a=b"="x, y", new=a=b c')
        page.get_by_label("Max wall time (s)").fill("3600")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.get_by_role("heading", name="after")).to_be_visible()
        changed = api.http.get(f"/v1/searches/{search}").json()
        assert changed["labels"] == {"team": "vision", "a=b": "x, y", "new": "a=b c"}
        assert changed["limits"]["max_wall_seconds"] == 3600
        assert changed["limits"]["max_trials"] is None

        # A limit is removed; an invalid label is reported at its input.
        page.get_by_text("Edit", exact=True).click()
        page.get_by_label("Max wall time (s)").fill("")
        page.get_by_role("textbox", name="Labels").fill("team")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.locator("#change .message")).to_contain_text("Invalid label team: write name=value")
        page.get_by_role("textbox", name="Labels").fill("team=vision")
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.locator("body")).not_to_contain_text("new: a=b c")
        assert api.http.get(f"/v1/searches/{search}").json()["limits"]["max_wall_seconds"] is None


def test_dataset_is_added_from_a_url(chromium: Browser, api: Api) -> None:
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open("/datasets")
        page.get_by_label("Archive at a URL").check()
        expect(page.get_by_label("Archive (zip or tar)", exact=True)).to_be_hidden()
        page.get_by_label("Name", exact=True).fill("from afar")
        page.get_by_label("URL of the archive").fill("https://images.example/some.zip")
        page.get_by_label("SHA-256").fill("AB" * 32)
        page.get_by_role("button", name="Add").click()
        page.wait_for_url("**/datasets/ds_*")
        expect(page.locator("#dataset")).to_contain_text("https://images.example/some.zip")
        dataset = api.http.get(f"/v1/datasets/{page.url.rpartition('/')[2]}").json()
        assert dataset["source"] == {"kind": "url", "url": "https://images.example/some.zip", "sha256": "ab" * 32}


def test_dataset_is_added_from_a_bucket(
    chromium: Browser, api: Api, tmp_path: Path, database_url: str, redis_url: str
) -> None:
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        expect(visit.open("/datasets").get_by_label("Archive in an S3 bucket")).to_have_count(0)
    with (
        running(tmp_path, database_url, redis_url, PARETOFIT_S3_SOURCES="s3://shared/{tenant}/") as opened,
        visiting(chromium, str(opened.http.base_url).rstrip("/")) as visit,
    ):
        page = visit.open("/datasets")
        page.get_by_label("Archive in an S3 bucket").check()
        expect(page.locator("#archive-help")).to_contain_text("In s3://shared/default/.")
        page.get_by_label("Name", exact=True).fill("from a bucket")
        page.get_by_label("S3 URL of the archive").fill("s3://shared/default/some.zip")
        page.get_by_role("button", name="Add").click()
        page.wait_for_url("**/datasets/ds_*")
        dataset = opened.http.get(f"/v1/datasets/{page.url.rpartition('/')[2]}").json()
        assert (dataset["source"]["kind"], dataset["source"]["url"]) == ("s3", "s3://shared/default/some.zip")


def test_weights_are_added_from_a_file(chromium: Browser, api: Api, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(FILE)
    (tmp_path / "model.safetensors").write_bytes(b"PK" + FILE)
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open("/weights")
        page.get_by_label("Safetensors file").check()
        expect(page.locator("[name=published]")).to_be_hidden()
        page.get_by_label("File (safetensors)").set_input_files(tmp_path / "model.safetensors")
        expect(page.get_by_label("Name", exact=True)).to_have_value("model")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("alert")).to_contain_text("paretofit weights add FILE")
        visit.errors.clear()  # the browser logs the 415
        page.get_by_label("File (safetensors)").set_input_files(tmp_path / "mine.safetensors")
        page.get_by_label("License of the weights").fill("CC0")
        page.get_by_role("button", name="Add").click()
        page.wait_for_url("**/weights/wts_*")
        expect(page.locator("#weights .badge")).to_have_text("converting")
        weights = api.http.get(f"/v1/weights/{page.url.rpartition('/')[2]}").json()
        assert (weights["name"], weights["options"]["licence"]) == ("mine", "CC0")
        assert weights["source"]["size"] == len(FILE)


def test_published_weights_are_added_by_name(chromium: Browser, api: Api) -> None:
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open("/weights")
        page.locator("[name=published]").select_option("resnet18")
        expect(page.get_by_label("Name", exact=True)).to_have_value("resnet18")
        page.get_by_role("button", name="Add").click()
        page.wait_for_url("**/weights/wts_*")
        weights = api.http.get(f"/v1/weights/{page.url.rpartition('/')[2]}").json()
        assert weights["source"] == {"kind": "named", "name": "resnet18"}


def test_search_starts_from_selected_weights(
    chromium: Browser, api: Api, stored: Engine, resources: dict[str, str]
) -> None:
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open(f"/weights/{resources['weights']}")
        page.get_by_role("link", name="New search from these weights").click()
        chosen = page.get_by_label("Trained weights")
        expect(chosen.locator("option:checked")).to_have_text("from elsewhere (fd_mobilenet x 0.25)")
        page.locator("#dataset-id").select_option(resources["dataset"])
        page.locator("#name").fill("started")
        page.get_by_role("button", name="Start the search").click()
        page.wait_for_url("**/searches/srch_*")
        spec = api.http.get(f"/v1/searches/{page.url.rpartition('/')[2]}").json()["spec"]
        assert spec["method"]["start"]["weights"] == resources["weights"]
        # Published weights are fetched first.
        page = visit.open(f"/searches/new?dataset={resources['dataset']}")
        with page.expect_response(
            lambda response: response.request.method == "POST" and "/weights" in response.url
        ) as added:
            page.get_by_label("Trained weights").select_option(label="resnet34 (resnet34 x 1)")
        expect(page.locator("#start-help")).to_contain_text("Fetching resnet34")
        fetched = added.value.json()
        with transaction(stored) as session:
            values = {"state": "ready", "sha256": "d" * 64, "size": 9, "record": workers.RECORD}
            session.execute(update(WeightsRow).where(WeightsRow.id == fetched["id"]).values(**values))
        expect(page.locator("#start-help")).to_contain_text("resnet34 is ready")
        expect(page.locator("#estimate-result")).to_contain_text("Within the constraints")
        visit.open("/searches/new?method=scalenet")
        expect(page.get_by_label("Trained weights")).to_have_count(0)


def test_curves_of_every_trial_can_be_selected(
    chromium: Browser, api: Api, stored: Engine, resources: dict[str, str]
) -> None:
    search = rows.search(stored, resources["dataset"])
    early, *later = [rows.trial(stored, search, number) for number in range(11)]
    with transaction(stored) as session:
        session.add_all(MetricRow(trial_id=early, name="stretch", step=step, value=step) for step in range(5))
        session.add_all(MetricRow(trial_id=trial, name="loss", step=1, value=0.5) for trial in (early, *later))
    with visiting(chromium, str(api.http.base_url).rstrip("/")) as visit:
        page = visit.open(f"/searches/{search}")
        chooser, lines = page.locator("#curves-metric"), page.locator("#curves-table tbody tr")
        expect(chooser).to_have_value("loss")
        expect(lines).to_have_count(8)
        expect(lines.first).to_contain_text("Trial 3")
        chooser.select_option("stretch")
        expect(lines).to_have_count(1)
        expect(lines).to_contain_text("Trial 0")
