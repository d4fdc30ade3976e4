"""Rounding rules that scale the channels of a table."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretofit.models.families.scaling import Scale, make_divisible, nominal_strides, slimmable, truncated


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 8),
        (12, 16),
        (11.9, 16),  # 8 would be below 0.9 of the value
        (8.8, 8),
        (8.9, 16),
        (36, 40),
        (35.9, 40),
        (43.9, 40),
        (100, 104),
        (230.4, 232),
    ],
)
def test_make_divisible(value: float, expected: int) -> None:
    assert make_divisible(value) == expected


@settings(deadline=None)
@given(st.floats(0.5, 1e5))
def test_make_divisible_loses_less_than_a_tenth(value: float) -> None:
    rounded = make_divisible(value)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * value


@pytest.mark.parametrize(
    ("base", "width", "ratio", "expected"),
    [
        (64, 0.9, 0.25, 58),  # ResNet-50's stem
        (64, 1.0, 0.25, 64),
        (16, 0.9, 1, 16),
        (12, 1.0, 1, 12),
        (4, 0.5, 1, 4),
        (32, 1.6, 1, 48),
        (1024, 0.25, 1, 256),
    ],
)
def test_slimmable_channels(base: int, width: float, ratio: float, expected: int) -> None:
    assert slimmable(base, width, ratio) == expected


@settings(deadline=None)
@given(st.integers(1, 4096), st.floats(0.01, 1), st.floats(0.01, 1))
def test_slimmable_channels_are_monotonic_and_capped_at_the_base(base: int, one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    assert 1 <= slimmable(base, narrow) <= slimmable(base, wide) <= base


def test_truncated_channels() -> None:
    assert [truncated(32, width) for width in (1.0, 0.5, 0.125, 0.3, 0.01)] == [32, 16, 4, 9, 1]


@pytest.mark.parametrize(
    ("nominal", "kept"),
    [(4, 0), (7, 0), (8, 1), (16, 2), (31, 2), (32, 3), (63, 3), (64, 4), (127, 4), (128, 5), (224, 5), (1024, 5)],
)
def test_small_nominal_sizes_keep_the_last_downsamplings(nominal: int, kept: int) -> None:
    strides = (2, 1, 2, 1, 2, 1, 2, 1, 2)
    expected = [1] * (5 - kept) + [2] * kept
    assert list(nominal_strides(strides, nominal))[::2] == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [("width", 0.0), ("width", -1.0), ("width", float("nan")), ("base_width", float("inf")), ("classes", 0)],
)
def test_invalid_scales_are_rejected(field: str, value: float) -> None:
    values: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"{field} must be .*, not {value}"):
        Scale(**values)
