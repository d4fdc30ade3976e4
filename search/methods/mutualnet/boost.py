"""The full network of a trained one, and what it gained over the same network trained on its own.

Source: Yang et al., MutualNet (arXiv 1909.12978), boosting a single network.
"""

from __future__ import annotations

from typing import Any, Final

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.search.measuring.meter import Meter
from paretofit.search.methods.mutualnet import supernet
from paretofit.search.methods.mutualnet.plan import BASELINE, SUPERNET
from paretofit.search.reporter import Point, Reporter, Stop, Trial

FILE: Final = "boosted.safetensors"
_ACCURACIES: Final = ("selection_top1", "top1")


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Report the full network as a point. Its gain is in the outputs and in the point's metrics, if there is a
    baseline: where limits left no room for its training, or shortened one of the two, `baseline` is None."""
    [candidate] = trial.spec.candidates()
    shared = supernet.load(trial.inputs[SUPERNET], trial.device)
    meter = Meter(trial, shared, candidate.input_size)
    point = meter.measure(candidate)
    if reporter.should_stop() in (Stop.CANCEL, Stop.DRAIN):
        return {}
    point = meter.publish(point, FILE)
    outputs: dict[str, Any] = {"baseline": None, **{name: point.metrics[name] for name in _ACCURACIES}}
    if BASELINE in trial.inputs:
        baseline = Point.model_validate(checkpoint.read_record(trial.inputs[BASELINE]))
        gains = {f"{name}_gain": point.metrics[name] - baseline.metrics[name] for name in _ACCURACIES}
        described = {
            "key": baseline.key,
            **{name: baseline.provenance[name] for name in ("trial", "epochs")},
            **{name: baseline.metrics[name] for name in _ACCURACIES},
        }
        outputs |= gains | {"baseline": described}
        provenance = point.provenance | {"baseline": described}
        point = point.model_copy(update={"metrics": point.metrics | gains, "provenance": provenance})
        network = meter.network.extract(Architecture.from_json(point.architecture), point.input_size)
        checkpoint.save(trial.work / FILE, network, point.model_dump(mode="json"))
    reporter.artifact(FILE, trial.work / FILE)
    reporter.point(point)
    return outputs
