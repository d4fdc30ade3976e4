"""An archive of `class/name.png`, optionally under `train/` and `val/`, -> a dataset directory. Torch-free.

One folder around everything is tolerated. A single bad image is left out and listed; too many reject the archive.
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
from numpy.typing import NDArray

from search.data import images, splits
from search.data.archive import Member, Progress, extract
from search.data.images import BadImageError
from search.data.limits import IngestLimits
from search.data.rejection import Reason, RejectedError, reject
from search.data.splits import Draw, Rows
from search.data.writer import DatasetWriter, Encoding, Prepared, prepare
from search.methods.method import DatasetProfile
from search.spec import DatasetSpec, Splits

DEFAULT_SIZE = 224
STORED_SHARE = 1.143
"""The stored shorter side over the training resolution: room for random crops (256 for 224)."""

_GIVEN = ("train", "val")
_LISTED = 1000
_LISTED_BYTES = 64 * 1024
_REASONS = 20
_PER_THREAD = 32


@dataclass(frozen=True, slots=True)
class _Item:
    """`given` is `train` or `val`, or empty where the archive has no splits."""

    member: Member
    label: str
    given: str


@dataclass(slots=True)
class _Findings:
    """What the report says of the files themselves."""

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
    """As many as a report has room for: archives may have long names."""
    sizes = itertools.accumulate(_size(each) for each in listed)
    return [each for each, size in zip(listed, sizes, strict=True) if size <= _LISTED_BYTES]


def _size(value: object) -> int:
    return len(json.dumps(value))


def _spread(sides: Sequence[int]) -> dict[str, float]:
    return {"min": min(sides), "median": statistics.median(sides), "max": max(sides)}


def ingest_archive(
    archive: Path, spec: DatasetSpec, limits: IngestLimits, out: Path, progress: Progress
) -> tuple[DatasetProfile, dict[str, Any], list[str]]:
    """Profile, report and file names of the dataset made in `out`. Raises RejectedError."""
    with TemporaryDirectory(prefix=".spool-", dir=out) as scratch:
        path = Path(scratch) / "images"
        extracted = extract(archive, path, limits, progress)
        findings = _Findings(extracted.ignored, extracted.corrupt)
        with path.open("rb") as spool:
            items = _classify(extracted.images, findings)
            return _ingest(items, spool.fileno(), spec, limits, out, progress, findings)


def _classify(members: Sequence[Member], findings: _Findings) -> list[_Item]:
    """Class and split of every image by its path, in the order of the paths."""
    tops = {member.path[0] for member in members if len(member.path) > 1}
    deep = all(len(member.path) > 2 for member in members if len(member.path) > 1)
    wrapped = len(tops) == 1 and deep and not tops <= set(_GIVEN)
    paths = {member: member.path[1:] if wrapped and len(member.path) > 1 else member.path for member in members}
    by_split = any(len(path) == 3 and path[0] in _GIVEN for path in paths.values())
    items: list[_Item] = []
    for member, path in sorted(paths.items(), key=lambda pair: pair[1]):
        if by_split and len(path) == 3 and path[0] in _GIVEN:
            items.append(_Item(member, label=path[1], given=path[0]))
        elif not by_split and len(path) == 2:
            items.append(_Item(member, label=path[0], given=""))
        else:
            expected = "train/CLASS/NAME or val/CLASS/NAME" if by_split else "CLASS/NAME"
            findings.corrupt.append((member.name, f"lies in the wrong folder: {expected} is expected"))
    return items


def _ingest(
    items: list[_Item],
    spool: int,
    spec: DatasetSpec,
    limits: IngestLimits,
    out: Path,
    progress: Progress,
    findings: _Findings,
) -> tuple[DatasetProfile, dict[str, Any], list[str]]:
    total = len(items) + len(findings.corrupt)
    if not total:
        raise RejectedError(
            [Reason("no_images", "has no .png, .jpg, .jpeg or .webp file: put images in one folder per class")],
            findings.report(),
        )
    classes = sorted({item.label for item in items})
    if _size(classes) > limits.max_class_bytes:
        raise reject(
            "class_names",
            f"the names of {len(classes)} classes have more than {limits.max_class_bytes:,} bytes: shorten them",
        )
    items, headers = _inspect(items, spool, limits, findings)
    _check_corrupt(findings, total, limits)

    size = _image_size(spec, [header.sides for header in headers])
    short_side = round(STORED_SHARE * size)
    channels = 1 if all(header.grey for header in headers) else 3
    stored = (images.scaled(header.sides, short_side) for header in headers)
    decoded_bytes = sum(first * second for first, second in stored) * channels
    encoding: Encoding = "raw" if decoded_bytes <= limits.max_raw_bytes else "encoded"

    def load(item: _Item) -> tuple[Prepared, tuple[int, int]] | BadImageError:
        try:
            decoded = images.decode(_read(spool, item.member), short_side, channels)
        except BadImageError as error:
            return error
        return prepare(decoded.pixels, encoding), decoded.source_size

    with DatasetWriter(out, channels, encoding) as writer:
        kept: list[_Item] = []
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
        _check_classes(classes, kept, findings)
        number = {name: position for position, name in enumerate(classes)}
        labels = np.array([number[item.label] for item in kept], dtype=np.int64)
        return writer.finish(
            labels=labels,
            splits=_split(labels, np.array([item.given == "val" for item in kept]), spec.splits, spec.seed),
            classes=classes,
            image_size=(size, size),
            report=findings.report(),
        )


def _read(spool: int, member: Member) -> bytes:
    return os.pread(spool, member.size, member.offset)


def _inspect(
    items: Sequence[_Item], spool: int, limits: IngestLimits, findings: _Findings
) -> tuple[list[_Item], list[images.Header]]:
    kept: list[_Item] = []
    headers: list[images.Header] = []
    for item in items:
        try:
            headers.append(images.inspect(_read(spool, item.member), limits.max_pixels))
            kept.append(item)
        except BadImageError as error:
            findings.corrupt.append((item.member.name, str(error)))
    return kept, headers


def _in_threads(
    load: Callable[[_Item], tuple[Prepared, tuple[int, int]] | BadImageError], items: Sequence[_Item]
) -> Iterator[tuple[_Item, tuple[Prepared, tuple[int, int]] | BadImageError]]:
    """In the items' order, a bounded number at a time."""
    threads = min(4, len(os.sched_getaffinity(0)))  # each may hold a large image
    step = threads * _PER_THREAD
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(items), step):
            piece = items[start : start + step]
            yield from zip(piece, pool.map(load, piece), strict=True)


def _image_size(spec: DatasetSpec, sides: Sequence[tuple[int, int]]) -> int:
    """The training resolution asked for, else 224 or the largest multiple of 4 that half of the images have."""
    median = statistics.median_low([min(pair) for pair in sides])
    if spec.image_size is None:
        return min(DEFAULT_SIZE, median // 4 * 4)
    if spec.image_size > median:
        raise reject(
            "image_size",
            f"image_size {spec.image_size} is more than most images have (median shorter side {median}), and none is "
            f"enlarged: make it at most {median}, or leave it out",
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


def _check_classes(classes: Sequence[str], kept: Sequence[_Item], findings: _Findings) -> None:
    """Every class needs an image in every split that is drawn."""
    given_val = any(item.given for item in kept) and any(item.given == "val" for item in kept)
    training = Counter(item.label for item in kept if item.given != "val")
    least = 2 if given_val else 3
    drawn = "train and selection" if given_val else "train, selection and report"
    reasons = []
    if len(classes) < 2:
        reasons.append(
            Reason("too_few_classes", f"has images of {len(classes)} class: put images in one folder for each of >= 2")
        )
    for name in classes:
        if not training[name] and given_val:
            reasons.append(Reason("unknown_class", f"{name!r} is in val but not in train: add or remove the class"))
        elif training[name] < least:
            reasons.append(
                Reason(
                    "class_too_small",
                    f"{name!r} has {training[name]} usable training images and needs {least} for {drawn}: add images "
                    "or remove the class",
                )
            )
    if reasons:
        counts = Counter(item.label for item in kept)
        report = {"images": len(kept), "classes": list(classes), "class_counts": {"all": dict(sorted(counts.items()))}}
        raise RejectedError(reasons[:_REASONS], {**report, **findings.report()})


def _split(labels: Rows, is_val: NDArray[np.bool_], share: Splits, seed: int) -> dict[str, Rows]:
    """`val/` is the report split; else it is drawn of all. Selection is drawn of what trains."""
    report = np.flatnonzero(is_val) if is_val.any() else splits.holdout(labels, share.report, seed, Draw.REPORT)
    training = np.setdiff1d(np.arange(len(labels)), report)
    selection = training[splits.holdout(labels[training], share.selection, seed, Draw.SELECTION)]
    return {"train": np.setdiff1d(training, selection), "selection": selection, "report": report}
