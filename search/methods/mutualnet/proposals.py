"""Chooses the next network to measure, near the front of the measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from optuna.distributions import IntDistribution

from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.trial import trial_seed
from paretofit.search.methods.mutualnet.space import Place, Space
from paretofit.search.methods.proposals import Estimator


class Proposals:
    """Deterministic: the same seed and measurements give the same proposals."""

    def __init__(self, space: Space, objectives: Sequence[str], seed: int) -> None:
        self._space = space
        self._seed = seed
        self._taken: set[Place] = set()
        distributions = {name: IntDistribution(0, len(values) - 1) for name, values in space.axes.items()}
        self._estimator = Estimator(objectives, distributions)

    def tell(self, candidate: Candidate, metrics: Mapping[str, float]) -> None:
        """Add the metrics of a measured network."""
        place = self._space.place(candidate.config)
        self._taken.add(place)
        self._estimator.tell(dict(zip(self._space.axes, place, strict=True)), "completed", metrics)

    def ask(self) -> Candidate | None:
        """A feasible network that was not measured; None if there is none, or none could be found."""
        if len(self._taken) == self._space.size:
            return None
        seed = trial_seed(self._seed, len(self._taken))
        proposal = self._estimator.ask(seed)
        place = tuple(proposal.params[name] for name in self._space.axes)
        self._estimator.reject(proposal)  # only measured networks are added, which can differ from the proposed ones
        free = self._space.free(place, self._taken, Random(seed))
        return None if free is None else self._space.candidate(free)
