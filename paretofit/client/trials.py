"""Trials: a search's units of work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from paretofit.api.schemas.trials import Curve, Curves, LogLine, TrialDetail
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, listing, method
from paretofit.client.pages import items


class Trials(Resource[M]):
    """`client.trials`."""

    @method
    async def get(self, trial_id: str) -> TrialDetail:
        """A trial with its attempts and files."""
        return await self._transport.read(TrialDetail, f"/v1/trials/{trial_id}")

    @listing
    def logs(self, trial_id: str) -> AsyncIterator[LogLine]:
        """The lines that a trial's attempts wrote, oldest first."""
        return items(self._transport, f"/v1/trials/{trial_id}/logs", LogLine)

    @method
    async def metrics(
        self, trial_id: str, name: str | None = None, *, since_step: int | None = None, max_points: int | None = None
    ) -> Sequence[Curve]:
        """The curves of a trial, or the one called `name`."""
        wanted = {"name": name, "since_step": since_step, "max_points": max_points}
        params = {key: value for key, value in wanted.items() if value is not None}
        return (await self._transport.read(Curves, f"/v1/trials/{trial_id}/metrics", params=params)).curves
