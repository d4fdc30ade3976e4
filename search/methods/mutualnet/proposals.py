"""Which network to measure next, near the front of those that have been."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from optuna.distributions import IntDistribution

from paretofit.search.contracts.params import Candidate
from paretofit.search.contracts.trial import trial_seed
from paretofit.search.methods.mutualnet.space import Place, Space
from paretofit.search.methods.proposals import Estimator


class Proposals:
    """A function of the seed and of what it has been told: told the same again, it proposes the same."""

    def __init__(self, space: Space, objectives: Sequence[str], seed: int) -> None:
        self._space = space
        self._seed = seed
        self._taken: set[Place] = set()
        distributions = {name: IntDistribution(0, len(values) - 1) for name, values in space.axes.items()}
        self._estimator = Estimator(objectives, distributions)

    def tell(self, candidate: Candidate, metrics: Mapping[str, float]) -> None:
        """What a network was measured to have."""
        place = self._space.place(candidate.config)
        self._taken.add(place)
        self._estimator.tell(dict(zip(self._space.axes, place, strict=True)), "completed", metrics)

    def ask(self) -> Candidate | None:
        """A feasible network that was not told; None if there is none, or none could be found."""
        if len(self._taken) == self._space.size:
            return None
        seed = trial_seed(self._seed, len(self._taken))
        asked = self._estimator.ask(seed)
        place = tuple(asked.params[name] for name in self._space.axes)
        self._estimator.reject(asked)  # what is measured is told, and need not be what was asked
        free = self._space.free(place, self._taken, Random(seed))
        return None if free is None else self._space.candidate(free)
