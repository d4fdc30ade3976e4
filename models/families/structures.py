"""Structure of a ScaleNet: the number of channels of each scale aggregation at each scale. Torch-free.

Source: Li et al., ScaleNet, CVPR 2019 (arXiv 1904.09460). The tables are those that the authors published.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

SCALES: Final = (1, 2, 4, 7)
"""Sides of the pools."""

Row = tuple[int, ...]
Structure = tuple[Row, ...]
"""A row for each scale aggregation, in the order of the network: channels for each of `SCALES`. The authors' files have
a fifth number, the side of the map at 224 pixels: such rows use their form, in which a pool as large as the map (7 of
7) precedes a 1x1 instead of a 3x3 convolution."""


def published(*stages: tuple[int, tuple[Row, ...]]) -> Structure:
    """Rows by the side of a stage's maps."""
    return tuple((*row, side) for side, rows in stages for row in rows)


PUBLISHED: Final[dict[str, Structure]] = {
    "scalenet50": published(
        (56, ((62, 9, 5, 12), (55, 27, 5, 1), (59, 26, 0, 3))),
        (28, ((125, 41, 6, 3), (90, 39, 9, 37), (106, 56, 4, 9), (116, 56, 3, 0))),
        (
            14,
            (
                (223, 71, 55, 0),
                (196, 104, 44, 5),
                (195, 98, 52, 4),
                (155, 128, 66, 0),
                (134, 129, 86, 0),
                (120, 127, 98, 4),
            ),
        ),
        (7, ((237, 354, 106, 0), (172, 435, 90, 0), (138, 462, 97, 0))),
    ),
    "scalenet50_light": published(
        (56, ((30, 8, 10, 16), (30, 9, 9, 16), (30, 27, 7, 0))),
        (28, ((59, 55, 13, 1), (59, 43, 8, 18), (59, 57, 12, 0), (59, 59, 9, 1))),
        (
            14,
            (
                (117, 65, 71, 3),
                (107, 16, 33, 100),
                (111, 49, 62, 34),
                (106, 61, 61, 28),
                (99, 71, 59, 27),
                (76, 50, 67, 63),
            ),
        ),
        (7, ((141, 182, 189, 0), (83, 9, 185, 235), (77, 16, 184, 235))),
    ),
    "scalenet101": published(
        (56, ((61, 11, 7, 7), (56, 23, 4, 3), (59, 24, 3, 0))),
        (28, ((123, 41, 1, 6), (126, 38, 1, 6), (127, 41, 3, 0), (127, 41, 3, 0))),
        (
            14,
            (
                (220, 86, 35, 0),
                (186, 64, 55, 36),
                (156, 25, 53, 107),
                (191, 44, 52, 54),
                (181, 53, 83, 24),
                (221, 82, 34, 4),
                (177, 62, 90, 12),
                (130, 75, 102, 34),
                (206, 71, 55, 9),
                (203, 83, 53, 2),
                (207, 73, 54, 7),
                (245, 84, 12, 0),
                (221, 103, 17, 0),
                (221, 100, 20, 0),
                (158, 99, 84, 0),
                (220, 106, 15, 0),
                (173, 92, 73, 3),
                (135, 122, 84, 0),
                (109, 71, 132, 29),
                (147, 94, 93, 7),
                (191, 108, 42, 0),
                (127, 95, 113, 6),
                (203, 117, 21, 0),
            ),
        ),
        (7, ((282, 377, 23, 0), (279, 388, 15, 0), (84, 442, 155, 1))),
    ),
    "scalenet152": published(
        (56, ((39, 27, 10, 14), (45, 32, 8, 5), (46, 36, 8, 0))),
        (
            28,
            (
                (55, 26, 35, 63),
                (89, 44, 19, 27),
                (93, 62, 14, 10),
                (110, 43, 12, 14),
                (109, 54, 13, 3),
                (119, 59, 0, 1),
                (106, 70, 3, 0),
                (114, 65, 0, 0),
            ),
        ),
        (
            14,
            (
                (224, 102, 31, 1),
                (163, 49, 68, 78),
                (115, 65, 73, 105),
                (143, 107, 71, 37),
                (144, 97, 92, 25),
                (195, 87, 60, 16),
                (198, 77, 62, 21),
                (168, 139, 43, 8),
                (80, 80, 71, 127),
                (138, 88, 93, 39),
                (107, 93, 65, 93),
                (230, 103, 25, 0),
                (182, 132, 40, 4),
                (179, 114, 53, 12),
                (220, 76, 53, 9),
                (227, 118, 13, 0),
                (196, 110, 51, 1),
                (232, 118, 8, 0),
                (224, 114, 20, 0),
                (214, 100, 43, 1),
                (139, 114, 97, 8),
                (198, 113, 47, 0),
                (151, 87, 115, 5),
                (171, 103, 83, 1),
                (172, 104, 72, 10),
                (205, 88, 65, 0),
                (170, 122, 64, 2),
                (170, 98, 81, 9),
                (223, 101, 32, 2),
                (192, 114, 52, 0),
                (112, 99, 134, 13),
                (109, 116, 130, 3),
                (110, 90, 118, 40),
                (194, 115, 49, 0),
                (178, 135, 45, 0),
                (209, 135, 14, 0),
            ),
        ),
        (7, ((341, 368, 6, 0), (363, 348, 4, 0), (311, 398, 6, 0))),
    ),
}


def check(structure: Structure) -> Structure:
    """The validated structure. Raises ValueError that names the row."""
    if not structure:
        raise ValueError("structure: empty; give one row for each scale aggregation, such as [62, 9, 5, 12]")
    for i, row in enumerate(structure):
        if len(row) not in (len(SCALES), len(SCALES) + 1) or len(row) != len(structure[0]):
            raise ValueError(
                f"structure[{i}] must hold the channels of the scales {', '.join(map(str, SCALES))} and, in all "
                f"rows or none, the side of the map: not {list(row)}"
            )
        if min(row) < 0 or not any(row[: len(SCALES)]):
            raise ValueError(f"structure[{i}] must hold channels of at least 0, with a sum above 0, not {list(row)}")
    return structure


def parse(data: Any) -> Structure:
    """A structure from JSON values: its rows, or an object with them as `structure`. Raises ValueError."""
    if isinstance(data, dict):
        data = data.get("structure")
    if not isinstance(data, list) or not all(
        isinstance(row, list) and all(type(number) is int for number in row) for row in data
    ):
        raise ValueError("structure: must be a list of rows of integers, such as [[62, 9, 5, 12, 56], ...]")
    return check(tuple(map(tuple, data)))


def written(structure: Structure) -> str:
    """In one line: `62-9-5-12 55-27-5-1 ...`."""
    return " ".join("-".join(map(str, row)) for row in structure)


def from_line(line: str) -> Structure:
    """The structure that `written` wrote. Raises ValueError."""
    try:
        return check(tuple(tuple(map(int, row.split("-"))) for row in line.split()))
    except ValueError as error:
        raise ValueError(f"structure: {line[:40]!r} is invalid ({error}); write it as '62-9-5-12 55-27-5-1'") from error


def read(path: Path | str) -> Structure:
    """The structure in a JSON file. Raises ValueError, and OSError for a missing file."""
    try:
        return parse(json.loads(Path(path).read_bytes()))
    except ValueError as error:
        raise ValueError(f"{Path(path).name}: {error}") from error


def even(channels: int) -> Row:
    """Channels in equal shares for each scale; the remainder goes to the larger maps."""
    each, rest = divmod(channels, len(SCALES))
    return tuple(each + (i < rest) for i in range(len(SCALES)))


def scaled(row: Row, channels: int, base: int) -> Row:
    """Scales a row from `base` to `channels`: in the same proportions, the sum rounded likewise."""
    ends = [0]
    for part in row:
        ends.append(ends[-1] + part)
    rounded = [(end * channels + base // 2) // base for end in ends]
    return tuple(high - low for low, high in pairwise(rounded))
