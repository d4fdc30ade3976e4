"""Plan of the search: trains networks with learned shapes, several at a time, and the networks they are compared
with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from paretofit.search.contracts.plan import INITIAL, NewTrial, Plan, TrialArtifact, TrialRecord
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.shape_adaptor import budget, random_shapes
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.proposals import Proposals
from paretofit.search.methods.shape_adaptor.space import HUMAN, key

LEARN: Final = "learn"
COMPARE: Final = "compare"
PRETRAINED: Final = "pretrained"
"""Input of a training that begins with the human-designed network's weights."""
_ACTIVE: Final = frozenset({"queued", "running"})


def plan(spec: ResolvedSpec, history: Sequence[TrialRecord]) -> Plan:
    """Keeps `parallel_trials` trials active: shapes to learn, then the human-designed networks (first if their weights
    are needed), then random shapes."""
    params = spec.params(ShapeAdaptorParams)
    proposals = Proposals(spec, [record for record in history if record.params["stage"] == LEARN])
    humans = budget.humans(spec)
    pretrained = {
        record.params["config"]["family"]: record for record in history if record.params["config"]["mode"] == HUMAN
    }
    left = [config for config in humans if config["family"] not in pretrained]
    first = left if params.trains_start else []
    active = sum(record.state in _ACTIVE for record in history)
    learned = min(params.trials, proposals.count)
    if not learned:
        return Plan(done=True)
    trials: list[NewTrial] = []

    def add(stage: str, config: dict[str, Any], **inputs: TrialArtifact) -> None:
        number = len(history) + len(trials)
        epochs = budget.epochs(spec, learned, number)
        trials.append(NewTrial(params={"stage": stage, "epochs": epochs, "config": config}, inputs=inputs))

    def full() -> bool:
        return len(history) + len(trials) >= budget.trainings(spec, learned)

    def room() -> bool:
        return active + len(trials) < params.parallel_trials and not full()

    for config in first:
        if room():
            add(COMPARE, config)
    if first or any(record.state in _ACTIVE for record in pretrained.values() if params.trains_start):
        return Plan(trials=tuple(trials), done=full())
    for record in pretrained.values() if params.trains_start else ():
        if record.state != "completed":
            proposals.drop(record.params["config"]["family"], "autotl")
    while (
        room() and proposals.proposed < learned and (proposal := proposals.ask(len(history) + len(trials))) is not None
    ):
        inputs = {}
        if proposal["mode"] == "autotl" and params.trains_start:
            human = pretrained[proposal["family"]]
            inputs[PRETRAINED] = TrialArtifact(
                trial=human.number, artifact=f"{key(human.params['config'])}.safetensors"
            )
        elif proposal["mode"] == "autotl" and spec.start is None:
            # Specifications of a version that called it `init_from` and kept no record.
            inputs[PRETRAINED] = TrialArtifact(trial=None, artifact=INITIAL)
        add(LEARN, proposal, **inputs)
    if room() or proposals.proposed >= learned:
        compared = [_without_shape(record.params["config"]) for record in history]
        for baseline in [*left, *random_shapes.requested(spec)]:
            if room() and baseline not in compared:
                found = baseline if baseline["mode"] == HUMAN else random_shapes.drawn(spec, baseline)
                if found is not None:
                    add(COMPARE, found)
    return Plan(trials=tuple(trials), done=room() or full())


def _without_shape(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != "shape"}
