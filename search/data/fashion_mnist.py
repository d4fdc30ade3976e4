"""Fashion-MNIST (Xiao et al., 2017, arXiv 1708.07747; MIT license): 60,000 + 10,000 grayscale images, 28 x 28, ten
classes.

Torch-free. Reads Debian's package `dataset-fashion-mnist`, or downloads the publisher's files once.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from paretofit.search.data.rejection import RejectedError, reject

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGE_SIZE = 32
"""Images are padded with zeros from 28 to 32 pixels, so that five halvings leave one pixel."""
TRAIN_IMAGES = 60_000

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
)
_MAX_COMPRESSED_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class IdxFile:
    """An IDX file, identified by its decompressed contents, which are the same from every source."""

    name: str
    sha256: str
    shape: tuple[int, ...]

    @property
    def header_bytes(self) -> int:
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        return self.header_bytes + int(np.prod(self.shape))


FILES = {
    "train": (
        IdxFile(
            "train-images-idx3-ubyte.gz",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            (TRAIN_IMAGES, 28, 28),
        ),
        IdxFile(
            "train-labels-idx1-ubyte.gz",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            (TRAIN_IMAGES,),
        ),
    ),
    "test": (
        IdxFile(
            "t10k-images-idx3-ubyte.gz",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            (10_000, 28, 28),
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte.gz", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", (10_000,)
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class FashionMnist:
    """Images are uint8 [images, 28, 28], labels int64 [images]."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


def load(cache: Path, *, system: Path = DEBIAN, mirrors: Sequence[str] = MIRRORS) -> FashionMnist:
    """Read it from `system`, else from `cache`, which is filled from the first mirror with valid files.

    Raises RejectedError (`dataset_unavailable`) if no source has it.
    """
    arrays = [_read(file, cache, system, mirrors) for file in (*FILES["train"], *FILES["test"])]
    return FashionMnist(arrays[0], arrays[1].astype(np.int64), arrays[2], arrays[3].astype(np.int64))


def _read(file: IdxFile, cache: Path, system: Path, mirrors: Sequence[str]) -> NDArray[np.uint8]:
    wrong: list[str] = []
    for folder in (system, cache):
        path = folder / file.name
        if path.is_file():
            content = _decompress(path.read_bytes(), file)
            if content is not None:
                return np.frombuffer(content, np.uint8, offset=file.header_bytes).reshape(file.shape)
            wrong.append(f"{path} has unexpected contents")
    content = _download(file, cache, mirrors, wrong)
    return np.frombuffer(content, np.uint8, offset=file.header_bytes).reshape(file.shape)


def _decompress(compressed: bytes, file: IdxFile) -> bytes | None:
    """The content if its digest matches."""
    try:
        content = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(compressed, file.size + 1)
    except zlib.error:
        return None
    return content if hashlib.sha256(content).hexdigest() == file.sha256 else None


def _download(file: IdxFile, cache: Path, mirrors: Sequence[str], wrong: list[str]) -> bytes:
    for mirror in mirrors:
        url = f"{mirror}/{file.name}"
        try:
            compressed = _fetch(url)
        except httpx.HTTPError as error:
            wrong.append(f"{url}: {error or type(error).__name__}")
            continue
        content = _decompress(compressed, file)
        if content is not None:
            _keep(compressed, cache / file.name)
            return content
        wrong.append(f"{url} has unexpected contents")
    raise _unavailable(file, wrong)


def _fetch(url: str) -> bytes:
    with httpx.stream("GET", url, timeout=httpx.Timeout(30, connect=10), follow_redirects=True) as response:
        response.raise_for_status()
        received = bytearray()
        for chunk in response.iter_raw():
            received += chunk
            if len(received) > _MAX_COMPRESSED_BYTES:
                break
        return bytes(received)


def _keep(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as temporary:
        temporary.write(content)
        temporary.flush()
        os.fsync(temporary.fileno())
    Path(temporary.name).replace(path)


def _unavailable(file: IdxFile, wrong: list[str]) -> RejectedError:
    return reject(
        "dataset_unavailable",
        f"Fashion-MNIST is not on this machine and could not be downloaded ({file.name}: {'; '.join(wrong)}). "
        "Either install Debian's package (`apt-get install dataset-fashion-mnist`), or allow HTTPS to "
        f"{' or '.join(MIRRORS)} and add the dataset again.",
    )


def padded(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[images, 28, 28] -> [images, 1, 32, 32], zero-padded."""
    border = (IMAGE_SIZE - images.shape[-1]) // 2
    framed = np.zeros((len(images), 1, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    framed[:, 0, border:-border, border:-border] = images
    return framed
