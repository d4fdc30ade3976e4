from __future__ import annotations

import pytest

from paretofit.client.numbers import format_bytes, format_quantity, format_seconds, format_tick, parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5M", 5e6),
        ("300k", 3e5),
        ("1.2G", 1.2e9),
        ("2b", 2e9),
        ("1e6", 1e6),
        ("5_000", 5e3),
        ("12,500", 12.5e3),
        (" .5 T ", 5e11),
    ],
)
def test_quantities_are_parsed(text: str, value: float) -> None:
    assert parse_quantity(text) == value


@pytest.mark.parametrize("text", ["", "M", "5MB", "-1", "0", "five", "nan", "1e999"])
def test_invalid_quantities_are_rejected_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"invalid quantity .* such as 5000000, 5M or 300k"):
        parse_quantity(text)


def test_quantities_are_formatted_with_three_digits() -> None:
    assert [format_quantity(value) for value in (0, 7, 999, 1000, 2_961_234, 999_700, 1e9)] == [
        *("0", "7", "999", "1.00k", "2.96M", "1.00M", "1.00G")
    ]
    assert [format_tick(value) for value in (2e5, 1e6, 1.5e6)] == ["200k", "1M", "1.5M"]
    assert [format_bytes(value) for value in (12, 12_345, 3e9)] == ["12 B", "12.3 kB", "3 GB"]


def test_durations_are_formatted() -> None:
    assert [format_seconds(value) for value in (0.4, 59.6, 61, 3700)] == [
        "0 s",
        "1 min 00 s",
        "1 min 01 s",
        "1 h 01 min",
    ]
