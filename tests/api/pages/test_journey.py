"""A whole search in the browser, from images to a checkpoint."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from random import Random
from statistics import mean
from uuid import uuid4

import httpx
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.api.pages.browser import Visit, visiting
from tests.launch.service import Service

COLORS = {"brick": (200, 90, 70), "grass": (80, 190, 70), "water": (50, 100, 210)}
PER_CLASS = 60
pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def visit(chromium: Browser, service: Service) -> Iterator[Visit]:
    with visiting(chromium, service.url) as visit:
        yield visit


def archive(path: Path) -> Path:
    """A zip archive of noisy squares, one folder per color."""
    random = Random(0)
    with zipfile.ZipFile(path, "w") as file:
        for name, color in COLORS.items():
            for number in range(PER_CLASS):
                image = Image.frombytes("RGB", (32, 32), random.randbytes(32 * 32 * 3))
                picture = BytesIO()
                Image.blend(image, Image.new("RGB", image.size, color), 0.6).save(picture, "PNG")
                file.writestr(f"{name}/{number}.png", picture.getvalue())
    return path


def add_dataset(visit: Visit, path: Path) -> str:
    """Submit an archive in the form and wait for the report. Returns the id of the dataset."""
    page = visit.open("/datasets")
    page.get_by_label("Name", exact=True).fill(f"colors {uuid4().hex}")
    page.get_by_label("Archive (zip or tar)").set_input_files(path)
    page.get_by_label("Image size (px)").fill("32")
    page.get_by_role("button", name="Add").click()
    page.wait_for_url(re.compile("/datasets/ds_"))
    expect(page.locator("#dataset .badge")).to_have_text("ready")
    expect(page.get_by_role("row", name="brick")).to_be_visible()
    sample = page.locator(".samples img").first
    sample.scroll_into_view_if_needed()
    page.wait_for_function("element => element.naturalWidth === 32", arg=sample.element_handle())
    return page.url.rpartition("/")[2]


def check_live_updates(page: Page) -> None:
    """The page of a running search updates itself until the search has ended."""
    page.evaluate("window.neverReloaded = true")
    expect(page.locator("#summary .badge")).to_have_text("succeeded")
    expect(page.locator("#front tr[data-point]").first).to_be_visible()
    expect(page.locator("#curves")).to_be_visible()
    expect(page.locator("#events")).to_contain_text("search.succeeded")
    assert page.evaluate("window.neverReloaded")


def test_user_gets_a_checkpoint_from_images(visit: Visit, service: Service, tmp_path: Path) -> None:
    dataset = add_dataset(visit, archive(tmp_path / "colors.zip"))
    page = visit.page
    page.get_by_role("link", name="New search with this dataset").click()
    page.get_by_label("Start from").select_option("tiny")
    page.wait_for_url(re.compile("preset=tiny"))
    expect(page.locator("#dataset-id")).to_have_value(dataset)
    estimate = page.locator("#estimate-result")
    expect(estimate).to_contain_text("Within the constraints")

    # An infeasible constraint is reported before the search is submitted.
    page.get_by_role("button", name="Add a constraint").click()
    with page.expect_response(lambda response: response.status == 422):
        page.get_by_label("At most").fill("10")
    expect(page.locator(".constraint .message")).to_contain_text("is not met by any network")
    visit.errors.clear()  # the browser logs the 422
    page.get_by_role("button", name="Remove").click()
    expect(estimate).to_contain_text("MACs")

    page.get_by_label("Name", exact=True).fill("in the browser")
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url(re.compile("/searches/srch_"))
    search_id = page.url.rpartition("/")[2]
    check_live_updates(page)

    front = httpx.get(f"{service.url}/v1/searches/{search_id}/front").json()
    budget = mean([best["bound"] for best in front["best_under"]["macs"]][-2:])
    expected = httpx.post(
        f"{service.url}/v1/searches/{search_id}/front/select",
        json={"constraints": [{"metric": "macs", "value": budget}]},
    ).json()
    page.locator("#budget").fill(str(budget))
    page.locator("#front-chart").hover()
    chosen = page.locator("#chosen-point")
    expect(chosen).to_have_text(expected["key"])
    expect(page.locator("#front-chart .layer-above .shapelayer path")).to_have_count(1)
    expect(page.locator("#front-chart .annotation")).to_contain_text(expected["key"])
    chosen.click()
    page.wait_for_url(re.compile(expected["id"]))

    with page.expect_download() as download:
        page.locator("#download").click()
    digest = hashlib.sha256(download.value.path().read_bytes()).hexdigest()
    assert digest == expected["artifact"]["sha256"] == page.locator("#sha256").inner_text()

    page.locator("#export-safetensors-float32").click()
    expect(page.locator("#exports .badge")).to_have_text("ready")
