"""From photos to a deployable network: `client.fit`. Each step can be called on its own."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Generic

from paretofit.api.schemas import weights as schemas
from paretofit.api.schemas.datasets import Dataset
from paretofit.api.schemas.exports import Format
from paretofit.api.schemas.points import Bound
from paretofit.client import fronts, search
from paretofit.client.calling import M
from paretofit.client.datasets import Datasets
from paretofit.client.download import Progress
from paretofit.client.errors import ApiError, UsageError, WeightsRejectedError
from paretofit.client.pages import items
from paretofit.client.point import Point
from paretofit.client.search import SearchDetail
from paretofit.client.weights import Weights

METHOD: Final = "auto"
SOURCE: Final = "mobilenet_v2"
"""Published weights that photos start from."""
PHOTO_SIDE: Final = 64
"""Color images larger than this many pixels are photos: they start from trained weights."""
_FORMATS: Final[Mapping[str, Format]] = {"onnxruntime": "onnx", "ncnn": "ncnn", "torch": "torch_export"}


@dataclass(frozen=True, slots=True)
class Budget:
    """Bounds on the network: multiply-accumulates, parameters, and milliseconds per image on a device."""

    max_macs: float | None = None
    max_params: float | None = None
    max_latency_ms: float | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if (self.device is None) != (self.max_latency_ms is None):
            raise UsageError("a latency and its device must be given together; give both or neither")

    @property
    def bounds(self) -> list[Bound]:
        """As constraints."""
        return fronts.bounds(
            max_macs=self.max_macs,
            max_params=self.max_params,
            max_latency_ms=self.max_latency_ms,
            device=self.device,
        )

    @property
    def formats(self) -> tuple[Format, ...]:
        """The format of the device's runtime; ONNX without a device."""
        runtime = "onnxruntime" if self.device is None else self.device.partition("-")[0]
        return (_FORMATS.get(runtime, "onnx"),)


@dataclass(frozen=True, slots=True)
class Fit(Generic[M]):
    """Result of a fit: the finished search, the selected point, and its files by kind (`checkpoint`, `card`, and a
    format for each export)."""

    search: SearchDetail[M]
    point: Point[M]
    files: dict[str, Path] = field(default_factory=dict)
    seconds: float = 0.0

    def summary(self, device: str | None = None) -> dict[str, Any]:
        """As JSON. `top1` is measured on the report split, which selects nothing; `majority` is its majority class."""
        metrics = self.point.metrics
        return {
            "search_id": self.search.id,
            "state": self.search.state,
            "point": self.point.id,
            "top1": metrics.get("top1"),
            "selection_top1": metrics.get("selection_top1"),
            "majority": self.search.summary.majority_top1,
            "latency_ms": None if device is None else metrics.get(f"latency_ms:{device}"),
            "macs": metrics.get("macs"),
            "params": metrics.get("params"),
            "seconds": round(self.seconds, 1),
            "files": {kind: str(path) for kind, path in self.files.items()},
        }


def name_of(photos: Path) -> str:
    """The name of a dataset from an archive or a folder."""
    resolved = photos.resolve()
    return resolved.name if resolved.is_dir() else resolved.stem.removesuffix(".tar")


@contextmanager
def archive(photos: Path) -> Iterator[Path]:
    """The archive of a dataset: `photos` itself, or a temporary one of the folder. Raises UsageError."""
    if photos.is_file():
        yield photos
        return
    if not photos.is_dir():
        raise UsageError(f"not found: {photos}; give an archive or a folder with one folder of images for each class")
    files = sorted(path for path in photos.rglob("*") if path.is_file() and not _is_hidden(path.relative_to(photos)))
    if not files:
        raise UsageError(f"{photos} contains no files; give a folder with one folder of images for each class")
    with TemporaryDirectory(prefix="paretofit-") as folder:
        packed = Path(folder) / "photos.tar"
        with tarfile.open(packed, "w", dereference=True) as tar:
            for path in files:
                tar.add(path, str(path.relative_to(photos)), recursive=False)
        yield packed


async def add_dataset(transport: M, photos: Path, name: str, progress: Progress | None = None) -> Dataset:
    """Create a dataset from an archive or a folder, and wait until it is validated.

    Raises UsageError, ApiError, and DatasetRejectedError."""
    datasets = Datasets(transport)
    with archive(photos) as packed:
        dataset = await Datasets.create(datasets, {"name": name, "source": {"kind": "upload"}})
        await Datasets.upload(datasets, dataset.id, packed, progress)
    return await Datasets.wait(datasets, dataset.id)


async def find_start(transport: M, dataset: Dataset) -> tuple[dict[str, str] | None, str]:
    """The `start` of the search, and why: published weights for photos, which the service fetches if it does not have
    them yet; none for small or grayscale images, or if the weights cannot be fetched."""
    profile = dataset.profile or {}
    if profile["channels"] != 3 or min(profile["image_size"]) <= PHOTO_SIDE:
        return None, f"training from scratch, because the images are no larger than {PHOTO_SIDE} pixels, or grayscale"
    weights = Weights(transport)
    async for known in items(transport, "/v1/weights", schemas.Weights):
        if known.state == "ready" and known.source.get("name") == SOURCE:
            return {"weights": known.id}, f"starting from {known.name} ({(known.record or {}).get('licence')})"
    try:
        added = await Weights.create(weights, {"name": SOURCE, "source": {"kind": "named", "name": SOURCE}})
        ready = await Weights.wait(weights, added.id)
    except (ApiError, WeightsRejectedError) as error:
        return None, f"training from scratch, because {SOURCE} cannot be fetched: {error}"
    assert ready.record is not None
    return {"weights": ready.id}, f"starting from {SOURCE} ({ready.record['licence']})"


async def submit(
    transport: M, dataset: Dataset, start: dict[str, str] | None, budget: Budget, *, name: str, seconds: float | None
) -> SearchDetail[M]:
    """Submit the search. `seconds`: its time limit. Raises ApiError."""
    objectives: list[dict[str, Any]] = [{"metric": "selection_top1"}, {"metric": "macs"}]
    if budget.device is not None:
        objectives.append({"metric": "latency_ms", "device": budget.device})
    body = {
        "name": name,
        "dataset_id": dataset.id,
        "method": {"kind": METHOD, **({} if start is None else {"start": start})},
        "objectives": objectives,
        "constraints": [bound.model_dump() for bound in budget.bounds],
        "limits": {} if seconds is None else {"max_wall_seconds": seconds},
    }
    return await transport.read(SearchDetail[M], "/v1/searches", method="POST", json=body)


async def collect(
    transport: M, search_id: str, budget: Budget, out: Path, formats: Sequence[Format], *, began: float
) -> Fit[M]:
    """Select the most accurate network within the budget, and write its checkpoint, card and exports to `out`.

    Raises ApiError (409) if no network meets the budget, ExportFailedError, and OSError. `began`: `time.monotonic()` at
    the beginning."""
    finished = await search.read(transport, search_id)
    point = await fronts.select(transport, search_id, budget.bounds)
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    if point.artifact is not None:
        files["checkpoint"] = await Point.download(point, out / "network.safetensors", progress=False)
    files["card"] = out / "card.md"
    files["card"].write_text(await Point.card(point), encoding="utf-8")
    for file_format in formats:
        files[file_format] = await Point.export(point, file_format, out, progress=False)
    return Fit(finished, point, files, time.monotonic() - began)


def _is_hidden(path: Path) -> bool:
    """Whether a path has a part that file managers hide, such as `.DS_Store` or `__MACOSX`."""
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)
