"""Structures under a budget of milliseconds on a machine with noisy measurements."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost
from paretofit.models.families.structures import from_line
from paretofit.search.contracts.latency import Latency
from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.contracts.trial import Trial
from paretofit.search.methods.scalenet.allocate import Clock, allocated
from paretofit.search.methods.scalenet.allocation import Site
from paretofit.search.methods.scalenet.params import ScaleNetParams
from tests.search.methods.scalenet.test_latency import ACCURACY, DEVICE, LATENCY
from tests.search.methods.scalenet.test_params import DATASET
from tests.search.recorder import Recorder

MACS_OF_A_MILLISECOND = 1e6
BUDGETS = (3.0, 4.0, 5.0, 7.0, 10.0)


@dataclass
class NoisyTimer(Clock):
    """Computes a network's latency; one of ten measurements is 50 % longer."""

    random: Random = field(default_factory=Random)

    def again(self, architecture: Architecture) -> float:
        spike = 1.5 if self.random.random() < 0.1 else self.random.uniform(1, 1.03)
        measured = spike * milliseconds(architecture)
        self.found[architecture] = Latency(median_ms=measured, p95_ms=measured, runs=1)
        return measured


def milliseconds(architecture: Architecture) -> float:
    return cost(architecture, DATASET.image_size).macs / MACS_OF_A_MILLISECOND


@pytest.mark.parametrize("seed", range(8))
def test_measurement_spikes_cost_little_budget_and_results_stay_monotonic(tmp_path: Path, seed: int) -> None:
    method = {"kind": "scalenet", "family": "scalenet20", "base_width": 0.5, "budget_metric": "latency_ms"}
    body = {"name": "x", "dataset_id": "d", "method": {**method, "budgets": BUDGETS}, "objectives": [ACCURACY, LATENCY]}
    spec = SearchSpec.model_validate(body).resolve(DATASET)
    space = spec.params(ScaleNetParams).space(DATASET)
    trial = Trial(number=1, spec=spec, params={}, dataset=tmp_path, work=tmp_path, seed=seed)
    random = Random(seed)
    sites = [
        Site(planes, tuple(tuple(random.random() for _ in range(width)) for width in row), width=fixed)
        for planes, row, fixed in zip(space.planes, space.seed, space.fixed, strict=True)
    ]
    configs = allocated(trial, sites, "learned", NoisyTimer(trial, Recorder(tmp_path), DEVICE, random=random))
    latencies = {
        config["budget"]: milliseconds(space.architecture(from_line(config["structure"]))) for config in configs
    }
    assert list(latencies.values()) == sorted(latencies.values())
    assert all(0.8 * budget <= spent <= budget for budget, spent in latencies.items()), latencies
