"""Load and response times of the page of a search with 2,000 points and 200 trials.

Chromium, 1280 x 900, on the machine that also runs the API. Load time is from the start of the navigation until the
front is painted and its controls respond (the page marks that after its first complete frame), first with an empty
cache, then with a warm one. The longest task is that of the main thread within two seconds after that, an upper bound
on the wait for a response. Then a budget is typed, and dominated points are hidden and shown. Each is timed from the
key press to the next frame, in the plot that comes with the page and in Plotly's, which loads once the pointer is on
the chart (`pointed`: seconds until then; no claim).

Goals: 1 s to load; 0.2 s for each response ("good" Interaction to Next Paint, web.dev/articles/inp).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, NamedTuple

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.harness import Claim, Report, run
from paretofit.core.settings import Settings
from paretofit.db import searches
from paretofit.db.engine import connect, transaction
from paretofit.db.ids import new_id
from paretofit.db.migrate import upgrade
from paretofit.db.tables import DatasetRow, EventRow, MetricRow, PointRow, SearchRow, TrialRow
from paretofit.launch.postgres import EmbeddedPostgres
from paretofit.launch.redis import EmbeddedRedis
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import SearchSpec

POINTS, TRIALS, STEPS, CURVES = 2000, 200, 300, 8
VISITS = 7
BUDGETS = ("200k", "2M", "500k", "5M", "1M", "3M", "800k")
PROFILE: dict[str, Any] = {
    "classes": [f"class {number}" for number in range(10)],
    "channels": 1,
    "image_size": [32, 32],
    "images": {"train": 54_000, "selection": 6_000, "report": 10_000},
    "mean": [0.3],
    "std": [0.3],
    "fingerprint": "f" * 64,
}
# Long tasks, which browsers define as over 50 ms.
TASKS = """
new PerformanceObserver((list) => (window.tasks ??= []).push(...list.getEntries().map(
  ({startTime, duration}) => [startTime, duration]))).observe({type: "longtask", buffered: true});
"""
MARKS = """
() => {
  const front = performance.getEntriesByName("front")[0].startTime;
  const blocked = (window.tasks ?? []).filter(([start, length]) => start + length > front).map(([, length]) => length);
  return [front, Math.max(0, ...blocked)].map((value) => value / 1000);
}
"""
# All dominated points are dots of one path.
SHOWN = """
() => document.querySelectorAll("#front-chart .scatterlayer .point").length
  + document.querySelector("#front-chart .layer-between .shapelayer path").getAttribute("d").match(/M/g).length
"""
ANSWER = """
([selector, act]) => new Promise((done) => {
  const element = document.querySelector(selector);
  const began = performance.now();
  if (act === null) element.click();
  else {
    element.value = act;
    element.dispatchEvent(new Event("input", {bubbles: true}));
  }
  requestAnimationFrame(() => setTimeout(() => done((performance.now() - began) / 1000)));
})
"""


def main() -> Report:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Chromium not found; install it with `apt-get install chromium`")
    with (
        tempfile.TemporaryDirectory() as home,
        _serving(Path(home)) as (url, search_id),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        served = [_served(f"{url}/searches/{search_id}") for _ in range(VISITS + 2)][2:]
        cold = [_first_visit(browser, f"{url}/searches/{search_id}") for _ in range(VISITS)]
        page = _new_page(browser)
        warm = [_drawn(page, f"{url}/searches/{search_id}") for _ in range(VISITS + 2)][2:]
        budgets, faded = _budgets(page), _faded(page)
        pointed = _pointed(page)
        budgets, faded = budgets + _budgets(page), faded + _faded(page)
        browser.close()
    claims = (
        Claim("first_visit_seconds", median(visit.front for visit in cold), goal=1.0, better="lower"),
        Claim("next_visit_seconds", median(visit.front for visit in warm), goal=1.0, better="lower"),
        Claim("longest_task_seconds", median(visit.blocked for visit in (*cold, *warm)), goal=0.2, better="lower"),
        Claim("budget_answers_seconds", max(budgets), goal=0.2, better="lower"),
        Claim("dominated_answers_seconds", max(faded), goal=0.2, better="lower"),
    )
    details: dict[str, Any] = {
        "served": _rounded(served),
        "cold": [_rounded(visit) for visit in cold],
        "warm": [_rounded(visit) for visit in warm],
        "budgets": _rounded(budgets),
        "dominated": _rounded(faded),
        "pointed": round(pointed, 3),
    }
    return Report("dashboard", claims, details)


class Visit(NamedTuple):
    """Seconds from the start of a navigation until the front responds, and the longest task after that."""

    front: float
    blocked: float


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 3) for value in values]


def _served(url: str) -> float:
    """Seconds to fetch the whole document without a browser."""
    began = time.perf_counter()
    httpx.get(url, timeout=60).raise_for_status()
    return time.perf_counter() - began


def _new_page(browser: Browser) -> Page:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(TASKS)
    return context.new_page()


def _first_visit(browser: Browser, url: str) -> Visit:
    page = _new_page(browser)
    try:
        return _drawn(page, url)
    finally:
        page.context.close()


def _drawn(page: Page, url: str) -> Visit:
    page.goto(url)
    page.wait_for_timeout(2000)
    dots = page.evaluate("document.querySelector('.plot path.dominated').getAttribute('d').match(/M/g).length")
    # Points at the same place are one dot.
    assert dots > 0.95 * POINTS, f"{dots} points are drawn instead of {POINTS}"
    return Visit(*page.evaluate(MARKS))


def _pointed(page: Page) -> float:
    """Seconds from hovering over the chart until Plotly has drawn it."""
    began = time.perf_counter()
    page.locator("#front-chart").hover()
    page.wait_for_function("() => performance.getEntriesByName('front-chart').length")
    taken = time.perf_counter() - began
    shown = page.evaluate(SHOWN)
    assert shown == POINTS, f"{shown} points are drawn instead of {POINTS}"
    return taken


def _budgets(page: Page) -> list[float]:
    return [float(page.evaluate(ANSWER, ["#budget", budget])) for budget in BUDGETS]


def _faded(page: Page) -> list[float]:
    return [float(page.evaluate(ANSWER, ["#dominated", None])) for _ in range(4)]


@contextmanager
def _serving(home: Path) -> Iterator[tuple[str, str]]:
    """Run an API with the search in its database. Yields its URL and the id of the search."""
    postgres, redis = EmbeddedPostgres(home / "postgres"), EmbeddedRedis(home / "redis")
    try:
        environment = {
            **os.environ,
            "PARETOFIT_HOME": str(home),
            "DATABASE_URL": postgres.start(),
            "REDIS_URL": redis.start(),
            "PARETOFIT_PORT": "0",
            "PARETOFIT_LOG_LEVEL": "WARNING",
        }
        url = Settings(database_url=environment["DATABASE_URL"]).sqlalchemy_url
        upgrade(url)
        search_id = _search(url)
        process = subprocess.Popen(
            [sys.executable, "-m", "paretofit.api"], env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1], search_id
        finally:
            process.terminate()
            process.wait()
    finally:
        redis.stop()
        postgres.stop()


def _search(url: str) -> str:
    """Insert a finished search with random points. Returns its id."""
    random = Random(0)
    engine = connect(url)
    began = datetime.now(UTC) - timedelta(hours=1)
    with transaction(engine) as session:
        dataset = DatasetRow(id=new_id("ds"), name="images", source={"kind": "upload"}, profile=PROFILE, options={})
        session.add(dataset)
        session.flush()
        body = {"name": "benchmark", "dataset_id": dataset.id, "method": {"kind": "mutualnet"}}
        spec = SearchSpec.model_validate(body).resolve(DatasetProfile.model_validate(PROFILE))
        created = {"candidates": {"configurations": POINTS, "feasible": POINTS, "macs": [1e5, 1e7]}}
        row = searches.insert(
            session, "default", spec=spec.model_dump(mode="json"), dataset_id=dataset.id, created=created
        )
        trials = [_trial(row.id, number, began) for number in range(TRIALS)]
        session.add_all(trials)
        session.flush()
        session.add_all(_point(row.id, trials[number % TRIALS].id, number, random) for number in range(POINTS))
        session.add_all(
            MetricRow(trial_id=trial.id, name="loss", step=step, value=2.3 / (1 + step))
            for trial in trials[-CURVES:]
            for step in range(STEPS)
        )
        first = row.event_seq
        session.add_all(
            EventRow(search_id=row.id, seq=first + 1 + number, type="trial.completed", data={"number": number})
            for number in range(TRIALS)
        )
        found = session.get_one(SearchRow, row.id)
        found.event_seq, found.front_seq = first + TRIALS, POINTS
        found.state, found.stop_reason, found.started_at = "succeeded", "completed", began
        found.finished_at = datetime.now(UTC)
        search_id = row.id
    engine.dispose()
    return search_id


def _trial(search_id: str, number: int, began: datetime) -> TrialRow:
    params = {"stage": "train", "width": number / TRIALS, "resolution": 32}
    ended = began + timedelta(seconds=10)
    return TrialRow(
        id=new_id("trl"),
        search_id=search_id,
        number=number,
        state="completed",
        params=params,
        progress=1.0,
        started_at=began,
        finished_at=ended,
    )


def _point(search_id: str, trial_id: str, number: int, random: Random) -> PointRow:
    macs = 10 ** random.uniform(5, 7)
    metrics = {
        "macs": macs,
        "params": macs / 30,
        "peak_activation_bytes": macs / 50,
        "selection_top1": 0.6 + 0.1 * random.random() * (macs / 1e5) ** 0.2,
    }
    record = {"config": {"width": 0.5, "resolution": 32}, "input_size": [32, 32]}
    return PointRow(
        id=new_id("pt"),
        search_id=search_id,
        trial_id=trial_id,
        key=f"w0.5-r32-{number}",
        metrics=metrics,
        record=record,
    )


if __name__ == "__main__":
    run(main)
