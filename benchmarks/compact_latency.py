"""Speed of FD-MobileNet against MobileNetV1 and ShuffleNetV1 at about 140, 40 and 12 million multiply-accumulates.

224 pixels, 1000 classes, batch 1, one thread, folded normalization; ONNX Runtime and ncnn, all networks interleaved in
one run, medians. The goals are the ratios in the paper, measured with ncnn on one ARM core (Qin et al., arXiv
1802.03750, table 6): 1.1 times as fast as MobileNetV1; 1.3, 1.45 and 1.8 times as fast as ShuffleNetV1.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

from benchmarks.harness import Claim, Report, run
from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost
from paretofit.models.families.registry import architecture
from paretofit.search.contracts.latency import DEVICES
from paretofit.search.latency.clock import Timed, timed
from paretofit.search.latency.prepare import prepare

SIZE: Final = (224, 224)
RUNTIMES: Final = ("onnxruntime-cpu-1t", "ncnn-cpu-1t")
TURNS: Final = 20


class Budget(NamedTuple):
    """Widths of the families at about `mmacs` million MACs, and the goals for the speedup of FD-MobileNet."""

    mmacs: int
    fd_mobilenet: float
    mobilenet_v1: float
    shufflenet_v1: float
    over_mobilenet_v1: float
    over_shufflenet_v1: float

    def networks(self) -> dict[str, Architecture]:
        """The networks by family."""
        return {
            "fd_mobilenet": architecture("fd_mobilenet", width=self.fd_mobilenet),
            "mobilenet_v1": architecture("mobilenet_v1", width=self.mobilenet_v1),
            "shufflenet_v1": architecture("shufflenet_v1", width=self.shufflenet_v1, groups=3),
        }


BUDGETS: Final = (
    Budget(140, 1.0, 0.5, 1.0, over_mobilenet_v1=1.1, over_shufflenet_v1=1.3),
    Budget(40, 0.5, 0.25, 0.5, over_mobilenet_v1=1.1, over_shufflenet_v1=1.45),
    Budget(12, 0.25, 0.125, 0.25, over_mobilenet_v1=1.1, over_shufflenet_v1=1.8),
)


def main() -> Report:
    return report(measured())


def measured(turns: int = TURNS) -> dict[tuple[str, int, str], Timed]:
    """Timings by runtime, budget and family."""
    with TemporaryDirectory() as scratch:
        runs = {}
        for name in RUNTIMES:
            for budget in BUDGETS:
                for family, network in budget.networks().items():
                    folder = Path(scratch) / f"{name}-{budget.mmacs}-{family}"
                    folder.mkdir()
                    runs[name, budget.mmacs, family] = prepare(network, SIZE, 1, DEVICES[name], folder)
        return dict(zip(runs, timed(list(runs.values()), turns=turns), strict=True))


def report(timings: dict[tuple[str, int, str], Timed]) -> Report:
    """The claims about the timings."""
    claims = []
    details: dict[str, Any] = {}
    for name in RUNTIMES:
        for budget in BUDGETS:
            by_family = {family: timings[name, budget.mmacs, family] for family in budget.networks()}
            own = by_family["fd_mobilenet"].median_ms
            for family, goal in (
                ("mobilenet_v1", budget.over_mobilenet_v1),
                ("shufflenet_v1", budget.over_shufflenet_v1),
            ):
                claims.append(
                    Claim(
                        f"{DEVICES[name].runtime}_{budget.mmacs}_speedup_over_{family}",
                        by_family[family].median_ms / own,
                        goal=goal,
                        better="higher",
                    )
                )
            details[f"{name} {budget.mmacs}"] = {
                family: {
                    "median_ms": round(timing.median_ms, 3),
                    "p95_ms": round(timing.p95_ms, 3),
                    "macs": cost(budget.networks()[family], SIZE).macs,
                }
                for family, timing in by_family.items()
            }
    return Report("compact_latency", tuple(claims), {"latencies": details})


if __name__ == "__main__":
    run(main)
