from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from paretofit.client.plot import PlotPoint, draw_front

FRONT = [PlotPoint(2e5, 0.7, 0.69, "small"), PlotPoint(8e5, 0.8, None, "middle"), PlotPoint(3.2e6, 0.9, 0.91, "large")]


def test_front_is_drawn(tmp_path: Path) -> None:
    path = draw_front(tmp_path / "new" / "front.png", FRONT, [PlotPoint(9e5, 0.75)], title="a front")
    with Image.open(path) as picture:
        assert picture.width > picture.height > 500
        colors = picture.convert("RGB").getcolors(maxcolors=1 << 20)
    assert colors is not None
    assert any(color == (0x1B, 0x6C, 0xA8) for _, color in colors), "the front is not in the picture"


def test_front_of_one_point_is_drawn(tmp_path: Path) -> None:
    assert draw_front(tmp_path / "front.svg", FRONT[:1], title="one").read_text().startswith("<?xml")


def test_invalid_plots_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        draw_front(tmp_path / "front.png", [], title="none")
    with pytest.raises(ValueError, match="xyz"):
        draw_front(tmp_path / "front.xyz", FRONT, title="unknown suffix")
