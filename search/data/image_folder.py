"""Converts an archive of `class/name.png`, optionally under `train/`, `val/` and `test/`, to a dataset directory.
Torch-free.

A single bad image is left out and listed; too many reject the archive.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from paretofit.core.cpus import available_cpus
from paretofit.search.contracts.dataset import DatasetProfile, DatasetSpec, Splits
from paretofit.search.data import images, splits
from paretofit.search.data.archive import Member, Progress, extract
from paretofit.search.data.images import BadImageError
from paretofit.search.data.layout import REPORT, SELECTION, TRAIN, Item, Layout, classify
from paretofit.search.data.limits import IngestLimits
from paretofit.search.data.rejection import Reason, RejectedError, reject
from paretofit.search.data.splits import Draw, Rows
from paretofit.search.data.writer import DatasetWriter, Encoding, Prepared, prepare

DEFAULT_SIZE = 224
STORED_SHARE = 1.143
"""Ratio of the stored shorter side to the training resolution, which leaves room for random crops (256 for 224)."""

_LISTED = 1000
_LISTED_BYTES = 64 * 1024
_REASONS = 20
_PER_THREAD = 32


@dataclass(slots=True)
class _Findings:
    """The part of the report about the files themselves."""

    ignored: list[str]
    corrupt: list[tuple[str, str]]
    heights: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        return {
            "corrupt": _first([{"name": name, "reason": reason} for name, reason in sorted(self.corrupt)[:_LISTED]]),
            "corrupt_images": len(self.corrupt),
            "ignored": _first(sorted(self.ignored)[:_LISTED]),
            "ignored_files": len(self.ignored),
            "sizes": {"height": _spread(self.heights), "width": _spread(self.widths)} if self.heights else None,
        }


def _first(listed: Sequence[Any]) -> list[Any]:
    """Truncated to the report's limit, because names can be long."""
    sizes = itertools.accumulate(_size(each) for each in listed)
    return [each for each, size in zip(listed, sizes, strict=True) if size <= _LISTED_BYTES]


def _size(value: object) -> int:
    return len(json.dumps(value))


def _spread(sides: Sequence[int]) -> dict[str, float]:
    return {"min": min(sides), "median": statistics.median(sides), "max": max(sides)}


def ingest_archive(
    archive: Path, spec: DatasetSpec, limits: IngestLimits, out: Path, progress: Progress
) -> tuple[DatasetProfile, dict[str, Any], list[str]]:
    """Create the dataset in `out`; returns its profile, report and file names. Raises RejectedError."""
    with TemporaryDirectory(prefix=".spool-", dir=out) as scratch:
        path = Path(scratch) / "images"
        extracted = extract(archive, path, limits, progress)
        findings = _Findings(extracted.ignored, extracted.corrupt)
        with path.open("rb") as spool:
            layout = classify(extracted.images)
            findings.corrupt.extend(layout.misplaced)
            return _ingest(layout, spool.fileno(), spec, limits, out, progress, findings)


def _ingest(
    layout: Layout,
    spool: int,
    spec: DatasetSpec,
    limits: IngestLimits,
    out: Path,
    progress: Progress,
    findings: _Findings,
) -> tuple[DatasetProfile, dict[str, Any], list[str]]:
    items = layout.items
    total = len(items) + len(findings.corrupt)
    if not total:
        raise RejectedError(
            [
                Reason(
                    "no_images",
                    "the archive has no .png, .jpg, .jpeg or .webp file: put images in one folder per class",
                )
            ],
            findings.report(),
        )
    classes = sorted({item.label for item in items})
    if _size(classes) > limits.max_class_bytes:
        raise reject(
            "class_names",
            f"the names of {len(classes)} classes have more than {limits.max_class_bytes:,} bytes in total: "
            "shorten them",
        )
    items, headers = _inspect(items, spool, limits, findings)
    _check_corrupt(findings, total, limits)

    size = _image_size(spec, [header.sides for header in headers])
    short_side = round(STORED_SHARE * size)
    channels = 1 if all(header.gray for header in headers) else 3
    stored = (images.scaled(header.sides, short_side) for header in headers)
    decoded_bytes = sum(first * second for first, second in stored) * channels
    encoding: Encoding = "raw" if decoded_bytes <= limits.max_raw_bytes else "encoded"

    def load(item: Item) -> tuple[Prepared, tuple[int, int]] | BadImageError:
        try:
            decoded = images.decode(_read(spool, item.member), short_side, channels)
        except BadImageError as error:
            return error
        return prepare(decoded.pixels, encoding), decoded.source_size

    with DatasetWriter(out, channels, encoding) as writer:
        kept: list[Item] = []
        for done, (item, loaded) in enumerate(_in_threads(load, items), start=1):
            progress("decode", done, len(items))
            if isinstance(loaded, BadImageError):
                findings.corrupt.append((item.member.name, str(loaded)))
                continue
            prepared, (height, width) = loaded
            writer.append(prepared)
            kept.append(item)
            findings.heights.append(height)
            findings.widths.append(width)
        _check_corrupt(findings, total, limits)
        _check_classes(classes, kept, layout, findings)
        number = {name: position for position, name in enumerate(classes)}
        labels = np.array([number[item.label] for item in kept], dtype=np.int64)
        return writer.finish(
            labels=labels,
            splits=_split(labels, kept, layout, spec.splits, spec.seed),
            classes=classes,
            image_size=(size, size),
            report={**findings.report(), "missing_classes": _missing(classes, kept, layout)},
        )


def _read(spool: int, member: Member) -> bytes:
    return os.pread(spool, member.size, member.offset)


def _inspect(
    items: Sequence[Item], spool: int, limits: IngestLimits, findings: _Findings
) -> tuple[list[Item], list[images.Header]]:
    kept: list[Item] = []
    headers: list[images.Header] = []
    for item in items:
        try:
            headers.append(images.inspect(_read(spool, item.member), limits.max_pixels))
            kept.append(item)
        except BadImageError as error:
            findings.corrupt.append((item.member.name, str(error)))
    return kept, headers


def _in_threads(
    load: Callable[[Item], tuple[Prepared, tuple[int, int]] | BadImageError], items: Sequence[Item]
) -> Iterator[tuple[Item, tuple[Prepared, tuple[int, int]] | BadImageError]]:
    """Results in the items' order, with a bounded number in progress."""
    threads = min(4, available_cpus())  # each can hold a large image
    step = threads * _PER_THREAD
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(items), step):
            piece = items[start : start + step]
            yield from zip(piece, pool.map(load, piece), strict=True)


def _image_size(spec: DatasetSpec, sides: Sequence[tuple[int, int]]) -> int:
    """The requested training resolution, else 224 or the largest multiple of 4 that half of the images have."""
    median = statistics.median_low([min(pair) for pair in sides])
    if spec.image_size is None:
        return min(DEFAULT_SIZE, median // 4 * 4)
    if spec.image_size > median:
        raise reject(
            "image_size",
            f"image_size {spec.image_size} is larger than most images (median shorter side {median} pixels), which "
            f"are never enlarged: use at most {median}, or leave it out",
        )
    return spec.image_size


def _check_corrupt(findings: _Findings, total: int, limits: IngestLimits) -> None:
    count = len(findings.corrupt)
    if count > limits.max_corrupt_share * total:
        name, reason = min(findings.corrupt)
        detail = (
            f"{count} of {total} images cannot be used, more than {limits.max_corrupt_share:.0%}: repair or remove "
            f"them ({name}: {reason})"
        )
        raise RejectedError([Reason("corrupt_images", detail)], findings.report())


def _check_classes(classes: Sequence[str], kept: Sequence[Item], layout: Layout, findings: _Findings) -> None:
    """Raises RejectedError unless every class has an image in every drawn split, and every given split has an image."""
    counts = _counts(kept)
    given = layout.given()
    train, *others = [split for split in (TRAIN, SELECTION, REPORT) if split not in given]
    drawn = " and ".join([", ".join([train, *others[:-1]]), *others[-1:]])
    reasons = []
    if len(classes) < 2:
        reasons.append(
            Reason(
                "too_few_classes",
                f"the archive has images of {len(classes)} class: put images in one folder per class, at least 2",
            )
        )
    for split in given:
        if not counts[split]:
            detail = f"{layout.folders[split]}/ has no usable image: repair its images or remove the folder"
            reasons.append(Reason("empty_split", detail))
    for name in classes:
        usable = counts[TRAIN][name]
        elsewhere = [layout.folders[split] for split in given if counts[split][name]]
        if not usable and elsewhere:
            detail = f"{name!r} is in {' and '.join(elsewhere)} but not in {layout.folders[TRAIN]}"
            reasons.append(Reason("unknown_class", f"{detail}: add or remove the class"))
        elif usable < 1 + len(others):
            reasons.append(
                Reason(
                    "class_too_small",
                    f"{name!r} has {usable} usable training images, but needs {1 + len(others)} for {drawn}: add "
                    "images or remove the class",
                )
            )
    if reasons:
        every = Counter(item.label for item in kept)
        report = {"images": len(kept), "classes": list(classes), "class_counts": {"all": dict(sorted(every.items()))}}
        raise RejectedError(reasons[:_REASONS], {**report, **findings.report()})


def _counts(kept: Sequence[Item]) -> dict[str, Counter[str]]:
    """Image counts of each class by split."""
    counts: dict[str, Counter[str]] = {split: Counter() for split in (TRAIN, SELECTION, REPORT)}
    for item in kept:
        counts[item.split][item.label] += 1
    return counts


def _missing(classes: Sequence[str], kept: Sequence[Item], layout: Layout) -> dict[str, list[str]]:
    """Classes without an image in a split of the archive; their accuracy is not measured there."""
    counts = _counts(kept)
    found = {split: [name for name in classes if not counts[split][name]] for split in layout.given()}
    return {split: _first(names[:_LISTED]) for split, names in found.items() if names}


def _split(labels: Rows, kept: Sequence[Item], layout: Layout, share: Splits, seed: int) -> dict[str, Rows]:
    """The splits of the archive; otherwise report is sampled from all images, and selection from the training
    images."""
    of = np.array([item.split for item in kept])
    given = layout.given()
    report = (
        np.flatnonzero(of == REPORT) if REPORT in given else splits.holdout(labels, share.report, seed, Draw.REPORT)
    )
    rest = np.setdiff1d(np.arange(len(labels)), report)
    if SELECTION in given:
        selection = np.flatnonzero(of == SELECTION)
    else:
        selection = rest[splits.holdout(labels[rest], share.selection, seed, Draw.SELECTION)]
    return {TRAIN: np.setdiff1d(rest, selection), SELECTION: selection, REPORT: report}
