"""The HTML of the pages: content, headers, compression and errors."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, update

from paretofit.api.pages import assets
from paretofit.api.pages.rendering import _machine
from paretofit.db.engine import transaction
from paretofit.db.tables import LogRow, PointRow
from tests.api import rows
from tests.api.keys import KeyedApi, keyed_api
from tests.api.test_exports import RECORD

INLINE = re.compile(
    r"<script(?![^>]*\b(src|type=\"application/json\"))|<style|\sstyle=|\son[a-z]+=|javascript:", re.IGNORECASE
)
FOREIGN = re.compile(r"(?:src|href|action)=\"(?:https?:)?//")


@pytest.mark.parametrize(
    ("description", "summary"),
    [
        ({"torch": "2.9", "cores": 1, "processor": "AMD EPYC"}, "AMD EPYC, 1 core, torch 2.9"),
        ({"host": "box", "threads": 2, "devices": {"torch-cpu-1t": {}}}, "box, 2 threads"),
        ({"gpus": ["L4", "T4"], "threads": None}, "L4 and T4"),
    ],
)
def test_machine_is_summarized(description: dict[str, Any], summary: str) -> None:
    assert _machine(description) == summary


@pytest.fixture
def search_id(stored: Engine) -> str:
    search_id = rows.search(stored, rows.ready_dataset(stored), name="<b>bold</b>", labels={"team": "a&b"})
    trial_id = rows.trial(stored, search_id)
    rows.point(stored, search_id, trial_id, "small", macs=1e6, params=1e5, selection_top1=0.7)
    rows.point(stored, search_id, trial_id, "large", macs=5e6, params=1e5, selection_top1=0.8)
    return search_id


def test_pages_load_no_inline_or_foreign_code(http: httpx.Client, search_id: str) -> None:
    for path in (
        "/searches",
        "/searches/new",
        f"/searches/{search_id}",
        "/compare",
        "/datasets",
        "/weights",
        "/workers",
        "/keys",
    ):
        response = http.get(path)
        assert response.status_code == 200
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
        assert "unsafe" not in policy
        assert not INLINE.search(response.text), path
        assert not FOREIGN.search(response.text), path


def test_root_redirects_to_the_searches(http: httpx.Client) -> None:
    assert http.get("/").headers["location"] == "/searches"


def test_user_text_is_escaped(http: httpx.Client, search_id: str) -> None:
    for path in ("/searches", f"/searches/{search_id}", f"/searches/new?from={search_id}"):
        text = http.get(path).text
        assert "<b>bold</b>" not in text
        assert "&lt;b&gt;bold&lt;/b&gt;" in text


def test_dataset_page_lists_classes_missing_from_a_split(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored, report={"missing_classes": {"report": ["hat", "t<shirt"]}})
    text = http.get(f"/datasets/{dataset}").text
    assert "Classes without images in the report split: hat, t&lt;shirt" in text
    assert "Classes without images in the selection split" not in text


def test_dataset_page_shows_the_best_known_networks(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored, report={"class_counts": rows.COUNTS})
    empty = http.get(f"/datasets/{dataset}").text
    assert "No search of this dataset has a network with a checkpoint yet." in empty
    assert 'id="front"' not in empty
    ids = {}
    for name, macs, accuracy in (("<i>first</i>", 1e6, 0.7), ("second", 5e6, 0.8), ("worse", 6e6, 0.6)):
        search = rows.search(stored, dataset, name=name, constraints=[{"metric": "macs", "value": 2e6}])
        trial = rows.trial(stored, search)
        file = rows.artifact(stored, search, trial, name="w", sha256="1" * 64, size=9)
        ids[name] = (
            search,
            rows.point(stored, search, trial, "net", macs=macs, params=1e5, selection_top1=accuracy, artifact_id=file),
        )
    text = http.get(f"/datasets/{dataset}").text
    assert '<h2 id="front-heading">Best known for this data</h2>' in text
    assert f'data-part="/datasets/{dataset}/parts/front"' in text
    table = text[text.index('aria-label="Points of the front, table"') :].partition("</table>")[0]
    assert re.findall('data-point="([^"]+)"', table) == [ids["<i>first</i>"][1], ids["second"][1]]
    link = f'<a href="/searches/{ids["second"][0]}">second</a>'
    assert f"{link} <small>mutualnet, violates a constraint of its search</small>" in table
    assert "&lt;i&gt;first&lt;/i&gt;" in table
    assert "Always boot" in table
    assert text.count("violates a constraint") == 1
    assert "1 dominated point as a table" in text
    assert "Query table" not in text
    part = http.get(f"/datasets/{dataset}/parts/front?x=params").text
    assert "<html" not in part
    assert re.findall('data-point="([^"]+)"', part) == [ids["second"][1]]
    assert 'drawn-over="params"' in part
    device = {"metric": "latency_ms", "device": "onnxruntime-cpu-1t", "value": 5}
    rows.search(stored, dataset, constraints=[device])
    unmeasured = http.get(f"/datasets/{dataset}?x=latency_ms:onnxruntime-cpu-1t").text
    assert "No network with a checkpoint has this cost yet." in unmeasured
    assert 'id="axis"' in unmeasured
    assert "Best known for clothes" in http.get(f"/compare?search={ids['second'][0]}").text


def test_unknown_axis_of_a_joint_front_is_rejected(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored)
    for path in (f"/datasets/{dataset}", f"/datasets/{dataset}/parts/front"):
        response = http.get(f"{path}?x=latency_ms:none")
        assert response.status_code == 422
        assert "choose one of macs, params, peak_activation_bytes" in response.text


def test_repeated_search_keeps_its_device(http: httpx.Client, stored: Engine) -> None:
    # No worker offers the device.
    bound = {"metric": "latency_ms", "device": "onnxruntime-cpu-1t", "value": 2.5}
    search = rows.search(stored, rows.ready_dataset(stored), constraints=[bound], labels={"a=b": 'c, "d"'})
    text = http.get(f"/searches/new?from={search}").text
    assert '<option value="latency_ms:onnxruntime-cpu-1t" selected>' in text
    assert 'value="2.5"' in text
    assert 'value="&#34;a=b&#34;=&#34;c, \\&#34;d\\&#34;&#34;"' in text


def test_families_are_offered_as_choices(http: httpx.Client) -> None:
    chosen = http.get("/searches/new?method=mutualnet").text.partition('id="field-method-family"')[2]
    options = chosen.partition("</select>")[0]
    assert "mobilenet_v2</option>" in options
    assert "shufflenet_v1" not in options, "its width cannot be reduced"
    several = http.get("/searches/new?method=fd_mobilenet").text.partition('id="field-method-families"')[2]
    assert "shufflenet_v1</label>" in several.partition("</fieldset>")[0]


def test_times_are_relative_with_the_full_time_on_hover(http: httpx.Client, search_id: str) -> None:
    text = http.get(f"/searches/{search_id}").text
    assert re.search(r'<time datetime="[^"]+" title="\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC">just now</time>', text)
    assert '<td class="long">Search accepted.</td>' in text


def test_searches_are_filtered(http: httpx.Client, stored: Engine, search_id: str) -> None:
    other = rows.search(stored, rows.ready_dataset(stored), name="other")
    rows.set_search(stored, other, state="failed", error={"code": "error", "detail": "broken"})
    assert other in http.get("/searches?state=failed").text
    assert search_id not in http.get("/searches?state=failed").text
    assert search_id in http.get("/searches?label=team:a%26b").text
    assert "No search matches" in http.get("/searches?label=nobody").text
    colons = rows.search(stored, rows.ready_dataset(stored), labels={"k8s:app": "v:1"})
    for label in ("k8s:app", "k8s:app:v:1"):
        assert colons in http.get("/searches", params={"label": label}).text
    assert colons not in http.get("/searches?label=k8s:app:v").text
    assert "broken" in http.get(f"/searches/{other}").text


def test_search_page_is_served_in_parts(http: httpx.Client, search_id: str) -> None:
    progress = http.get(f"/searches/{search_id}/parts/progress").text
    assert 'id="summary"' in progress
    assert "<html" not in progress
    over_macs, over_params = (http.get(f"/searches/{search_id}/parts/front?x={x}").text for x in ("macs", "params"))
    assert re.findall('data-point="', over_macs) == ['data-point="'] * 2
    assert len(re.findall('data-point="', over_params)) == 1


def test_result_at_chance_is_shown_prominently(http: httpx.Client, stored: Engine) -> None:
    dataset = rows.ready_dataset(stored, report={"class_counts": rows.COUNTS})
    searches = []
    for top1 in (0.36, 0.9):
        search_id = rows.search(stored, dataset)
        rows.point(stored, search_id, rows.trial(stored, search_id), "k", macs=1e6, selection_top1=top1, top1=top1)
        assert "problem warning" not in http.get(f"/searches/{search_id}").text
        rows.end(stored, search_id)
        searches.append(search_id)
    chance, better = searches
    text = http.get(f"/searches/{chance}").text
    notice = text[text.index('<p class="problem warning">') :].partition("</p>")[0]
    assert "always answering &#39;boot&#39; reaches 35.0 %" in notice
    assert "start from trained weights (<code>start</code>)" in notice
    assert "at_chance" in notice
    assert "problem warning" not in http.get(f"/searches/{better}").text
    listed = http.get("/searches").text
    badge = '<span class="badge warning"'
    for search_id, shown in ((chance, True), (better, False)):
        row = listed[listed.index(f'id="pick-{search_id}"') :].partition("</tr>")[0]
        assert (badge in row) == shown
    assert (">at chance</span>" in http.get(f"/compare?search={chance}").text) is True
    assert badge not in http.get(f"/compare?search={better}").text


def test_majority_class_is_shown_with_the_front(http: httpx.Client, stored: Engine) -> None:
    search_id = rows.search(stored, rows.ready_dataset(stored, report={"class_counts": rows.COUNTS}))
    trial = rows.trial(stored, search_id)
    for number, accuracy in enumerate((0.36, 0.9)):
        rows.point(stored, search_id, trial, f"k{number}", macs=1e6 * (number + 1), selection_top1=accuracy)
    for path in (f"/searches/{search_id}", f"/searches/{search_id}/parts/front"):
        text = http.get(path).text
        row = text[text.index('<tr class="majority">') :].partition("</tr>")[0]
        assert "Always boot" in row
        assert row.index("40.00 %") < row.index("35.00 %")
        assert '<span class="majority">majority class 40.00 %</span>' in text
        assert '<line class="majority"' in text
        assert '"majority": 0.4' in text
    uncounted = rows.search(stored, rows.ready_dataset(stored))
    assert "majority class" not in http.get(f"/searches/{uncounted}").text


def test_failed_trial_shows_its_error_code_and_explanation(http: httpx.Client, stored: Engine, search_id: str) -> None:
    error = {"code": "not_learning", "detail": "the training accuracy stays at 14.0 %"}
    trial = rows.trial(stored, search_id, 3, state="failed", error=error)
    shown = "the training accuracy stays at 14.0 % <code>not_learning</code>"
    assert shown in http.get(f"/searches/{search_id}").text
    text = http.get(f"/trials/{trial}").text
    assert shown in text
    assert "The training learned nothing beyond the frequencies of the classes" in text


def test_trial_shows_the_end_of_its_log(http: httpx.Client, stored: Engine, search_id: str) -> None:
    trial = rows.trial(stored, search_id, 2)
    with transaction(stored) as session:
        session.add_all(LogRow(trial_id=trial, epoch=1, stream="stderr", line=f"line {n}.") for n in range(501))
    text = http.get(f"/trials/{trial}").text
    assert "line 0." not in text
    assert text.index("line 1.") < text.index("line 500.")
    assert "The last 500 lines" in text


def test_point_shows_only_its_own_pictures(http: httpx.Client, stored: Engine, search_id: str) -> None:
    trial, key = rows.trial(stored, search_id, 1), RECORD["key"]
    point = rows.point(stored, search_id, trial, key, **RECORD["metrics"])
    with transaction(stored) as session:
        session.execute(update(PointRow).where(PointRow.id == point).values(record=RECORD))
    shown, *others = [
        rows.artifact(stored, search_id, trial, name=name, sha256="5" * 64, size=9)
        for name in (f"{key}.shape.svg", f"{key}.shape.json", f"{key}b.shape.svg")
    ]
    text = http.get(f"/points/{point}").text
    assert f'src="/artifacts/{shown}/picture" alt="{key}: sizes over the training"' in text
    assert not any(other in text for other in others)


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/searches/none", 404, "no search &#39;none&#39;"),
        ("/points/none", 404, "no point"),
        ("/trials/none", 404, "no trial"),
        ("/datasets/none", 404, "no dataset"),
        ("/datasets/none/parts/front", 404, "no dataset"),
        ("/weights/none", 404, "no weights"),
        ("/searches/new?method=none", 404, "choose one of"),
        ("/searches/new?preset=none", 404, "choose one of"),
        ("/compare?x=none", 422, "choose one of"),
        ("/searches?cursor=none", 422, ""),
        ("/artifacts/none/picture", 404, "no artifact"),
        ("/datasets/none/samples/many", 422, "invalid value for row"),
    ],
)
def test_errors_are_html_pages(http: httpx.Client, path: str, status: int, message: str) -> None:
    response = http.get(path)
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html")
    assert message in response.text


def test_unknown_front_axis_is_rejected(http: httpx.Client, search_id: str) -> None:
    response = http.get(f"/searches/{search_id}?x=latency_ms:none")
    assert response.status_code == 422
    assert "macs, params, peak_activation_bytes" in response.text


def test_assets_are_immutable_under_their_digest(http: httpx.Client) -> None:
    response = http.get(assets.url("style.css"))
    assert response.headers["content-type"].startswith("text/css")
    assert "immutable" in response.headers["cache-control"]
    assert http.get("/assets/old/style.css").headers["cache-control"] == "no-cache"
    assert http.get("/assets/old/../style.css").status_code == 404
    assert http.get("/assets/old/nothing.css").status_code == 404


def test_page_preloads_every_module(http: httpx.Client, search_id: str) -> None:
    text = http.get(f"/searches/{search_id}").text
    for name in ("api", "charts", "curves", "forms", "front", "live", "numbers", "scales"):
        assert f'<link rel="modulepreload" href="{assets.url(f"{name}.js")}">' in text
    assert assets.imports("api.js") == ()


def test_assets_are_compressed(http: httpx.Client) -> None:
    response = http.get(assets.url("style.css"), headers={"Accept-Encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip"
    assert response.text == http.get(assets.url("style.css"), headers={"Accept-Encoding": "identity"}).text


def test_pages_are_compressed_and_the_api_is_not(http: httpx.Client, search_id: str) -> None:
    compressed, plain = (
        http.get(f"/searches/{search_id}", headers={"Accept-Encoding": name}) for name in ("gzip", "identity")
    )
    assert (compressed.headers["vary"], compressed.text) == ("Accept-Encoding", plain.text)
    assert compressed.headers["content-encoding"] == "gzip"
    assert 2 * int(compressed.headers["content-length"]) < int(plain.headers["content-length"])
    assert "content-encoding" not in plain.headers
    assert "content-encoding" not in http.get(f"/v1/searches/{search_id}/front").headers


def test_plotly_is_served_from_its_wheel(http: httpx.Client) -> None:
    with http.stream("GET", assets.url(assets.PLOTLY), headers={"Accept-Encoding": "gzip"}) as response:
        compressed = b"".join(response.iter_raw())
    plain = http.get(assets.url(assets.PLOTLY), headers={"Accept-Encoding": "identity"}).content
    assert gzip.decompress(compressed) == plain
    assert b"plotly.js v" in plain[:100]
    assert assets.plotly_style().encode() in plain


def test_sign_in_page_detects_links_from_other_sites(keyed: KeyedApi) -> None:
    for site, elsewhere in (("cross-site", True), ("same-origin", False), ("none", False)):
        response = keyed.send("GET", "/searches", None, headers={"Sec-Fetch-Site": site})
        assert ("data-elsewhere" in response.text) == elsewhere


def test_pages_report_an_unavailable_database(tmp_path: Path, redis_url: str) -> None:
    with keyed_api(tmp_path, "postgresql+psycopg://nobody@127.0.0.1:1/none", redis_url) as service:
        assert service.send("GET", "/searches", None).status_code == 401
        response = service.send("GET", "/searches", None, headers={"Cookie": "paretofit_session=some"})
        assert response.status_code == 503
        assert response.headers["content-type"].startswith("text/html")
        assert "the database is unavailable" in response.text
