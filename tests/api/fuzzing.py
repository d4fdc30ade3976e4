"""The number of examples of the fuzz tests, which `make fuzz` multiplies."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings


def fuzz_settings(examples: int) -> settings:
    """Settings for this many examples, times FUZZ; the same examples in each run unless FUZZ is set."""
    factor = int(os.environ.get("FUZZ", "1"))
    return settings(
        max_examples=examples * factor,
        deadline=None,
        database=None,
        derandomize=factor == 1,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if factor > 1 else [])],
        suppress_health_check=list(HealthCheck),
    )
