"""Ingests a source into a dataset directory, in a separate process: `python -m paretofit.search.data.ingest --request R
--out DIR`.

Writes the dataset's files into DIR and one JSON line to stdout: {"state": "ready", "report", "profile", "files"} or
{"state": "rejected", "errors": [{"code", "detail"}], "report"}, with exit code 0 for both. Progress goes to stderr, one
JSON line each: {"stage", "done", "total"}. Torch-free.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from paretofit.core.settings import get_settings
from paretofit.search.contracts.dataset import BuiltinSource, DatasetProfile, DatasetSpec
from paretofit.search.data import fashion_mnist, sandbox, splits
from paretofit.search.data.archive import Progress
from paretofit.search.data.image_folder import ingest_archive
from paretofit.search.data.limits import IngestLimits
from paretofit.search.data.rejection import RejectedError, reject
from paretofit.search.data.writer import DatasetWriter


class IngestRequest(BaseModel):
    """`archive` is the uploaded file; `cache` is the folder for downloads (unset: HOME/cache)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: DatasetSpec
    archive: Path | None = None
    limits: IngestLimits = IngestLimits()
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """A dataset that was created; `files` are its names in the directory, the manifest last."""

    profile: DatasetProfile
    report: dict[str, Any]
    files: list[str]


def silent(stage: str, done: int, total: int) -> None:
    """Discards progress."""


def ingest(request: IngestRequest, out: Path, progress: Progress = silent) -> Ready:
    """Create the dataset in `out`, an empty or missing folder. Raises RejectedError."""
    out.mkdir(parents=True, exist_ok=True)
    if isinstance(request.spec.source, BuiltinSource):
        return Ready(*_builtin(request, request.spec.source, out, progress))
    if request.archive is None:
        raise reject("no_archive", "the dataset's archive is missing: upload it, then validate again")
    return Ready(*ingest_archive(request.archive, request.spec, request.limits, out, progress))


def _builtin(
    request: IngestRequest, source: BuiltinSource, out: Path, progress: Progress
) -> tuple[DatasetProfile, dict[str, Any], list[str]]:
    """Fashion-MNIST: its test images are the report split, independent of the subset."""
    spec = request.spec
    size = fashion_mnist.IMAGE_SIZE
    if spec.image_size not in (None, size):
        raise reject(
            "image_size", f"{source.name} has {size} x {size} pixels: leave image_size out, or set it to {size}"
        )
    most = fashion_mnist.TRAIN_IMAGES
    if source.subset is not None and source.subset > most:
        raise reject("subset", f"{source.name} has {most} training images: set subset to at most {most}")
    cache = request.cache or get_settings().home / "cache"
    data = fashion_mnist.load(cache / source.name)
    images, labels = data.train_images, data.train_labels
    if source.subset is not None:
        drawn = splits.subset(labels, source.subset, spec.seed)
        images, labels = images[drawn], labels[drawn]
    total = len(labels) + len(data.test_labels)
    selection = splits.holdout(labels, spec.splits.selection, spec.seed, splits.Draw.SELECTION)
    side = images.shape[-1]
    spread = {"min": side, "median": side, "max": side}
    progress("write", 0, total)
    with DatasetWriter(out, channels=1) as writer:
        writer.append_block(fashion_mnist.padded(images))
        writer.append_block(fashion_mnist.padded(data.test_images))
        made = writer.finish(
            labels=np.concatenate([labels, data.test_labels]),
            splits={
                "train": np.setdiff1d(np.arange(len(labels)), selection),
                "selection": selection,
                "report": np.arange(len(labels), total),
            },
            classes=fashion_mnist.CLASSES,
            image_size=(size, size),
            report={
                "corrupt": [],
                "corrupt_images": 0,
                "ignored": [],
                "ignored_files": 0,
                "sizes": {"height": spread, "width": spread},
            },
        )
    progress("write", total, total)
    return made


class _StderrProgress:
    """Prints a JSON line at the start and end of a stage and about once a second."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now >= self._next or done in (0, total):
            sys.stderr.write(json.dumps({"stage": stage, "done": done, "total": total}) + "\n")
            sys.stderr.flush()
            self._next = now + 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m paretofit.search.data.ingest", description=__doc__)
    parser.add_argument("--request", type=Path, required=True, help="JSON file: spec, archive, limits")
    parser.add_argument("--out", type=Path, required=True, help="folder for the dataset's files")
    arguments = parser.parse_args()
    try:
        request = IngestRequest.model_validate_json(arguments.request.read_bytes())
    except ValidationError as error:
        sys.stderr.write(f"{arguments.request}: {error}\n")
        return 2
    sandbox.limit(request.limits)
    if request.archive is not None:
        # Built-in datasets may have to be downloaded.
        arguments.out.mkdir(parents=True, exist_ok=True)
        sandbox.confine(written=arguments.out, read=request.archive)
    warnings.filterwarnings("ignore", module="PIL")
    answer: dict[str, Any]
    try:
        ready = ingest(request, arguments.out, _StderrProgress())
        answer = {
            "state": "ready",
            "report": ready.report,
            "profile": ready.profile.model_dump(mode="json"),
            "files": ready.files,
        }
    except RejectedError as rejected:
        answer = {
            "state": "rejected",
            "errors": [asdict(reason) for reason in rejected.reasons],
            "report": rejected.report,
        }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
