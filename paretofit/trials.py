"""Trials: a search's units of work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from api.schemas.trials import Curve, Curves, LogLine, TrialDetail
from paretofit.pages import items
from paretofit.transport import Transport


class Trials:
    """`client.trials`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, trial_id: str) -> TrialDetail:
        """A trial with its attempts and files."""
        return TrialDetail.model_validate_json(self._transport.request("GET", f"/v1/trials/{trial_id}").content)

    def logs(self, trial_id: str) -> Iterator[LogLine]:
        """The lines that a trial's attempts wrote, oldest first."""
        return items(self._transport, f"/v1/trials/{trial_id}/logs", LogLine)

    def metrics(
        self, trial_id: str, name: str | None = None, *, since_step: int | None = None, max_points: int | None = None
    ) -> Sequence[Curve]:
        """The curves of a trial, or the one called `name`."""
        wanted = {"name": name, "since_step": since_step, "max_points": max_points}
        params = {key: value for key, value in wanted.items() if value is not None}
        response = self._transport.request("GET", f"/v1/trials/{trial_id}/metrics", params=params)
        return Curves.model_validate_json(response.content).curves
