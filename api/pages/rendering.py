"""Rendering of templates. Pages run only the service's own scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi.responses import HTMLResponse

from paretofit.api.headers import PAGE_POLICY
from paretofit.api.pages import assets, event_text, quantities
from paretofit.core.formatting import round_decimals

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_TEMPLATES: Final = Path(__file__).parent / "templates"


def page(template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """Render a template as a page or a part of one."""
    content = _environment().get_template(template).render(context)
    return HTMLResponse(content, status, {"Content-Security-Policy": PAGE_POLICY})


@cache
def _environment() -> Environment:
    # Imported with the first page, to keep startup fast.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {
        "asset": assets.url,
        "imports": assets.imports,
        "plotly_style": assets.plotly_style(),
        "now": lambda: datetime.now(UTC),
    }
    environment.filters |= {
        "bytes": quantities.bytes_,
        "compact": _compact,
        "cost": quantities.cost,
        "duration": quantities.duration,
        "json_text": _json_text,
        "label": quantities.label,
        "labels": _labels,
        "machine": _machine,
        "percent": quantities.percent,
        "prose": _prose,
        "quantity": quantities.quantity,
        "relative": quantities.relative,
        "sentence": lambda event: event_text.sentence(event.type, event.data),
        "typed": quantities.typed,
    }
    return environment


def _json_text(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _prose(text: str) -> Markup:
    """Text with code in backticks, as HTML."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it is escaped


def _labels(value: Mapping[str, str]) -> str:
    """Labels as name=value, separated by commas; `forms.js` parses them."""
    return ", ".join(f"{_quoted(name, ',=')}={_quoted(each, ',')}" for name, each in value.items())


def _quoted(text: str, marks: str) -> str:
    """Plain text, or JSON if it would be ambiguous."""
    plain = text == text.strip() and text.isprintable() and text[:1] not in {"", '"'} and not set(text) & set(marks)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _machine(description: Mapping[str, Any]) -> str:
    """The description of a worker or machine: AMD EPYC 9V74, 2 cores, torch 2.9."""
    order = ("processor", "cores", "host", "machine", "threads")
    first = {name: description[name] for name in order if name in description}
    return ", ".join(
        _described(name, each) for name, each in (first | dict(description)).items() if name != "devices" and each
    )


def _described(name: str, value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(_compact, value))
    if name in {"processor", "host", "machine"}:
        return _compact(value)
    if name in {"cores", "threads"}:
        return f"{value} {name if value != 1 else name.removesuffix('s')}"
    return f"{name} {_compact(value)}"


def _compact(value: Any) -> str:
    """A configuration value in short: mappings as `name value`, JSON otherwise."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_compact(each)}" for name, each in value.items()) or quantities.UNKNOWN
    return round_decimals(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
