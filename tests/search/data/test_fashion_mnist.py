from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from paretofit.search.contracts.dataset import BuiltinSource, DatasetSpec, Splits
from paretofit.search.data import fashion_mnist
from paretofit.search.data.ingest import IngestRequest, Ready, ingest
from paretofit.search.data.rejection import RejectedError
from paretofit.search.data.store import Dataset

NOWHERE = Path("/nonexistent")

pytestmark = pytest.mark.skipif(
    not fashion_mnist.DEBIAN.is_dir(), reason=f"needs {fashion_mnist.DEBIAN}: apt-get install dataset-fashion-mnist"
)


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def mirror() -> Iterator[str]:
    """Serves the Debian files over HTTP."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(fashion_mnist.DEBIAN))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def add(out: Path, *, seed: int = 0, subset: int | None = None, image_size: int | None = None) -> tuple[Ready, Dataset]:
    source = BuiltinSource(name="fashion_mnist", subset=subset)
    spec = DatasetSpec(name="test", source=source, seed=seed, image_size=image_size)
    return ingest(IngestRequest(spec=spec, cache=NOWHERE), out), Dataset.open(out)


def test_profile_of_fashion_mnist(tmp_path: Path) -> None:
    ready, dataset = add(tmp_path)
    profile = dataset.profile
    assert profile == ready.profile
    assert profile.images == {"train": 54_000, "selection": 6_000, "report": 10_000}
    assert profile.classes[0] == "T-shirt/top"
    assert (profile.channels, profile.image_size) == (1, (32, 32))
    for name, each in (("train", 5_400), ("selection", 600), ("report", 1_000)):
        assert np.bincount(dataset.split(name).labels).tolist() == [each] * 10
        assert set(ready.report["class_counts"][name].values()) == {each}
    # The published mean and standard deviation, .2860 and .3530, are of all 60,000 images of 28 x 28.
    raw = fashion_mnist.load(NOWHERE).train_images
    mean = raw.mean() / 255
    second = np.square(np.arange(256, dtype=np.uint16))[raw].mean() / 255**2
    assert round(mean, 4) == 0.2860
    assert round((second - mean**2) ** 0.5, 4) == 0.3530
    assert profile.mean[0] == pytest.approx(mean * (28 / 32) ** 2, abs=5e-4)
    assert ready.report["sizes"]["height"] == {"min": 28, "median": 28, "max": 28}


def test_first_test_image_is_an_ankle_boot_padded_with_zeros(tmp_path: Path) -> None:
    _, dataset = add(tmp_path, subset=100)
    report = dataset.split("report")
    image = report.image(0)
    assert report.labels[0] == dataset.profile.classes.index("Ankle boot")
    assert image.shape == (1, 32, 32)
    inner = image[0, 2:30, 2:30]
    assert image.sum() == inner.sum()
    assert hashlib.sha256(inner.tobytes()).hexdigest() == FIRST_TEST_IMAGE


FIRST_TEST_IMAGE = "ffc7351ed0f8bae542820866086177fa4e0b366b97bf9d998dffdb8dbe138787"


def test_subset_is_stratified_and_keeps_the_report_split(tmp_path: Path) -> None:
    _, dataset = add(tmp_path, subset=1_000, seed=4)
    assert dataset.profile.images == {"train": 900, "selection": 100, "report": 10_000}
    assert np.bincount(dataset.split("train").labels).tolist() == [90] * 10
    assert np.bincount(dataset.split("selection").labels).tolist() == [10] * 10


def test_equal_seeds_give_identical_bytes(tmp_path: Path) -> None:
    first, second, other = (
        add(tmp_path / name, subset=200, seed=seed)[0] for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for name in first.files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert first.profile.fingerprint == second.profile.fingerprint != other.profile.fingerprint


@pytest.mark.parametrize(("subset", "image_size", "code"), [(60_001, None, "subset"), (None, 64, "image_size")])
def test_invalid_options_are_rejected(tmp_path: Path, subset: int | None, image_size: int | None, code: str) -> None:
    with pytest.raises(RejectedError) as error:
        add(tmp_path, subset=subset, image_size=image_size)
    assert [reason.code for reason in error.value.reasons] == [code]


def test_files_are_downloaded_once_and_cached(tmp_path: Path, mirror: str) -> None:
    downloaded = fashion_mnist.load(tmp_path, system=NOWHERE, mirrors=("http://127.0.0.1:9", mirror))
    cached = fashion_mnist.load(tmp_path, system=NOWHERE, mirrors=())
    packaged = fashion_mnist.load(NOWHERE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        file.name for files in fashion_mnist.FILES.values() for file in files
    )
    for other in (cached, packaged):
        assert (downloaded.train_images == other.train_images).all()
        assert (downloaded.test_labels == other.test_labels).all()


def test_corrupt_downloads_are_rejected(tmp_path: Path, mirror: str) -> None:
    name = "train-labels-idx1-ubyte.gz"
    genuine = (fashion_mnist.DEBIAN / name).read_bytes()
    (tmp_path / name).write_bytes(genuine[:-100])
    loaded = fashion_mnist.load(tmp_path, system=NOWHERE, mirrors=(mirror,))
    assert np.bincount(loaded.train_labels).tolist() == [6_000] * 10
    assert (tmp_path / name).read_bytes() == genuine


def test_missing_files_error_names_both_sources(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(RejectedError) as refused:
        fashion_mnist.load(tmp_path, system=NOWHERE, mirrors=(f"{mirror}/missing", "http://127.0.0.1:9"))
    (reason,) = refused.value.reasons
    assert reason.code == "dataset_unavailable"
    assert "apt-get install dataset-fashion-mnist" in reason.detail
    assert fashion_mnist.MIRRORS[0] in reason.detail
    assert "404" in reason.detail
    assert list(tmp_path.iterdir()) == []


def test_splits_follow_the_request(tmp_path: Path) -> None:
    source = BuiltinSource(name="fashion_mnist", subset=500)
    spec = DatasetSpec(name="test", source=source, splits=Splits(selection=0.2))
    ready = ingest(IngestRequest(spec=spec), tmp_path)
    assert ready.profile.images == {"train": 400, "selection": 100, "report": 10_000}
