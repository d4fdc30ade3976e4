"""Builders of test images and archives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from paretofit.search.contracts.dataset import DatasetSpec, UploadSource
from paretofit.search.data.ingest import IngestRequest, Ready, ingest
from paretofit.search.data.limits import IngestLimits
from paretofit.search.data.store import Dataset

Files = Mapping[str, bytes]


def noise(height: int, width: int, seed: int, channels: int = 3) -> NDArray[np.uint8]:
    """uint8 [height, width, channels], or [height, width] of one channel."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return pixels[:, :, 0] if channels == 1 else pixels


def encoded(pixels: NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def pictures(folders: Mapping[str, int], size: tuple[int, int] = (12, 16), channels: int = 3) -> dict[str, bytes]:
    """Distinct images named `folder/NNN.png`."""
    names = [f"{folder}/{number:03}.png" for folder, count in folders.items() for number in range(count)]
    return {name: encoded(noise(*size, seed, channels)) for seed, name in enumerate(names)}


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Files, compression: str = "") -> Path:
    buffer = io.BytesIO()
    with tarfile.TarFile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path.write_bytes(compress(buffer.getvalue(), compression))
    return path


def compress(content: bytes, compression: str) -> bytes:
    match compression:
        case "gz":
            return gzip.compress(content)
        case "bz2":
            return bz2.compress(content)
        case "xz":
            return lzma.compress(content)
        case _:
            return content


def add(archive: Path, out: Path, limits: Mapping[str, Any] | None = None, **spec: Any) -> tuple[Ready, Dataset]:
    """Ingest an archive in this process and open the result."""
    request = IngestRequest(
        spec=DatasetSpec(name="test", source=UploadSource(), **spec),
        archive=archive,
        limits=IngestLimits(**(limits or {})),
    )
    return ingest(request, out), Dataset.open(out)
