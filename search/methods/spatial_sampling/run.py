"""Runs a trial: trains and measures a network whose masks have a target density or sparsity weight, or a baseline."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from paretofit.models.architecture import Architecture
from paretofit.models.kinds.sampling import Draw, Sampled, densities, sampled_blocks
from paretofit.models.layers.spatial_sampling import set_temperature
from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.trial import Reporter, Stop, Trial
from paretofit.search.latency import curve
from paretofit.search.methods.spatial_sampling import budget, masks, speed
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams, to_line
from paretofit.search.methods.spatial_sampling.step import Step
from paretofit.search.training import standalone, starting
from paretofit.search.training.distributed import current
from paretofit.search.training.standalone import StandaloneTraining
from paretofit.search.training.subnet_evaluator import SubnetEvaluator
from paretofit.search.training.trainer import fit

_AT_ONCE = (Stop.CANCEL, Stop.DRAIN)


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Train the network of the trial's `config` for its `epochs`; report it, and each of its fixed budgets, with
    weights, densities and a picture of its masks."""
    params = trial.spec.params(SpatialSamplingParams)
    config, epochs = trial.params["config"], trial.params["epochs"]
    if "side" in config:
        return _uniform(trial, reporter)
    profile, size = trial.spec.dataset, params.input_size(trial.spec.dataset)
    draw: Draw = config.get("baseline", "stochastic")
    plain = params.plain(profile)
    network = standalone.initial(trial, params.masked(profile, draw, 1.0, trial.spec.seed))
    batch_size = max(2, int(params.batch_size * trial.batch_scale))
    steps = epochs * (profile.images["train"] // batch_size)
    outputs, stop = fit(
        trial,
        reporter,
        network,
        Step(trial, network, config, size, steps),
        epochs,
        predict=partial(standalone.logits, network, params, size),
        initialize=starting.initializer(trial, reporter, network, size, plain=plain),
    )
    set_temperature(network, None)
    outputs["planned_epochs"] = params.epochs
    if current().rank > 0 or stop in _AT_ONCE or not outputs["steps"]:
        return outputs
    found = _Found(trial, reporter, SubnetEvaluator(trial, network, size), config, draw)
    points = found.report(outputs)
    return outputs | {"points": points}


class _Found:
    """A trained network, from which points are created."""

    def __init__(
        self, trial: Trial, reporter: Reporter, evaluator: SubnetEvaluator, config: dict[str, Any], draw: Draw
    ) -> None:
        self._trial = trial
        self._params = trial.spec.params(SpatialSamplingParams)
        self._profile = trial.spec.dataset
        self._size = self._params.input_size(self._profile)
        self._reporter = reporter
        self._evaluator = evaluator
        self._config = config | {"mask_seed": trial.spec.seed}
        self._draw = draw

    def report(self, outputs: dict[str, Any]) -> list[str]:
        """Keys of the points: the sampled network, then its fixed budgets."""
        baseline = "baseline" in self._config
        requested: Draw = self._draw if baseline else self._params.draw
        # For a budget the densities follow from the probabilities.
        counted: Draw = self._draw if requested == "budget" else requested
        trained = self._candidate(counted, [1.0] * self._number)
        top1 = self._evaluator.measure(trained).metrics["selection_top1"]
        static = self._evaluator.network.extract(self._architecture(trained), self._size)
        found = masks.densities(static, self._evaluator.images_of("train", self._size))
        fits = budget.fitting(self._trial.spec, {**self._config, "draw": counted}, found)
        as_drawn = requested == counted and fits == _rounded(found)
        if not as_drawn:
            # If the masks do not meet a constraint, a fixed budget does, because its number of positions is exact.
            fits = None if baseline else budget.fitting(self._trial.spec, {**self._config, "draw": "budget"}, found)
        points: list[str] = []
        if fits is None:
            sys.stderr.write("the network meets no constraint and is not reported\n")
        elif as_drawn:
            points += self._publish(self._evaluator.point(self._candidate(requested, fits), top1), outputs)
        else:
            points += self._measured(self._candidate("budget", fits), outputs)
        smaller = curve.SMALLER if curve.bounded(self._trial.spec) else ()
        shares = () if baseline or fits is None else dict.fromkeys((*self._params.shares, *smaller))
        for share in shares:
            if self._reporter.should_stop() is not Stop.NO:
                break
            less = budget.fitting(self._trial.spec, {**self._config, "draw": "budget"}, [share * d for d in fits or ()])
            if less is not None:
                points += self._measured(self._candidate("budget", less, share), outputs)
        return points

    @property
    def _number(self) -> int:
        return len(densities(self._evaluator.network.architecture))

    def _candidate(self, draw: Draw, found: list[float], share: float | None = None) -> Candidate:
        config = {**self._config, "draw": draw, "mask_densities": to_line(found)}
        return self._params.candidate(self._profile, config if share is None else config | {"share": share})

    def _architecture(self, candidate: Candidate) -> Architecture:
        return self._params.network(self._profile, candidate.config)

    def _measured(self, candidate: Candidate, outputs: dict[str, Any]) -> list[str]:
        if self._reporter.should_stop() in _AT_ONCE:
            return []
        return self._publish(self._evaluator.measure(candidate), outputs)

    def _publish(self, point: Point, outputs: dict[str, Any]) -> list[str]:
        """Report a point with the last computed statistics, with its speed and its masks."""
        if self._reporter.should_stop() in _AT_ONCE:
            return []
        network = self._evaluator.network.extract(Architecture.from_json(point.architecture), self._size)
        images = next(iter(self._evaluator.images_of("selection", self._size))).images[: masks.IMAGES]
        macs = self._params.candidate(self._profile, {"side": min(self._size)}).cost["macs"]
        metrics = {**point.metrics, **speed.measure(network, images), "dense_macs": float(macs)}
        provenance = {**point.provenance, "epochs": outputs["epochs"], "densities": _described(network.architecture)}
        role = "baseline" if "baseline" in self._config else "candidate"
        final = point.model_copy(update={"metrics": metrics, "provenance": provenance, "role": role})
        final = self._evaluator.publish(final, f"{point.key}.safetensors")
        described, drawn = (self._trial.work / f"{point.key}.masks.{suffix}" for suffix in ("json", "png"))
        described.write_text(json.dumps(_report(network.architecture, final), indent=1))
        masks.draw(drawn, network, images, point.preprocessing)
        for path in (self._trial.work / f"{point.key}.safetensors", described, drawn):
            self._reporter.artifact(path.name, path)
        self._reporter.point(final)
        return [point.key]


def _uniform(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """The plain network on smaller images."""
    params = trial.spec.params(SpatialSamplingParams)
    candidate = params.candidate(trial.spec.dataset, trial.params["config"])
    network = standalone.initial(trial, params.plain(trial.spec.dataset))
    size = candidate.input_size
    evaluator = SubnetEvaluator(trial, network, size)

    def timed(point: Point) -> dict[str, float]:
        images = next(iter(evaluator.images_of("selection", size))).images
        return speed.measure(network.extract(Architecture.from_json(point.architecture), size), images)

    name = f"{candidate.key}.safetensors"
    training = StandaloneTraining(network, candidate, trial.params["epochs"], name, role="baseline", further=timed)
    outputs, _ = standalone.run(trial, reporter, training, evaluator)
    return outputs | {"planned_epochs": params.epochs}


def _rounded(found: list[float]) -> list[float]:
    """As written to configurations."""
    return [int(1e4 * density) / 1e4 for density in found]


def _described(architecture: Architecture) -> dict[str, list[float]]:
    """Densities of each block by its place in the network."""
    return {
        f"blocks.{i}": list(block.densities)
        for i, block in enumerate(architecture.blocks)
        if isinstance(block, Sampled)
    }


def _report(architecture: Architecture, point: Point) -> dict[str, Any]:
    """Densities of each block, and its remaining multiply-accumulates."""
    rows = []
    size = point.input_size
    blocks = sampled_blocks(architecture)
    for i, block in enumerate(architecture.blocks):
        layers = block.layers(size)
        if isinstance(block, Sampled):
            rows.append(
                {
                    "name": f"blocks.{i}",
                    "size": layers[-1].output.size,
                    "densities": list(block.densities),
                    "macs": sum(layer.macs for layer in layers),
                    "dense_macs": sum(layer.macs for layer in block.body.layers(size)),
                }
            )
        size = layers[-1].output.size
    return {"point": point.key, "draw": blocks[0].draw, "metrics": point.metrics, "blocks": rows}
