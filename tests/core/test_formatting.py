from __future__ import annotations

import pytest

from paretofit.core.formatting import round_decimals


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("25x25@0.4169921875 19x19@0.5", "25x25@0.417 19x19@0.5"),
        ("[0.30000000000000004, 1.2345678e-05, -2.000001]", "[0.3, 1.235e-05, -2]"),
        ("12345.678901", "12346"),
        ("torch 2.13.0, run 1.123456.1, d0.1234567", "torch 2.13.0, run 1.123456.1, d0.1234567"),
    ],
)
def test_long_fractions_are_rounded(text: str, expected: str) -> None:
    assert round_decimals(text) == expected
