from __future__ import annotations

import pytest

from paretofit.api.pages.quantities import (
    UNKNOWN,
    axis_label,
    bytes_,
    cost,
    duration,
    label,
    order,
    percent,
    quantity,
    relative,
    short,
    typed,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (quantity(2_960_000), "2.96M"),
        (quantity(999_600), "1.00M"),
        (quantity(12), "12"),
        (quantity(None), UNKNOWN),
        (bytes_(1_234_000), "1.23 MB"),
        (bytes_(12), "12 B"),
        (percent(0.9134), "91.34 %"),
        (cost(0.5182, "dense_ms"), "0.518 ms"),
        (relative(-10), "just now"),
        (relative(-61), "1 minute ago"),
        (relative(-7300), "2 hours ago"),
        (relative(30), "in less than a minute"),
        (relative(90 * 86400 - 3), "in 90 days"),
        (relative(3599), "in 1 hour"),
        (relative(23 * 3600 + 1), "in 1 day"),
        (relative(-3599), "59 minutes ago"),
        (label("dense_macs"), "MACs without masks"),
        (duration(42.4), "42 s"),
        (duration(200), "3 min 20 s"),
        (duration(7500), "2 h 05 min"),
        (duration(None), "unknown"),
        (cost(1.234, "latency_ms:onnxruntime-cpu-1t"), "1.23 ms"),
        (cost(2e6, "macs"), "2.00M"),
        (cost(2e6, "peak_activation_bytes"), "2 MB"),
        (cost(0.5, "top1"), "50.00 %"),
        (label("latency_ms:onnxruntime-cpu-1t"), "Latency on onnxruntime-cpu-1t (ms)"),
        (axis_label("peak_activation_bytes"), "Peak activation memory (bytes)"),
        (axis_label("macs"), "MACs"),
        (typed(6e6), "6M"),
        (typed(1_234_567), "1234567"),
        (typed(2.5), "2.5"),
        (short(3e6), "3M"),
        (short(0.25), "0.25"),
        (label("something_else"), "Something else"),
    ],
)
def test_quantities_are_human_readable(text: str, expected: str) -> None:
    assert text == expected


def test_common_metrics_come_first() -> None:
    metrics = ["macs", "pool_inputs", "latency_ms:b", "latency_ms:a", "selection_top1", "dense_macs"]
    expected = ["selection_top1", "macs", "latency_ms:a", "latency_ms:b", "dense_macs", "pool_inputs"]
    assert sorted(metrics, key=order) == expected
