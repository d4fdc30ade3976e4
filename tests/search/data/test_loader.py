from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from paretofit.search.contracts.point import Preprocessing
from paretofit.search.data.augmentation import Augmentation
from paretofit.search.data.loader import Batch, TrainBatches, evaluation_batches
from paretofit.search.data.store import Dataset
from paretofit.search.data.writer import DatasetWriter, Encoding, prepare
from tests.search.data.archives import noise

SIZE = (12, 12)
TRAIN = 50


def build_dataset(out: Path, *, ragged: bool = False, encoding: Encoding = "raw", channels: int = 3) -> Dataset:
    """50 + 10 + 23 images in two classes."""
    random = np.random.default_rng(0)
    count = TRAIN + 10 + 23
    out.mkdir()
    with DatasetWriter(out, channels, encoding) as writer:
        for seed in range(count):
            size = (int(random.integers(8, 24)), int(random.integers(8, 24))) if ragged else (14, 15)
            writer.append(prepare(noise(*size, seed, channels).reshape(*size, channels).transpose(2, 0, 1), encoding))
        rows = np.split(np.arange(count), [TRAIN, TRAIN + 10])
        splits = dict(zip(("train", "selection", "report"), rows, strict=True))
        writer.finish(labels=np.arange(count) % 2, splits=splits, classes=("a", "b"), image_size=SIZE, report={})
    return Dataset.open(out)


def batches(dataset: Dataset, *, batch_size: int = 8, seed: int = 3, **recipe: Any) -> TrainBatches:
    return TrainBatches(
        dataset, batch_size=batch_size, recipe=Augmentation(**recipe), device="cpu", seed=seed, resident_bytes=10**9
    )


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first.images, second.images) and torch.equal(first.labels, second.labels)


@pytest.mark.parametrize("kind", ["pad_crop", "resized_crop", "none"])
def test_resumed_stream_gives_identical_batches(tmp_path: Path, kind: str) -> None:
    dataset = build_dataset(tmp_path / "d", ragged=True)
    uninterrupted = list(islice(batches(dataset, kind=kind).from_step(), 15))
    for step in (1, 6, 11):  # In the first epoch, at the start of the second, within the second.
        resumed = islice(batches(dataset, kind=kind).from_step(step), 4)
        assert all(same(first, second) for first, second in zip(resumed, uninterrupted[step:], strict=False))
    other = next(batches(dataset, kind=kind, seed=4).from_step())
    assert not same(other, uninterrupted[0])


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("encoding", ["raw", "encoded"])
@pytest.mark.parametrize("kind", ["pad_crop", "resized_crop"])
def test_prefetching_equals_resident_loading(tmp_path: Path, ragged: bool, encoding: Encoding, kind: Any) -> None:
    dataset = build_dataset(tmp_path / "d", ragged=ragged, encoding=encoding)
    recipe = Augmentation(kind=kind)
    resident, ahead = (
        TrainBatches(dataset, batch_size=16, recipe=recipe, device="cpu", seed=1, resident_bytes=size).from_step(2)
        for size in (10**9, 0)
    )
    assert all(same(next(resident), next(ahead)) for _ in range(5))


@pytest.mark.parametrize("resident_bytes", [10**9, 0])
def test_shards_of_all_ranks_form_the_batch(tmp_path: Path, resident_bytes: int) -> None:
    dataset = build_dataset(tmp_path / "d", ragged=True)
    recipe = Augmentation(kind="resized_crop", colour_jitter=0.4, pca_lighting=0.1)

    def stream(share: tuple[int, int]) -> Iterator[Batch]:
        return TrainBatches(
            dataset, batch_size=16, recipe=recipe, device="cpu", seed=1, share=share, resident_bytes=resident_bytes
        ).from_step(1)

    unsharded, *shares = (stream(share) for share in ((0, 1), (0, 3), (1, 3), (2, 3)))
    for _ in range(4):
        expected, parts = next(unsharded), [next(share) for share in shares]
        assert [len(part.labels) for part in parts] == [6, 5, 5]
        assert same(expected, Batch(*map(torch.cat, zip(*parts, strict=True))))
        cut = torch.tensor_split(expected.images, 3)
        assert all(torch.equal(part.images, images) for part, images in zip(parts, cut, strict=True))


def test_color_augmentation_does_not_change_crops(tmp_path: Path) -> None:
    """The crops of a step are identical with and without color augmentation."""
    dataset = build_dataset(tmp_path / "d")
    plain, lit = (next(batches(dataset, kind="pad_crop", pca_lighting=value).from_step()) for value in (0, 0.1))
    shift = (lit.images - plain.images) * torch.tensor(dataset.profile.std)[:, None, None] * 255
    torch.testing.assert_close(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-2, rtol=0)
    assert shift.abs().max() > 1


def test_epoch_has_each_image_at_most_once_and_drops_the_last_partial_batch(tmp_path: Path) -> None:
    dataset = build_dataset(tmp_path / "d")
    loader = batches(dataset, kind="none", flip=False)
    assert loader.steps_per_epoch == 6
    stream = loader.from_step()
    epochs = [torch.cat([next(stream).images for _ in range(6)]) for _ in range(2)]
    for epoch in epochs:
        assert len(epoch) == 48
        assert len({image.numpy().tobytes() for image in epoch}) == 48
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_normalized_crops_with_labels(tmp_path: Path, channels: int) -> None:
    dataset = build_dataset(tmp_path / "d", channels=channels)
    train = dataset.split("train")
    mean, std = (
        torch.tensor(values, dtype=torch.float32)[:, None, None]
        for values in (dataset.profile.mean, dataset.profile.std)
    )
    expected = {
        ((torch.from_numpy(train.image(row)[:, 1:13, 1:13].copy()).float() / 255 - mean) / std).numpy().tobytes(): label
        for row, label in enumerate(train.labels.tolist())
    }
    for batch in islice(batches(dataset, kind="none", flip=False).from_step(), 6):
        assert batch.images.shape == (8, channels, *SIZE)
        assert batch.images.dtype == torch.float32
        assert [expected[image.numpy().tobytes()] for image in batch.images] == batch.labels.tolist()


def test_augmented_values_are_nearly_standardized(tmp_path: Path) -> None:
    dataset = build_dataset(tmp_path / "d")
    images = torch.cat([batch.images for batch in islice(batches(dataset, padding=0).from_step(), 30)])
    assert images.mean().abs() < 0.05
    assert (images.std() - 1).abs() < 0.05


def test_batch_larger_than_the_split_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size 51 exceeds the 50 images of train"):
        batches(build_dataset(tmp_path / "d"), batch_size=51)


def preprocessing(dataset: Dataset, crop: tuple[int, int]) -> Preprocessing:
    return Preprocessing(crop=crop, mean=dataset.profile.mean, std=dataset.profile.std)


@pytest.mark.parametrize("crop", [(12, 12), (20, 20)])
def test_evaluation_uses_center_crops_in_order(tmp_path: Path, crop: tuple[int, int]) -> None:
    dataset = build_dataset(tmp_path / "d", ragged=True)
    report = dataset.split("report")
    evaluated = list(
        evaluation_batches(
            dataset,
            "report",
            preprocessing(dataset, crop),
            batch_size=10,
            device="cpu",
        )
    )
    assert [len(batch.labels) for batch in evaluated] == [10, 10, 3]
    assert torch.cat([batch.labels for batch in evaluated]).tolist() == report.labels.tolist()
    mean, std = (
        np.array(values, dtype=np.float32)[:, None, None] for values in (dataset.profile.mean, dataset.profile.std)
    )
    for row, image in enumerate(torch.cat([batch.images for batch in evaluated])):
        framed = np.pad(report.image(row), ((0, 0), (32, 32), (32, 32)))
        top, left = ((side + 64 - wanted) // 2 for side, wanted in zip(report.image(row).shape[1:], crop, strict=True))
        expected = (framed[:, top : top + crop[0], left : left + crop[1]] / np.float32(255) - mean) / std
        np.testing.assert_allclose(image.numpy(), expected, rtol=1e-6, atol=1e-6)


def card_steps(image: np.ndarray[Any, Any], steps: Preprocessing) -> np.ndarray[Any, Any]:
    """The first three steps of the model card, applied literally to a stored image [channels, height, width]."""
    height, width = steps.crop
    _, tall, wide = image.shape
    if steps.frame == "resize" and (tall < height or wide < width):
        scale = min(tall / height, wide / width)
        box = [math.floor(side * scale + 0.5) for side in (height, width)]
        top, left = (tall - box[0]) // 2, (wide - box[1]) // 2
        planes = [Image.fromarray(plane.astype(np.float32)) for plane in image[:, top:, left:]]
        planes = [plane.crop((0, 0, box[1], box[0])) for plane in planes]
        cut = np.stack([np.asarray(plane.resize((width, height), Image.Resampling.BILINEAR)) for plane in planes])
    else:
        cut = np.zeros((len(image), height, width), dtype=np.float32)
        top, left = math.floor((tall - height) / 2), math.floor((wide - width) / 2)
        for y in range(height):
            for x in range(width):
                if 0 <= y + top < tall and 0 <= x + left < wide:
                    cut[:, y, x] = image[:, y + top, x + left]
    mean, std = (np.array(values)[:, None, None] for values in (steps.mean, steps.std))
    result: np.ndarray[Any, Any] = (cut / 255 - mean) / std
    return result


@pytest.mark.parametrize("crop", [(12, 12), (20, 16), (40, 37)])
@pytest.mark.parametrize("frame", ["zeros", "resize"])
def test_evaluation_follows_the_model_card_steps(tmp_path: Path, crop: tuple[int, int], frame: Any) -> None:
    dataset = build_dataset(tmp_path / "d", ragged=True)
    steps = preprocessing(dataset, crop).model_copy(update={"frame": frame})
    report = dataset.split("report")
    evaluated = torch.cat([b.images for b in evaluation_batches(dataset, "report", steps, batch_size=10, device="cpu")])
    for row, image in enumerate(evaluated):
        np.testing.assert_allclose(image.numpy(), card_steps(report.image(row), steps), rtol=1e-4, atol=1e-4)


def test_padding_does_not_change_large_images(tmp_path: Path) -> None:
    dataset = build_dataset(tmp_path / "d", ragged=True)
    steps = preprocessing(dataset, (14, 13))
    images = {
        frame: torch.cat(
            [
                batch.images
                for batch in evaluation_batches(
                    dataset, "train", steps.model_copy(update={"frame": frame}), batch_size=9, device="cpu"
                )
            ]
        )
        for frame in ("zeros", "resize")
    }
    train = dataset.split("train")
    large = torch.from_numpy((train.heights >= 14) & (train.widths >= 13))
    assert 5 < large.sum() < 45
    assert torch.equal(images["zeros"][large], images["resize"][large])
    same_small = (images["zeros"][~large] == images["resize"][~large]).flatten(1).all(1)
    assert not same_small.any()


def mixed(out: Path, small: int, large: int, crop: int) -> Dataset:
    """Noise images in two classes, one smaller and one larger than the crop."""
    out.mkdir()
    with DatasetWriter(out, 3, "raw") as writer:
        for seed in range(48):
            side = (small, large)[seed % 2]
            pixels = noise(side, side, seed, 3).reshape(side, side, 3).transpose(2, 0, 1)
            writer.append(prepare(np.maximum(pixels, 1), "raw"))
        rows = np.split(np.arange(48), [32, 40])
        splits = dict(zip(("train", "selection", "report"), rows, strict=True))
        writer.finish(labels=np.arange(48) % 2, splits=splits, classes=("a", "b"), image_size=(crop, crop), report={})
    return Dataset.open(out)


@pytest.mark.parametrize(
    "recipe",
    [
        {"kind": "pad_crop", "padding": 10, "padding_mode": "reflect"},
        {"kind": "pad_crop", "padding": 10, "padding_mode": "zeros"},
        {"kind": "resized_crop"},
        {"kind": "none"},
        {"kind": "none", "padding_mode": "reflect"},
    ],
)
def test_training_pads_small_images_like_evaluation(tmp_path: Path, recipe: dict[str, Any]) -> None:
    """Images of 12 and 112 pixels with a crop of 84, a scaled-down 32, 300 and 224: only padding is black."""
    dataset = mixed(tmp_path / "d", 12, 112, 84)
    augmentation = Augmentation.model_validate(recipe)
    steps = preprocessing(dataset, (84, 84)).model_copy(update={"frame": augmentation.frame})
    mean, std = (torch.tensor(values)[:, None, None] for values in (dataset.profile.mean, dataset.profile.std))

    def black(batches: Iterator[Batch]) -> list[float]:
        """Share of black pixels in the images of each class."""
        all_batches = list(batches)
        images = torch.cat([batch.images for batch in all_batches]) * std + mean
        labels = torch.cat([batch.labels for batch in all_batches])
        return [((images[labels == label] * 255).round() == 0).float().mean().item() for label in (0, 1)]

    training = TrainBatches(dataset, batch_size=32, recipe=augmentation, device="cpu", seed=1)
    small, large = black(islice(training.from_step(), 4))
    evaluated = black(evaluation_batches(dataset, "train", steps, batch_size=16, device="cpu"))
    assert small == pytest.approx(evaluated[0], abs=1e-6)
    assert small == pytest.approx(0 if augmentation.frame == "resize" else 1 - (12 / 84) ** 2, abs=1e-6)
    assert evaluated[1] == 0
    if augmentation.padding_mode == "reflect":
        assert large == 0


def test_evaluation_of_selected_rows(tmp_path: Path) -> None:
    dataset = build_dataset(tmp_path / "d")
    rows = np.array([7, 3, 40])
    options: dict[str, Any] = {"batch_size": 2, "device": "cpu"}
    chosen = list(evaluation_batches(dataset, "train", preprocessing(dataset, SIZE), rows=rows, **options))
    all_images = torch.cat(
        [batch.images for batch in evaluation_batches(dataset, "train", preprocessing(dataset, SIZE), **options)]
    )
    assert torch.equal(torch.cat([batch.images for batch in chosen]), all_images[rows])


def test_early_exit_stops_the_reader_threads(tmp_path: Path) -> None:
    dataset = build_dataset(tmp_path / "d", encoding="encoded")
    before = threading.active_count()
    stream = TrainBatches(
        dataset, batch_size=4, recipe=Augmentation(), device="cpu", seed=0, resident_bytes=0
    ).from_step()
    next(stream)
    stream.close()
    assert threading.active_count() == before
