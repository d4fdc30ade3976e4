from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretofit.search.contracts.dataset import Splits
from paretofit.search.data.rejection import RejectedError
from paretofit.search.data.store import Dataset
from tests.search.data.archives import add, encoded, noise, pictures, tarred, zipped


def rejection(archive: Path, out: Path, **options: Any) -> RejectedError:
    with pytest.raises(RejectedError) as error:
        add(archive, out, **options)
    assert not out.exists() or list(out.iterdir()) == []
    return error.value


def codes(rejected: RejectedError) -> list[str]:
    return [reason.code for reason in rejected.reasons]


def images(dataset: Dataset, split: str) -> set[tuple[bytes, str]]:
    """Pixels and class of every image."""
    part = dataset.split(split)
    return {
        (part.image(row).tobytes(), dataset.profile.classes[label]) for row, label in enumerate(part.labels.tolist())
    }


def expected(files: Iterable[str], channels: int = 3) -> list[tuple[bytes, str]]:
    """The expected result of `images` for `pictures`, in order."""
    pixels = (noise(12, 16, seed, channels).reshape(12, 16, channels) for seed in count())
    return [
        (image.transpose(2, 0, 1).tobytes(), name.split("/")[-2]) for image, name in zip(pixels, files, strict=False)
    ]


def test_folders_are_classes_and_splits_depend_on_the_seed(tmp_path: Path) -> None:
    files = pictures({"dog": 20, "cat": 30})
    ready, dataset = add(zipped(tmp_path / "a.zip", files), tmp_path / "out", splits=Splits(selection=0.2, report=0.1))
    assert dataset.profile.classes == ("cat", "dog")
    assert dataset.profile.channels == 3
    assert dataset.profile.image_size == (12, 12)
    assert ready.report["class_counts"] == {
        "train": {"cat": 22, "dog": 14},
        "selection": {"cat": 5, "dog": 4},
        "report": {"cat": 3, "dog": 2},
    }
    parts = [images(dataset, name) for name in ("train", "selection", "report")]
    assert set.union(*parts) == set(expected(files))
    assert sum(map(len, parts)) == 50
    assert ready.report["images"] == 50
    assert ready.report["sizes"] == {
        "height": {"min": 12, "median": 12, "max": 12},
        "width": {"min": 16, "median": 16, "max": 16},
    }
    train = dataset.split("train")
    pixels = np.stack([train.image(row) for row in range(len(train))])
    assert dataset.profile.mean == pytest.approx(pixels.mean((0, 2, 3)) / 255, rel=1e-9)
    assert dataset.profile.std == pytest.approx(pixels.std((0, 2, 3)) / 255, rel=1e-9)


@pytest.mark.parametrize("top", ["", "photos/", "./photos/"])
def test_val_becomes_the_report_split(tmp_path: Path, top: str) -> None:
    files = pictures({"train/a": 10, "train/b": 10, "val/a": 4, "val/b": 3})
    archive = tarred(tmp_path / "a.tar", {top + name: content for name, content in files.items()})
    ready, dataset = add(archive, tmp_path / "out")
    assert images(dataset, "report") == set(expected(files)[20:])
    assert ready.report["class_counts"] == {
        "train": {"a": 9, "b": 9},
        "selection": {"a": 1, "b": 1},
        "report": {"a": 4, "b": 3},
    }


@pytest.mark.parametrize("top", ["", "photos/"])
@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("train", "validation", "test"),
        ("Train", "Valid", "Testing"),
        ("TRAINING", "Validation", "TEST"),
    ],
)
def test_explicit_splits_are_kept(tmp_path: Path, top: str, train: str, validation: str, test: str) -> None:
    """Validation becomes the selection split and test the report split, without drawing. One training image per class
    is enough."""
    counts = {f"{train}/a": 7, f"{train}/b": 1, f"{validation}/a": 2, f"{validation}/b": 3, f"{test}/a": 5}
    files = pictures(counts)
    archive = zipped(tmp_path / "a.zip", {top + name: content for name, content in files.items()})
    ready, dataset = add(archive, tmp_path / "out")
    assert images(dataset, "train") == set(expected(files)[:8])
    assert images(dataset, "selection") == set(expected(files)[8:13])
    assert images(dataset, "report") == set(expected(files)[13:])
    assert ready.report["corrupt_images"] == 0
    assert ready.report["missing_classes"] == {"report": ["b"]}


@pytest.mark.parametrize(("train", "other"), [("train", "test"), ("Train", "Val"), ("training", "validation")])
def test_single_split_besides_train_is_the_report_split(tmp_path: Path, train: str, other: str) -> None:
    files = pictures({f"{train}/a": 100, f"{train}/b": 100, f"{other}/a": 4, f"{other}/b": 4})
    ready, dataset = add(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    assert images(dataset, "report") == set(expected(files)[200:])
    assert dataset.profile.images == {"train": 180, "selection": 20, "report": 8}
    assert ready.report["missing_classes"] == {}


@pytest.mark.parametrize("top", ["photos", "train", "Test", "val"])
def test_single_top_folder_is_not_a_split(tmp_path: Path, top: str) -> None:
    files = pictures({f"{top}/a": 10, f"{top}/b": 10})
    _, dataset = add(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    assert dataset.profile.classes == ("a", "b")
    assert dataset.profile.images == {"train": 16, "selection": 2, "report": 2}


def test_classes_may_have_split_names(tmp_path: Path) -> None:
    _, dataset = add(zipped(tmp_path / "a.zip", pictures({"train": 5, "test": 5, "val": 5})), tmp_path / "out")
    assert dataset.profile.classes == ("test", "train", "val")


@pytest.mark.parametrize(
    ("folders", "code", "detail"),
    [
        (("train", "val", "validation"), "ambiguous_splits", "has val/ and validation/, which are the same split"),
        (("train", "Test", "test"), "ambiguous_splits", "has Test/ and test/, which are the same split"),
        (("train", "training", "val"), "ambiguous_splits", "has train/ and training/, which are"),
        (("Val", "test"), "no_train_split", "has Val/ and test/ but no train/"),
    ],
)
def test_ambiguous_splits_are_rejected(tmp_path: Path, folders: tuple[str, ...], code: str, detail: str) -> None:
    files = pictures({f"{folder}/{name}": 5 for folder in folders for name in "ab"})
    rejected = rejection(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    assert codes(rejected) == [code]
    assert detail in rejected.reasons[0].detail


def test_classes_missing_from_train_are_named_with_their_folders(tmp_path: Path) -> None:
    counts = {"Train/a": 5, "Train/b": 5, "Valid/a": 1, "Valid/c": 1, "Test/b": 1, "Test/c": 1, "Test/d": 1}
    rejected = rejection(zipped(tmp_path / "a.zip", pictures(counts)), tmp_path / "out")
    assert [reason.detail.partition(":")[0] for reason in rejected.reasons] == [
        "'c' is in Valid and Test but not in Train",
        "'d' is in Test but not in Train",
    ]


def test_explicit_split_without_usable_images_is_rejected(tmp_path: Path) -> None:
    files = pictures({"train/a": 50, "train/b": 50, "test/a": 2})
    spoiled = {name: content[:-200] if name.startswith("test") else content for name, content in files.items()}
    rejected = rejection(zipped(tmp_path / "a.zip", spoiled), tmp_path / "out")
    assert codes(rejected) == ["empty_split"]
    assert rejected.reasons[0].detail.startswith("test/ has no usable image")


def test_enclosing_folder_is_ignored(tmp_path: Path) -> None:
    files = pictures({"photos/cat": 6, "photos/dog": 6})
    _, dataset = add(zipped(tmp_path / "a.zip", {**files, "photos/README.md": b"hi"}), tmp_path / "out")
    assert dataset.profile.classes == ("cat", "dog")


def test_equal_images_give_identical_bytes_from_any_archive(tmp_path: Path) -> None:
    files = pictures({"cat": 9, "dog": 8})
    shuffled = dict(sorted(files.items(), key=lambda pair: pair[1]))
    first, _ = add(zipped(tmp_path / "a.zip", files), tmp_path / "first")
    second, _ = add(tarred(tmp_path / "b.tgz", shuffled, "gz"), tmp_path / "second")
    assert first.files == second.files
    for name in first.files:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    third, _ = add(zipped(tmp_path / "a.zip", files), tmp_path / "third", seed=1)
    assert first.profile.fingerprint == second.profile.fingerprint != third.profile.fingerprint


def test_gray_datasets_have_one_channel_unless_an_image_has_color(tmp_path: Path) -> None:
    gray = pictures({"cat": 6, "dog": 6}, channels=1)
    _, dataset = add(zipped(tmp_path / "a.zip", gray), tmp_path / "gray")
    assert dataset.profile.channels == len(dataset.profile.mean) == 1
    assert set.union(*(images(dataset, name) for name in ("train", "selection", "report"))) == set(expected(gray, 1))
    mixed = {**gray, "cat/color.png": encoded(noise(12, 16, 99))}
    _, dataset = add(zipped(tmp_path / "b.zip", mixed), tmp_path / "mixed")
    assert dataset.profile.channels == len(dataset.profile.mean) == 3


def test_large_images_are_stored_with_a_crop_margin(tmp_path: Path) -> None:
    shapes = [(60, 90), (200, 70), (64, 64), (40, 40)] * 2
    files = {
        f"{folder}/{number}.png": encoded(noise(*shape, number))
        for folder in ("cat", "dog")
        for number, shape in enumerate(shapes)
    }
    ready, dataset = add(zipped(tmp_path / "a.zip", files), tmp_path / "out", image_size=48)
    stored = {
        (int(height), int(width))
        for name in ("train", "selection", "report")
        for height, width in zip(dataset.split(name).heights, dataset.split(name).widths, strict=True)
    }
    assert stored == {(55, 82), (157, 55), (55, 55), (40, 40)}
    assert dataset.profile.image_size == (48, 48)
    assert ready.report["sizes"]["height"] == {"min": 40, "median": 62.0, "max": 200}


@pytest.mark.parametrize(("size", "expected_size"), [((33, 47), 32), ((300, 400), 224), ((226, 226), 224)])
def test_default_training_resolution(tmp_path: Path, size: tuple[int, int], expected_size: int) -> None:
    _, dataset = add(zipped(tmp_path / "a.zip", pictures({"a": 3, "b": 3}, size)), tmp_path / "out")
    assert dataset.profile.image_size == (expected_size, expected_size)


def test_resolution_above_the_image_size_is_rejected(tmp_path: Path) -> None:
    rejected = rejection(zipped(tmp_path / "a.zip", pictures({"a": 3, "b": 3})), tmp_path / "out", image_size=64)
    assert codes(rejected) == ["image_size"]
    assert "at most 12" in rejected.reasons[0].detail


def test_few_corrupt_images_are_skipped_and_listed(tmp_path: Path) -> None:
    files = pictures({"cat": 30, "dog": 30})
    truncated = files["cat/000.png"][:-300]
    archive = zipped(
        tmp_path / "a.zip",
        {**files, "cat/broken.png": truncated, "cat/lies.png": b"GIF89a", "dog/x.gif": b"GIF89a", "notes": b""},
    )
    ready, dataset = add(archive, tmp_path / "out")
    assert [item["name"] for item in ready.report["corrupt"]] == ["cat/broken.png", "cat/lies.png"]
    assert all(item["reason"] for item in ready.report["corrupt"])
    assert (ready.report["corrupt_images"], ready.report["ignored_files"]) == (2, 2)
    assert ready.report["ignored"] == ["dog/x.gif", "notes"]
    assert set.union(*(images(dataset, name) for name in ("train", "selection", "report"))) == set(expected(files))


def test_wrong_suffix_of_a_supported_format_is_accepted(tmp_path: Path) -> None:
    files = pictures({"cat": 6, "dog": 6})
    files["cat/photo.png"] = encoded(noise(12, 16, 50), "JPEG")
    ready, _ = add(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    assert (ready.report["images"], ready.report["corrupt"]) == (13, [])


def test_too_many_corrupt_images_reject_the_archive(tmp_path: Path) -> None:
    files = pictures({"cat": 10, "dog": 10})
    rejected = rejection(zipped(tmp_path / "a.zip", {**files, "a/1.png": b"", "a/2.png": b""}), tmp_path / "out")
    assert codes(rejected) == ["corrupt_images"]
    assert rejected.report is not None
    assert [item["name"] for item in rejected.report["corrupt"]] == ["a/1.png", "a/2.png"]
    spoiled = {name: content[:-200] for name, content in files.items()}
    assert codes(rejection(zipped(tmp_path / "b.zip", spoiled), tmp_path / "out")) == ["corrupt_images"]


def test_images_outside_class_folders_are_rejected(tmp_path: Path) -> None:
    files = pictures({"train/a": 5, "train/b": 5, "other/a": 5})
    rejected = rejection(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    assert codes(rejected) == ["corrupt_images"]
    assert "train/CLASS/NAME, val/CLASS/NAME or test/CLASS/NAME" in rejected.reasons[0].detail


@pytest.mark.parametrize(
    ("folders", "code"),
    [
        ({"cat": 8}, "too_few_classes"),
        ({"cat": 8, "dog": 2}, "class_too_small"),
        ({"train/a": 8, "train/b": 1, "val/a": 1, "val/b": 1}, "class_too_small"),
        ({"train/a": 8, "train/b": 8, "val/a": 1, "val/c": 1}, "unknown_class"),
        ({"train/a": 8, "train/b": 1, "test/a": 1}, "class_too_small"),
        ({"train/a": 8, "train/b": 8, "val/a": 1, "test/c": 1}, "unknown_class"),
    ],
)
def test_unsplittable_classes_are_rejected(tmp_path: Path, folders: dict[str, int], code: str) -> None:
    rejected = rejection(zipped(tmp_path / "a.zip", pictures(folders)), tmp_path / "out")
    assert codes(rejected) == [code]
    assert rejected.report is not None
    assert rejected.report["images"] == sum(folders.values())


def test_minimal_splittable_dataset_is_accepted(tmp_path: Path) -> None:
    _, dataset = add(zipped(tmp_path / "a.zip", pictures({"cat": 3, "dog": 3})), tmp_path / "out")
    assert dataset.profile.images == {"train": 2, "selection": 2, "report": 2}


def test_all_rejection_reasons_are_reported(tmp_path: Path) -> None:
    rejected = rejection(zipped(tmp_path / "a.zip", pictures({"a": 1, "b": 9, "c": 2})), tmp_path / "out")
    assert [reason.detail.split()[0] for reason in rejected.reasons] == ["'a'", "'c'"]
    many = rejection(zipped(tmp_path / "b.zip", pictures({f"{number}": 1 for number in range(30)})), tmp_path / "out")
    assert len(many.reasons) == 20


def test_report_size_is_bounded_for_long_names(tmp_path: Path) -> None:
    good = pictures({"cat": 10, "dog": 10})
    # Each letter becomes six bytes of JSON.
    long = "\u00e9" * 900
    notes = {f"notes/{number:03}{long}": b"" for number in range(100)}
    ready, _ = add(zipped(tmp_path / "a.zip", good | notes), tmp_path / "out")
    assert ready.report["ignored_files"] == 100
    assert 0 < len(ready.report["ignored"]) < 20
    assert len(json.dumps(ready.report)) < 70_000
    names = rejection(zipped(tmp_path / "b.zip", good), tmp_path / "none", limits={"max_class_bytes": 10})
    assert codes(names) == ["class_names"]


def test_archive_without_images_is_rejected(tmp_path: Path) -> None:
    rejected = rejection(zipped(tmp_path / "a.zip", {"README": b"hello"}), tmp_path / "out")
    assert codes(rejected) == ["no_images"]
    assert rejected.report is not None
    assert rejected.report["ignored"] == ["README"]


def test_duplicates_across_splits_are_counted(tmp_path: Path) -> None:
    files = pictures({"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 2})
    files["val/a/copy.png"] = files["train/b/001.png"]
    # The same pixels in a different encoding.
    files["val/b/again.png"] = encoded(noise(12, 16, 0), compress_level=0)
    files["val/b/inner.png"] = files["val/b/000.png"]
    ready, _ = add(zipped(tmp_path / "a.zip", files), tmp_path / "out")
    assert ready.report["cross_split_duplicates"] == 2


@pytest.mark.parametrize("shape", [(20, 24), (70, 80)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_above_the_size_cap_stay_encoded(tmp_path: Path, shape: tuple[int, int], channels: int) -> None:
    smooth = {
        f"{folder}/{n}.png": encoded(
            np.linspace(n, 200 + n, shape[0] * shape[1] * channels)
            .reshape((*shape, channels) if channels > 1 else shape)
            .astype(np.uint8)
        )
        for folder in ("cat", "dog")
        for n in range(8)
    }
    archive = zipped(tmp_path / "a.zip", smooth)
    raw, raw_dataset = add(archive, tmp_path / "raw")
    capped, capped_dataset = add(archive, tmp_path / "kept", limits={"max_raw_bytes": 1000})
    assert (capped.profile.mean, capped.profile.images) == (raw.profile.mean, raw.profile.images)
    for name in ("train", "selection", "report"):
        first, second = raw_dataset.split(name), capped_dataset.split(name)
        assert second.encoding == "encoded"
        assert (first.labels == second.labels).all()
        flat, offsets = first.gather(np.arange(len(first)))
        encoded_flat, encoded_offsets = second.gather(np.arange(len(second)))
        assert (offsets == encoded_offsets).all()
        difference = np.abs(flat.astype(int) - encoded_flat)
        assert difference.max() <= (0 if min(shape) <= 64 else 4)
