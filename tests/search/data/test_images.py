from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from paretofit.search.data.images import BadImageError, decode, inspect, scaled
from tests.search.data.archives import encoded, noise

PIXELS = noise(12, 20, 7)
LARGE = 10**9


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_lossless_formats_keep_every_pixel(kind: str, options: dict[str, Any]) -> None:
    decoded = decode(encoded(PIXELS, kind, **options), LARGE, 3)
    assert (decoded.pixels == PIXELS.transpose(2, 0, 1)).all()
    assert decoded.source_size == (12, 20)


def test_jpeg_equals_pillow_decoding() -> None:
    content = encoded(PIXELS, "JPEG", quality=90)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image)
    assert (decode(content, LARGE, 3).pixels == expected.transpose(2, 0, 1)).all()


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats_are_rejected(kind: str) -> None:
    with pytest.raises(BadImageError, match="not a PNG, JPEG or WebP"):
        inspect(encoded(PIXELS, kind), LARGE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("fraction", [0.3, 0.8])
def test_truncated_images_are_rejected(kind: str, fraction: float) -> None:
    content = encoded(noise(64, 64, 1), kind)
    with pytest.raises(BadImageError):
        decode(content[: int(len(content) * fraction)], LARGE, 3)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 "])
def test_files_with_only_a_header_are_rejected(content: bytes) -> None:
    with pytest.raises(BadImageError):
        decode(content, LARGE, 3)


def test_damaged_png_is_rejected() -> None:
    content = bytearray(encoded(PIXELS))
    content[content.index(b"IDAT") + 20] ^= 0xFF
    with pytest.raises(BadImageError, match="cannot be decoded"):
        decode(bytes(content), LARGE, 3)


def test_pixel_cap_is_checked_on_the_header() -> None:
    bomb = encoded(np.zeros((5000, 5000), dtype=np.uint8))
    assert len(bomb) < 100_000
    with pytest.raises(BadImageError, match="exceed 1,000,000"):
        inspect(bomb, 1_000_000)


def test_tiny_images_are_rejected() -> None:
    with pytest.raises(BadImageError, match="at least 8"):
        inspect(encoded(noise(7, 100, 1)), LARGE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Large color areas, which survive JPEG compression.
    upright = np.kron(noise(2, 3, 5), np.ones((16, 16, 1))).astype(np.uint8)
    as_stored = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }[orientation](upright)
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    decoded = decode(encoded(np.ascontiguousarray(as_stored), kind, exif=exif, **options), LARGE, 3)
    assert decoded.source_size == (32, 48)
    assert np.abs(decoded.pixels.astype(int) - upright.transpose(2, 0, 1)).max() <= (3 if kind == "JPEG" else 0)


def test_transparency_is_composited_on_white() -> None:
    pixels = np.zeros((10, 10, 4), dtype=np.uint8)
    pixels[:5] = (10, 20, 30, 255)
    decoded = decode(encoded(pixels), LARGE, 3).pixels
    assert (decoded[:, :5] == np.array([10, 20, 30])[:, None, None]).all()
    assert (decoded[:, 5:] == 255).all()


def as_image(mode: str) -> tuple[bytes, np.ndarray[Any, Any]]:
    gray = noise(9, 11, 3, channels=1)
    buffer = io.BytesIO()
    if mode == "I;16":
        Image.fromarray(gray.astype(np.uint16) * 256 + 77).save(buffer, "PNG")
    elif mode == "1":
        gray = np.where(gray > 127, 255, 0).astype(np.uint8)
        Image.fromarray(gray > 127).save(buffer, "PNG")
    elif mode == "LA":
        Image.merge("LA", (Image.fromarray(gray), Image.new("L", (11, 9), 255))).save(buffer, "PNG")
    elif mode == "P":
        image = Image.fromarray(gray).convert("P")
        image.putpalette([level for level in range(256) for _ in range(3)])
        image.save(buffer, "PNG")
    else:
        Image.fromarray(gray).save(buffer, "PNG")
    return buffer.getvalue(), gray


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "I;16"])
def test_gray_modes_are_detected(mode: str) -> None:
    content, gray = as_image(mode)
    assert inspect(content, LARGE).gray
    assert (decode(content, LARGE, 1).pixels == gray[None]).all()
    assert (decode(content, LARGE, 3).pixels == gray[None]).all()


def test_color_palettes_are_not_converted_to_gray() -> None:
    content = io.BytesIO()
    Image.fromarray(PIXELS).quantize(16).save(content, "PNG")
    assert not inspect(content.getvalue(), LARGE).gray
    assert not inspect(encoded(PIXELS), LARGE).gray


@pytest.mark.parametrize(
    ("sides", "short", "expected"),
    [
        ((640, 480), 256, (341, 256)),
        ((480, 640), 256, (256, 341)),
        ((100, 50), 256, (100, 50)),
        ((37, 900), 37, (37, 900)),
    ],
)
def test_scaled_keeps_aspect_ratio_and_never_enlarges(
    sides: tuple[int, int], short: int, expected: tuple[int, int]
) -> None:
    assert scaled(sides, short) == expected


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_scaling_down_is_antialiased(kind: str) -> None:
    # A fine checkerboard averages to gray.
    board = (np.indices((400, 600)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = decode(encoded(board, kind), 40, 1).pixels
    assert pixels.shape == (1, 40, 60)
    assert np.abs(pixels.astype(int) - 127).max() <= 3
