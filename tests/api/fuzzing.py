"""How much the tests that look for surprises look: `make fuzz` lets them look longer."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings


def effort(examples: int) -> settings:
    """So many examples, times FUZZ; the same ones in each run unless FUZZ is set."""
    times = int(os.environ.get("FUZZ", "1"))
    return settings(
        max_examples=examples * times,
        deadline=None,
        database=None,
        derandomize=times == 1,
        phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if times > 1 else [])],
        suppress_health_check=list(HealthCheck),
    )
