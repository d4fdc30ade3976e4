"""mkdocs hooks that generate parts of pages from the code, so that documentation and code cannot diverge.

In a page, `<!-- methods -->` becomes the table of all methods, `<!-- parameters -->` the parameters of each, and
`<!-- openapi -->` the reference of the API.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from docs import openapi, parameters

_GENERATORS: Final = {
    "<!-- methods -->": parameters.overview,
    "<!-- parameters -->": parameters.sections,
    "<!-- openapi -->": openapi.reference,
}


def on_config(config: Any) -> Any:
    """Append pages missing from the navigation, so that every page is reachable."""
    folder = Path(config["docs_dir"])
    named = set(_pages(config["nav"]))
    others = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))
    decisions = [page for page in others if page.startswith("adr/")]
    more = [page for page in others if page not in named and page not in decisions]
    config["nav"] += [{"More": more}] if more else []
    config["nav"] += [{"Decisions": decisions}]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers by generated content."""
    for marker, generate in _GENERATORS.items():
        if marker in markdown:
            markdown = markdown.replace(marker, generate())
    return markdown


def _pages(entries: Any) -> Iterator[str]:
    for entry in entries:
        for page in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [page] if isinstance(page, str) else _pages(page)
