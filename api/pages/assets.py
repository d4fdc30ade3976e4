"""Static files of the pages: scripts, styles, and Plotly from its Python wheel, with content-addressed URLs."""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Header, Response

from paretofit.api.problems import NotFoundError

router = APIRouter(include_in_schema=False)
_STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOREVER: Final = "public, max-age=31536000, immutable"
PLOTLY: Final = "plotly.min.js"
_IMPORT: Final = re.compile(r"^import (?:\{.*\} from )?\"\./([a-z_]+\.js)\";$", re.MULTILINE)


def url(name: str) -> str:
    """The URL of a file. Modules import each other by relative names, so all files share one digest."""
    return f"/assets/{_digest()}/{name}"


@cache
def imports(name: str) -> tuple[str, ...]:
    """The transitive imports of a module: a page that preloads them fetches all at once."""
    found: dict[str, None] = {}
    pending = [name]
    while pending:
        text = (_STATIC / pending.pop()).read_text()
        fresh = [each for each in _IMPORT.findall(text) if each not in found]
        found |= dict.fromkeys(fresh)
        pending += fresh
    return tuple(found)


@router.get("/assets/{digest}/{name}")
def read(digest: str, name: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
    """A static file. It is immutable under the current digest and not cached under others."""
    path = _files().get(name)
    if path is None:
        raise NotFoundError(f"no static file {name!r}: reload the page")
    headers = {
        "Cache-Control": _FOREVER if digest == _digest() else "no-cache",
        "Vary": "Accept-Encoding",
    }
    content = path.read_bytes()
    if "gzip" in accept_encoding:
        content = _packed(path)
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=f"{_TYPES[path.suffix]}; charset=utf-8", headers=headers)


@cache
def plotly_style() -> str:
    """The id of the style element that Plotly's bundle would otherwise inject, against the Content-Security-Policy. An
    existing element with this id prevents that."""
    found = re.search(rb'getElementById\("([0-9a-f]{64})"\)', _plotly().read_bytes())
    return "" if found is None else found[1].decode()


@cache
def _files() -> dict[str, Path]:
    return {path.name: path for path in _STATIC.iterdir() if path.suffix in _TYPES} | {PLOTLY: _plotly()}


def _plotly() -> Path:
    # The package itself is not imported, as it is large and the pages need only its bundle.
    found = find_spec("plotly")
    if found is None or found.origin is None:
        raise RuntimeError("the package plotly is missing: install Paretofit with [server]")
    return Path(found.origin).parent / "package_data" / PLOTLY


@cache
def _packed(path: Path) -> bytes:
    # Plotly has 4.8 MB, compressed 1.5 MB: compressing it takes a while.
    return gzip.compress(path.read_bytes(), 6, mtime=0)


@cache
def _digest() -> str:
    digest = hashlib.sha256(version("plotly").encode())
    for path in sorted(_STATIC.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]
