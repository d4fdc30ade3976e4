"""Runs a trial: trains one network, compares it with earlier ones during training, and measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from torch import Tensor

from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.trial import Reporter, Stop, Trial, TrialEndedError
from paretofit.search.methods.fd_mobilenet import pruning
from paretofit.search.methods.fd_mobilenet.params import FdMobileNetParams
from paretofit.search.methods.fd_mobilenet.tuning import Pruning
from paretofit.search.training import standalone
from paretofit.search.training.distributed import current
from paretofit.search.training.params import input_size
from paretofit.search.training.standalone import StandaloneTraining
from paretofit.search.training.subnet_evaluator import SubnetEvaluator

FILE: Final = "network.safetensors"


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train the trial's `config` with the recipe and its changes; report a point with weights. Raises TrialEndedError
    if an entry of `pruning` dominates it during training."""
    profile, recipe = trial.spec.dataset, trial.params["recipe"]
    params = trial.spec.params(FdMobileNetParams).model_copy(update=recipe)
    trial = replace(trial, spec=trial.spec.model_copy(update={"method": params}))
    candidate = trial.spec.candidate(trial.params["config"])
    if recipe:
        config = candidate.config | {name: float(f"{value:.4g}") for name, value in recipe.items()}
        candidate = candidate.model_copy(update={"key": f"{candidate.key}-t{trial.number}", "config": config})
    network = standalone.initial(trial, params.network(profile, candidate.config))
    evaluator = SubnetEvaluator(trial, network, input_size(profile, params.sides(profile)[0]))
    stopping = _DominanceStopping(evaluator, candidate, params.pruning, trial.params["rivals"], reporter)
    outputs, _ = standalone.run(
        trial, reporter, StandaloneTraining(network, candidate, trial.params["epochs"], FILE), evaluator, stopping
    )
    outputs |= stopping.notes
    if stopping.dominated_by is not None:
        raise TrialEndedError("pruned", outputs | {"dominated_by": stopping.dominated_by})
    return outputs | {"planned_epochs": params.epochs}


@dataclass
class _DominanceStopping:
    """Stops a training that a rival dominates. Its notes hold the comparisons, for later trials."""

    evaluator: SubnetEvaluator
    candidate: Candidate
    pruning: Pruning
    rivals: Sequence[Mapping[str, Any]]
    reporter: Reporter
    notes: dict[str, Any] = field(default_factory=lambda: {"compared": []})
    dominated_by: int | None = None

    def should_stop(self, step: int, steps: int) -> bool:
        fraction = next((f for f in self.pruning.fractions if max(1, round(f * steps)) == step < steps), None)
        if fraction is None:
            return False
        ranks = current()
        if ranks.rank == 0:
            self._compare(fraction, step)
        return ranks.agree(Stop.NO if self.dominated_by is None else Stop.LIMIT) is not Stop.NO

    def restart(self) -> None:
        self.notes = {"compared": []}

    def _compare(self, fraction: float, step: int) -> None:
        [hits] = self.evaluator.hits([self.candidate], self.evaluator.part(0, self.pruning.images))
        top1 = hits.sum().item() / len(hits)
        bits = _hexadecimal(hits)
        self.notes["compared"].append({"fraction": fraction, "top1": top1, "hits": bits})
        self.reporter.metric("compared_top1", step, top1)
        against = [rival for rival in self.rivals if rival["fraction"] == fraction]
        self.dominated_by = pruning.mcnemar_dominates(bits, against, self.pruning.errors)


def _hexadecimal(hits: Tensor) -> str:
    """bool [images] -> one bit for each, hexadecimal."""
    return f"{int(''.join('1' if hit else '0' for hit in hits.tolist()), 2):x}"
