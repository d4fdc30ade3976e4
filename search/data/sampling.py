"""uint8 images on a device -> crops, mirrored, resized, normalized: batched tensor code without synchronization.

Images are stored one after another in a flat tensor, because their sizes can differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Boxes:
    """Crop boxes of a batch: int64 [batch, 1] each. The image begins at `offset` of the flat tensor and has `height` x
    `width`; the box's corner is (`top`, `left`), which may lie outside; `flip` is 0 or 1."""

    offset: Tensor
    height: Tensor
    width: Tensor
    top: Tensor
    left: Tensor
    box_height: Tensor
    box_width: Tensor
    flip: Tensor


def crop(
    flat: Tensor, boxes: Boxes, size: tuple[int, int], channels: int, padding_mode: Literal["zeros", "reflect"]
) -> Tensor:
    """Crops of one size (box sizes are ignored), uint8 [batch, channels, height, width].

    Zeros surround an image. With `reflect`, an image smaller than `size` is first centered in a zero frame of that
    size; positions beyond the frame, or beyond a larger image, are mirrored at its border."""
    steps_y, steps_x = (torch.arange(side, device=flat.device) for side in size)
    y = boxes.top + steps_y
    x = boxes.left + torch.where(boxes.flip > 0, size[1] - 1 - steps_x, steps_x)
    if padding_mode == "reflect":
        y, x = _reflect(y, boxes.height, size[0]), _reflect(x, boxes.width, size[1])
    pixels = _take(flat, boxes, _clamp(y, boxes.height), _clamp(x, boxes.width), channels)
    inside_y, inside_x = (y >= 0) & (y < boxes.height), (x >= 0) & (x < boxes.width)
    return pixels.mul_((inside_y[:, :, None] & inside_x[:, None, :]).unsqueeze(1))


def resized_crop(flat: Tensor, boxes: Boxes, size: tuple[int, int], channels: int) -> Tensor:
    """Boxes within their images resized to one size: bilinear (align_corners=False), float32 [batch, channels, height,
    width] in [0, 255]."""
    y_low, y_high, y_weight = _taps(boxes.top, boxes.box_height, size[0])
    x_low, x_high, x_weight = _taps(boxes.left, boxes.box_width, size[1])
    mirrored = boxes.flip > 0
    x_low, x_high, x_weight = (torch.where(mirrored, taps.flip(1), taps) for taps in (x_low, x_high, x_weight))
    weight_x, weight_y = x_weight[:, None, None, :], y_weight[:, None, :, None]

    def row(y: Tensor) -> Tensor:
        left = _take(flat, boxes, y, x_low, channels).float()
        right = _take(flat, boxes, y, x_high, channels).float()
        return left.lerp_(right, weight_x)

    return row(y_low).lerp_(row(y_high), weight_y)


def normalize(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels in [0, 255] -> float32 (pixels / 255 - mean) / std; mean and std are [channels, 1, 1]."""
    return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)


def resize(x: Tensor, size: tuple[int, int], *, align_corners: bool = True, antialias: bool = False) -> Tensor:
    """Bilinear, float [batch, channels, height, width]; `x` itself if it has the size."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners, antialias=antialias)


def _take(flat: Tensor, boxes: Boxes, y: Tensor, x: Tensor, channels: int) -> Tensor:
    """Pixels of every channel at y [batch, height] and x [batch, width], both inside."""
    place = (boxes.offset + y * boxes.width)[:, None, :, None] + x[:, None, None, :]
    if channels > 1:
        plane = (boxes.height * boxes.width)[:, :, None, None]
        place = place + plane * torch.arange(channels, device=flat.device)[None, :, None, None]
    return flat.index_select(0, place.reshape(-1)).view(place.shape)


def _clamp(at: Tensor, side: Tensor) -> Tensor:
    return torch.minimum(at.clamp(min=0), side - 1)


def _reflect(at: Tensor, side: Tensor, least: int) -> Tensor:
    """Positions mirrored repeatedly at the border pixels of the image, or of the centered frame of `least` pixels
    around a smaller one. Positions within the frame do not change, even outside the image."""
    start = torch.div(side - least, 2, rounding_mode="floor").clamp(max=0)
    framed = side.clamp(min=least)
    period = (2 * (framed - 1)).clamp(min=1)
    at = torch.remainder(at - start, period)
    return torch.minimum(at, period - at).clamp_(min=0).minimum(framed - 1) + start


def _taps(start: Tensor, length: Tensor, out: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two source pixels of each output pixel and the second one's weight, [batch, out]."""
    steps = torch.arange(out, device=start.device, dtype=torch.float32)
    source = ((steps + 0.5) * (length.float() / out) - 0.5).clamp_(min=0)
    low = torch.minimum(source.long(), length - 1)
    return start + low, start + torch.minimum(low + 1, length - 1), source - low
