"""`client.trials`: the units of work of a search."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from paretofit.api.schemas.trials import Curve, Curves, LogLine, TrialDetail
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, listing, method
from paretofit.client.pages import items


class Trials(Resource[M]):
    """Trials by id (`client.trials`)."""

    @method
    async def get(self, trial_id: str) -> TrialDetail:
        """Read a trial with its attempts and files."""
        return await self._transport.read(TrialDetail, f"/v1/trials/{trial_id}")

    @listing
    def logs(self, trial_id: str) -> AsyncIterator[LogLine]:
        """List the log lines of all attempts of a trial, oldest first."""
        return items(self._transport, f"/v1/trials/{trial_id}/logs", LogLine)

    @method
    async def metrics(
        self, trial_id: str, name: str | None = None, *, since_step: int | None = None, max_points: int | None = None
    ) -> Sequence[Curve]:
        """The metric curves of a trial.

        Args:
            trial_id: Id of the trial.
            name: Only this curve.
            since_step: Only values after this step.
            max_points: Maximum number of values per curve.
        """
        filters = {"name": name, "since_step": since_step, "max_points": max_points}
        params = {key: value for key, value in filters.items() if value is not None}
        return (await self._transport.read(Curves, f"/v1/trials/{trial_id}/metrics", params=params)).curves
