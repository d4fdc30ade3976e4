"""The documentation site is complete, generated from the code and self-contained."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from paretofit.api.schemas.searches import Search
from paretofit.search.methods.mutualnet.params import MutualNetParams
from paretofit.search.registry import methods
from tests.docs.blocks import ROOT

pytestmark = pytest.mark.integration

_LOADED = re.compile(
    r"<(?:script|img|iframe|source)[^>]*\ssrc=\"([^\"]+)\"|<link[^>]*\shref=\"([^\"]+)\"|url\(([^)]+)\)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert pages <= {path.relative_to(site) for path in site.rglob("*.html")}
    assert not list(site.glob("*.py"))


def test_no_resource_is_loaded_from_another_host(site: Path) -> None:
    loaded = {
        (path.name, address)
        for path in (*site.rglob("*.html"), *site.rglob("*.css"))
        for match in _LOADED.findall(path.read_text())
        if re.match(r"[\"']?(https?:)?//", address := "".join(match))
    }
    assert loaded == set()


def test_parameters_match_the_models(site: Path) -> None:
    page = (site / "methods.html").read_text()
    for kind, method in methods().items():
        assert f'id="{kind}"' in page
        assert set(method.params.model_fields) - {"kind"} <= set(re.findall(r"<td><code>(\w+)</code></td>", page))
    assert str(MutualNetParams.model_fields["learning_rate"].description) in page


def test_reference_has_every_field_and_operation(site: Path) -> None:
    page = (site / "api.html").read_text()
    assert {"create_search", "get_front", "export_study"} <= set(re.findall(r'<h3 id="(\w+)"', page))
    assert set(Search.model_fields) <= set(re.findall(r"<td><code>(\w+)</code></td>", page))
    assert "<!-- openapi" not in page


def test_methods_page_covers_every_method() -> None:
    text = (ROOT / "docs" / "methods.md").read_text()
    assert [kind for kind in methods() if f"`{kind}`" not in text] == []
