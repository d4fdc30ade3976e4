from __future__ import annotations

import pytest

from api.pages.quantities import UNKNOWN, bytes_, cost, duration, label, percent, quantity


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (quantity(2_960_000), "2.96M"),
        (quantity(999_600), "1.00M"),
        (quantity(12), "12"),
        (quantity(None), UNKNOWN),
        (bytes_(1_234_000), "1.23 MB"),
        (bytes_(12), "12 B"),
        (percent(0.9134), "91.34 %"),
        (duration(42.4), "42 s"),
        (duration(200), "3 min 20 s"),
        (duration(7500), "2 h 05 min"),
        (duration(None), "unknown"),
        (cost(1.234, "latency_ms:onnxruntime-cpu-1t"), "1.23 ms"),
        (cost(2e6, "macs"), "2.00M"),
        (cost(2e6, "peak_activation_bytes"), "2 MB"),
        (cost(0.5, "top1"), "50.00 %"),
        (label("latency_ms:onnxruntime-cpu-1t"), "Latency on onnxruntime-cpu-1t (ms)"),
        (label("something_else"), "Something else"),
    ],
)
def test_numbers_as_people_read_them(shown: str, wanted: str) -> None:
    assert shown == wanted
