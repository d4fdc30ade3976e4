"""Model card of a point: training data and method, metrics, provenance. Torch-free.

Mitchell et al., Model Cards for Model Reporting, 2019 (arXiv 1810.03993).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from paretofit.core.formatting import round_decimals
from paretofit.search.contracts.point import Format
from paretofit.search.export.formats import FORMS, file_name

LICENSES: Final = {"fashion_mnist": "MIT, Zalando Research (github.com/zalandoresearch/fashion-mnist)"}
"""Licenses of the built-in datasets."""
_COSTS: Final = {
    "macs": "multiply-accumulates of convolutions and linear layers, one image",
    "params": "parameters",
    "peak_activation_bytes": "peak memory of activations in bytes, float32, one image",
    "pool_inputs": "values that the last pooling reads, one image",
}
_ACCURACIES: Final = {
    "selection_top1": "accuracy on the selection split, which is used to choose networks",
    "top1": "accuracy on the report split, which is not used to choose networks",
}


@dataclass(frozen=True, slots=True)
class Data:
    """Facts about the dataset; `licence` is as stated by its owner."""

    name: str
    source: Mapping[str, Any]
    licence: str | None


@dataclass(frozen=True, slots=True)
class Made:
    """A completed export of the point."""

    file: str
    sha256: str
    max_abs_diff: float


def render(
    record: Mapping[str, Any],
    *,
    point_id: str,
    search_id: str,
    spec: Mapping[str, Any],
    data: Data,
    formats: Sequence[Format],
    exports: Sequence[Made],
) -> str:
    """The card in Markdown. `record` is the point's (a `Point` as JSON), `spec` its search's, resolved."""
    architecture = record["architecture"]
    sections = {
        "": [f"# {architecture['family']}: {record['key']}", "", *_summary(record, spec)],
        "Data": _data(spec["dataset"], data),
        **({"Trained weights": _start(start)} if (start := record["provenance"].get("start")) else {}),
        "Input": _input(record, architecture),
        "Recipe": _recipe(record, spec),
        "Metrics": _metrics(record),
        "Cost": list(_table(("cost", "value", ""), _costs(record["metrics"]))),
        "Use": _use(record["key"], formats),
        "Exports": _exports(exports),
        "Provenance": _provenance(record, point_id, search_id),
    }
    lines: list[str] = []
    for title, content in sections.items():
        lines += [f"## {title}", "", *content, ""] if title else [*content, ""]
    return "\n".join(lines)


def _summary(record: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    role = "a baseline (not part of the front)" if record["role"] == "baseline" else "a candidate of the front"
    return [
        f"An image classifier for {len(record['classes'])} classes, {role} of a search by `{spec['method']['kind']}`."
    ]


def _data(profile: Mapping[str, Any], data: Data) -> list[str]:
    licence = data.licence
    match data.source:
        case {"kind": "builtin", "name": name}:
            origin, licence = f"built-in {name}", licence or LICENSES.get(name)
        case {"kind": "url", "url": url}:
            # Without its query, which can contain a signature.
            origin = f"fetched from {urlsplit(url).hostname}"
        case {"kind": "s3", "url": url}:
            origin = f"read from {url}"
        case _:
            origin = "uploaded by its owner"
    images = ", ".join(f"{count} {split}" for split, count in profile["images"].items())
    return [
        f"- dataset: {data.name} ({origin})",
        f"- license: {licence or 'not stated: ask the owner of the images before you redistribute the network'}",
        f"- images: {images}",
        f"- classes: {', '.join(profile['classes'])}",
        f"- fingerprint: `{profile['fingerprint']}`",
    ]


def _start(start: Mapping[str, Any]) -> list[str]:
    """The weights that the training started from; their license also applies to the network."""
    width = "" if start["width"] is None else f" x {start['width']:g}"
    return [
        f"- started from: {start['family']}{width}, {start['source']}",
        f"- license of these weights: {start['licence']}",
        f"- SHA-256 of their file: `{start['sha256']}`",
    ]


def _input(record: Mapping[str, Any], architecture: Mapping[str, Any]) -> list[str]:
    height, width = record["input_size"]
    steps = record["preprocessing"]
    options = f"{steps['resize']}, align_corners {steps['align_corners']}, antialias {steps['antialias']}"
    return [
        f"float32 [batch, {architecture['channels']}, {height}, {width}], from an image of 8-bit values:",
        "",
        f"1. {_crop(steps)};",
        "2. divide by 255;",
        f"3. subtract {_values(steps['mean'])} and divide by {_values(steps['std'])}, by channel;",
        f"4. resize to {height} x {width}, {options}.",
    ]


def _crop(steps: Mapping[str, Any]) -> str:
    """The first step, precise enough to reproduce for images of any size."""
    height, width = steps["crop"]
    centered = (
        f"crop the center to {height} x {width} pixels: rows from floor((image height - {height}) / 2), columns from "
        f"floor((image width - {width}) / 2)"
    )
    if steps.get("frame", "zeros") == "zeros":
        return f"{centered}; a smaller image is surrounded by black (0 in every channel)"
    return (
        f"{centered}. If the image is less than {height} high or {width} wide, instead take its largest centered box "
        f"with the aspect ratio {height}:{width} (height:width; a fractional side is rounded half up, top and left "
        f"edges are rounded down) and enlarge it to {height} x {width}, bilinear with half-pixel centers "
        "(align_corners False), without rounding to 8 bits"
    )


def _recipe(record: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    varied = [f"- {name}: {_value(value)}" for name, value in record["config"].items()]
    method = json.dumps(spec["method"], indent=2, sort_keys=True)
    return [*varied, f"- seed: {spec['seed']}", "", "The method's parameters:", "", "```json", method, "```"]


def _metrics(record: Mapping[str, Any]) -> list[str]:
    others = {name: "" for name in record["metrics"] if name not in _COSTS}
    rows = [
        (name, _value(record["metrics"][name]), meaning)
        for name, meaning in {**others, **_ACCURACIES}.items()
        if record["metrics"].get(name) is not None
    ]
    conditions = ", ".join(f"{name} {value}" for name, value in record["evaluation"].items())
    return [*_table(("metric", "value", ""), rows), "", f"Measured with {conditions}."]


def _costs(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    return [(name, f"{metrics[name]:,.0f}", meaning) for name, meaning in _COSTS.items() if name in metrics]


def _use(key: str, formats: Sequence[Format]) -> list[str]:
    lines: list[str] = []
    for name in formats:
        form = FORMS[name]
        lines += [f"`{name}` ({form.title}):", "", "```python", form.snippet(file_name(key, form)), "```", ""]
    return lines[:-1]


def _exports(exports: Sequence[Made]) -> list[str]:
    if not exports:
        return ["None yet."]
    rows = [(made.file, f"{made.max_abs_diff:.3g}", f"`{made.sha256}`") for made in exports]
    return list(_table(("file", "largest difference from PyTorch", "SHA-256"), rows))


def _provenance(record: Mapping[str, Any], point_id: str, search_id: str) -> list[str]:
    known = {"point": point_id, "search": search_id, **record["provenance"]}
    return [f"- {name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in known.items()]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _values(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else round_decimals(str(value))
