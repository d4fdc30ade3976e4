"""Batched cropping, compared with cropping one image at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from paretofit.search.data import boxes, sampling
from paretofit.search.data.augmentation import Augmentation
from tests.search.data.archives import noise

SIZES = [(20, 20), (17, 30), (40, 9), (33, 33), (8, 8), (21, 64), (16, 16), (25, 12)] * 4
OUT = (16, 14)

Cuts = NDArray[np.int64]


def images(channels: int) -> list[Tensor]:
    return [
        torch.from_numpy(noise(*size, seed, channels).reshape(*size, channels).transpose(2, 0, 1).copy())
        for seed, size in enumerate(SIZES)
    ]


def draw(**recipe: Any) -> Cuts:
    heights, widths = np.array(SIZES).T
    return boxes.draw(Augmentation(**recipe), np.random.default_rng(5), heights, widths, OUT)


def batched(pictures: list[Tensor], cuts: Cuts) -> tuple[Tensor, sampling.Boxes]:
    sizes = np.array([picture.numel() for picture in pictures])
    cuts[boxes.OFFSET] = np.cumsum(sizes) - sizes
    flat = torch.cat([picture.flatten() for picture in pictures])
    return flat, sampling.Boxes(*(torch.from_numpy(row)[:, None] for row in cuts))


def padded(picture: Tensor, border: int, mode: str) -> Tensor:
    """Pad so that the image begins at (border, border). `reflect`: a smaller image is first padded with zeros, and the
    result is mirrored."""
    if mode == "zeros":
        return F.pad(picture, (border,) * 4)
    missing = [max(0, least - side) for side, least in zip(picture.shape[1:], OUT, strict=True)]
    before = [(pixels + 1) // 2 for pixels in missing]
    rows, columns = ((first, pixels - first) for first, pixels in zip(before, missing, strict=True))
    framed = np.pad(picture.numpy(), ((0, 0), rows, columns))
    mirrored = [(border - first, border) for first in before]
    return torch.from_numpy(np.pad(framed, ((0, 0), *mirrored), mode="reflect"))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize(
    "recipe", [{"kind": "pad_crop", "padding": 4}, {"kind": "none"}, {"kind": "pad_crop", "padding": 0}]
)
def test_crop_equals_padding_and_slicing(channels: int, mode: Any, recipe: dict[str, Any]) -> None:
    pictures, cuts = images(channels), draw(**recipe)
    flat, of_batch = batched(pictures, cuts)
    result = sampling.crop(flat, of_batch, OUT, channels, mode)
    assert result.dtype == torch.uint8
    border = 64
    for picture, out, cut in zip(pictures, result, cuts.T.tolist(), strict=True):
        _, _, _, top, left, _, _, flip = cut
        wide = padded(picture, border, mode)
        expected = wide[:, top + border : top + border + OUT[0], left + border : left + border + OUT[1]]
        assert (out == (expected.flip(2) if flip else expected)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_resized_crop_equals_slicing_and_interpolating(channels: int) -> None:
    pictures, cuts = images(channels), draw(kind="resized_crop", minimum_scale=0.2)
    flat, of_batch = batched(pictures, cuts)
    result = sampling.resized_crop(flat, of_batch, OUT, channels)
    for picture, out, cut in zip(pictures, result, cuts.T.tolist(), strict=True):
        _, _, _, top, left, height, width, flip = cut
        box = picture[None, :, top : top + height, left : left + width].float()
        expected = F.interpolate(box, OUT, mode="bilinear", align_corners=False)[0]
        torch.testing.assert_close(out, expected.flip(2) if flip else expected, atol=1e-3, rtol=1e-5)


def test_enlarged_box_is_the_largest_with_the_aspect_ratio_of_the_crop() -> None:
    sizes = np.array([(16, 14), (40, 33), (15, 60), (60, 13), (8, 7), (3, 50), (1, 1), (16, 13)])
    heights, widths = sizes.T
    cuts, centred = boxes.enlarged(heights, widths, OUT), boxes.center(heights, widths, OUT)
    assert (cuts[:, :2] == centred[:, :2]).all()  # Large enough, so unchanged.
    for (height, width), (top, left, tall, wide) in zip(sizes[2:].tolist(), cuts[3:7, 2:].T.tolist(), strict=True):
        scale = min(height / OUT[0], width / OUT[1])
        assert abs(tall - scale * OUT[0]) <= 0.5
        assert abs(wide - scale * OUT[1]) <= 0.5
        assert (top, left) == ((height - tall) // 2, (width - wide) // 2)
        assert 1 <= tall <= height
        assert 1 <= wide <= width


def test_box_of_the_crop_size_is_copied_exactly() -> None:
    """Also through interpolation, in a batch with enlarged images."""
    pictures = images(3)
    heights, widths = np.array(SIZES).T
    flat, of_batch = batched(pictures, boxes.enlarged(heights, widths, OUT))
    result = sampling.resized_crop(flat, of_batch, OUT, 3)
    plain = sampling.crop(flat, of_batch, OUT, 3, "zeros")
    large = torch.tensor([height >= OUT[0] and width >= OUT[1] for height, width in SIZES])
    assert 0 < large.sum() < len(SIZES)
    assert torch.equal(result[large], plain[large].float())
    assert (plain[~large] == 0).flatten(1).float().mean(1).min() > 0.1
    assert (result[~large] == 0).flatten(1).float().mean(1).max() < 0.02


def test_half_of_the_images_are_flipped() -> None:
    sides = np.full(2000, 16)
    for kind in ("pad_crop", "resized_crop", "none"):
        flips = boxes.draw(Augmentation.model_validate({"kind": kind}), np.random.default_rng(0), sides, sides, OUT)[7]
        assert 900 < flips.sum() < 1100
        plain = Augmentation.model_validate({"kind": kind, "flip": False})
        assert not boxes.draw(plain, np.random.default_rng(0), sides, sides, OUT)[7].any()


def test_pad_crop_reaches_exactly_all_offsets() -> None:
    sides = np.full(4000, 20)
    _, _, _, tops, lefts, *_ = boxes.draw(Augmentation(padding=3), np.random.default_rng(0), sides, sides, (16, 20))
    assert sorted(set(tops.tolist())) == list(range(-3, 8))
    assert sorted(set(lefts.tolist())) == list(range(-3, 4))


def test_small_image_stays_centered() -> None:
    sides = np.full(4, 6)
    _, _, _, tops, lefts, *_ = boxes.draw(Augmentation(padding=2), np.random.default_rng(0), sides, sides, (16, 20))
    assert set(tops.tolist()) == {-5}
    assert set(lefts.tolist()) == {-7}


def test_resized_crop_respects_scale_and_ratio() -> None:
    heights, widths = np.full(4000, 200), np.full(4000, 300)
    recipe = Augmentation(kind="resized_crop", minimum_scale=0.25)
    _, _, _, tops, lefts, tall, wide, _ = boxes.draw(recipe, np.random.default_rng(0), heights, widths, OUT)
    assert (tops >= 0).all()
    assert (lefts >= 0).all()
    assert (tops + tall <= 200).all()
    assert (lefts + wide <= 300).all()
    share = tall * wide / (200 * 300)
    assert 0.24 < share.min() < 0.27
    assert share.max() > 0.8
    assert 0.74 < (wide / tall).min() < (wide / tall).max() < 1.35


@pytest.mark.parametrize(("height", "width", "box"), [(10, 1000, (10, 13)), (1000, 10, (13, 10))])
def test_resized_crop_of_a_strip_is_centered(height: int, width: int, box: tuple[int, int]) -> None:
    recipe = Augmentation(kind="resized_crop", minimum_scale=0.9, flip=False)
    cut = boxes.draw(recipe, np.random.default_rng(0), np.array([height]), np.array([width]), OUT)[:, 0]
    assert cut[3:7].tolist() == [(height - box[0]) // 2, (width - box[1]) // 2, *box]


def test_resize_to_the_same_size_is_the_identity() -> None:
    x = torch.rand(2, 3, 11, 13)
    assert sampling.resize(x, (11, 13)) is x


@pytest.mark.parametrize(("align_corners", "antialias"), [(True, False), (False, False), (False, True)])
def test_resize_equals_torch(align_corners: bool, antialias: bool) -> None:
    x = torch.rand(2, 3, 32, 32)
    expected = F.interpolate(x, (20, 24), mode="bilinear", align_corners=align_corners, antialias=antialias)
    assert torch.equal(sampling.resize(x, (20, 24), align_corners=align_corners, antialias=antialias), expected)


def test_resize_keeps_the_corners() -> None:
    x = torch.rand(1, 1, 32, 32)
    small = sampling.resize(x, (20, 20))
    torch.testing.assert_close(small[..., ::19, ::19], x[..., ::31, ::31])


def test_normalize_does_not_modify_its_input() -> None:
    pixels = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    before = pixels.clone()
    mean, std = torch.rand(3, 1, 1), torch.rand(3, 1, 1) + 0.1
    assert torch.equal(sampling.normalize(pixels, mean, std), (pixels.float() / 255 - mean) / std)
    assert torch.equal(pixels, before)
