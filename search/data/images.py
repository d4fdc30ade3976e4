"""Decodes one untrusted image file to pixels. Torch-free; runs in the limited process of
`paretofit.search.data.ingest`."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL import JpegImagePlugin as _jpeg  # noqa: F401, N813 - the three imports register the formats, so that
from PIL import PngImagePlugin as _png  # noqa: F401, N813 - Pillow does not load its other, less guarded ones
from PIL import WebPImagePlugin as _webp  # noqa: F401, N813 - in search of them

FORMATS = ("PNG", "JPEG", "WEBP")
MIN_SIDE = 8

_BROKEN = (
    OSError,  # Pillow's own: unidentified, truncated
    SyntaxError,  # a broken PNG chunk
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(Exception):
    """The reason to leave an image out of the dataset."""


@dataclass(frozen=True, slots=True)
class Header:
    """`sides` are those of the stored pixels, before orientation. `gray` follows the file's mode."""

    sides: tuple[int, int]
    gray: bool


@dataclass(frozen=True, slots=True)
class Decoded:
    """uint8 [channels, height, width], and the upright size (height, width) of the original image."""

    pixels: NDArray[np.uint8]
    source_size: tuple[int, int]


def scaled(sides: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Sides scaled to the shorter side `short_side`, aspect ratio kept, never enlarged."""
    short = min(sides)
    if short <= short_side:
        return sides
    first, second = (max(1, round(side * short_side / short)) for side in sides)
    return first, second


def inspect(content: bytes, max_pixels: int) -> Header:
    """Read the header of the file without decoding it. Raises BadImageError."""
    with _open(content) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise BadImageError(f"{width} x {height} pixels exceed {max_pixels:,} pixels: make it smaller")
        if min(width, height) < MIN_SIDE:
            raise BadImageError(f"{width} x {height} pixels: each side needs at least {MIN_SIDE} pixels")
        return Header((width, height), _is_gray(image))


def decode(content: bytes, short_side: int, channels: int) -> Decoded:
    """Decode the whole file, scale it down, rotate it upright, blend transparency with white. Raises BadImageError."""
    try:
        with _open(content) as image:
            sides = image.size
            target = scaled(sides, short_side)
            # A JPEG file can be decoded at 1/2, 1/4 or 1/8; keep at least twice the target size.
            image.draft("", (2 * target[0], 2 * target[1]))
            try:
                image.load()
            except _BROKEN as error:
                raise BadImageError(f"cannot be decoded: {error}") from error
            turn = _turn(image)
            plain = _plain(image)
        if plain.size != target:
            plain = plain.resize(target, Image.Resampling.BICUBIC)
        if plain.mode == "RGBA":
            plain = Image.alpha_composite(Image.new("RGBA", target, "white"), plain)
        plain = plain.convert("L" if channels == 1 else "RGB")
        if turn is not None:
            plain = plain.transpose(turn)
    except MemoryError as error:
        raise BadImageError("decoding takes more memory than allowed: make it smaller") from error
    pixels = np.asarray(plain)
    source = (sides[1], sides[0]) if turn is None or turn in _SAME_AXES else sides
    return Decoded(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1), source)


_SAME_AXES = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM)


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadImageError("not a PNG, JPEG or WebP image, despite its name: convert it") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImageError(f"exceeds the maximum number of pixels ({error}): make it smaller") from error
    except _BROKEN as error:
        raise BadImageError(f"cannot be decoded: {error}") from error


def _is_gray(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is not None:
        mode, colors = image.palette.getdata()
        return mode == "RGB" and colors[0::3] == colors[1::3] == colors[2::3]
    return image.mode in ("1", "L", "LA", "La", "I") or image.mode.startswith("I;16")


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:
        return None  # damaged metadata, valid pixels


def _plain(image: Image.Image) -> Image.Image:
    """As L, RGB or RGBA with eight bits."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        return image.convert("RGBA")
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")
