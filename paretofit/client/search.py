"""`Search`: a search with methods to wait for it, control it and read its front."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from paretofit.api.schemas import searches as schemas
from paretofit.api.schemas.events import Event
from paretofit.api.schemas.points import Cost
from paretofit.api.schemas.searches import TERMINAL
from paretofit.api.schemas.trials import Trial
from paretofit.client import bars, following, fronts, studies
from paretofit.client.api_object import ApiObject
from paretofit.client.calling import M, listing, method
from paretofit.client.fronts import Front
from paretofit.client.pages import items


class Search(ApiObject[M], schemas.Search):
    """A search in the state that the service last reported; `refresh` reads it again."""

    @method
    async def refresh(self) -> SearchDetail[M]:
        """Read the search again."""
        return await read(self._transport, self.id)

    @method
    async def wait(
        self, *, timeout: float | None = None, poll: float = 1.0, progress: bool | None = None
    ) -> SearchDetail[M]:
        """Wait until the search has ended.

        Args:
            timeout: Seconds to wait; None waits forever.
            poll: Seconds between two polls.
            progress: Show a progress bar; None shows it on a terminal.

        Returns:
            The search in its final state; check `state`.

        Raises:
            TimeoutError: The search has not ended after `timeout` seconds. It keeps running.
        """
        return await wait(self._transport, self.id, timeout=timeout, poll=poll, progress=progress)

    @listing
    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """Iterate over its events from sequence number `after` + 1, until the search has ended.

        A lost connection is resumed.
        """
        return following.events(self._transport, self.id, after)

    @listing
    def trials(self) -> AsyncIterator[Trial]:
        """List its trials in the order they were planned."""
        return items(self._transport, f"/v1/searches/{self.id}/trials", Trial)

    @method
    async def front(self, *, x: Cost = "macs", device: str | None = None, dominated: bool = False) -> Front[M]:
        """Read its Pareto front.

        Args:
            x: The cost axis, such as `macs` or `latency_ms`.
            device: The device of `latency_ms`; may be omitted if the search has exactly one.
            dominated: Also return the dominated points.
        """
        return await fronts.read(self._transport, self.id, x=x, device=device, dominated=dominated)

    @method
    async def cancel(self) -> SearchDetail[M]:
        """Cancel the search. Running trials stop within seconds; results are kept."""
        return await control(self._transport, self.id, "cancel")

    @method
    async def pause(self) -> SearchDetail[M]:
        """Pause the search. Running trials save a checkpoint and stop."""
        return await control(self._transport, self.id, "pause")

    @method
    async def resume(self) -> SearchDetail[M]:
        """Resume a paused search. Trials continue from their checkpoints."""
        return await control(self._transport, self.id, "resume")

    @method
    async def clone(self, changes: Mapping[str, Any] | None = None) -> SearchDetail[M]:
        """Submit a copy of the search.

        Args:
            changes: New name, seed, limits or labels; a value of None removes a limit or label.
        """
        return await control(self._transport, self.id, "clone", changes or {})

    @method
    async def delete(self) -> None:
        """Delete the search with its trials, points and files. It must have ended."""
        await self._transport.request("DELETE", f"/v1/searches/{self.id}")

    @method
    async def study(self, path: str | Path) -> Path:
        """Write the search to `path` as an Optuna study.

        The suffix selects the format: SQLite for .db, .sqlite and .sqlite3, else an Optuna journal.

        Raises:
            ImportError: Optuna is not installed, for SQLite.
            DigestMismatchError: The response does not match its SHA-256.
        """
        return await studies.write(self._transport, self.id, Path(path))


class SearchDetail(Search[M]):
    """A search with its specification, usage and provenance. `summary` is the front in numbers (`front` in JSON)."""

    model_config = ConfigDict(serialize_by_alias=True)

    spec: dict[str, Any] = Field(description="As accepted: with defaults filled in and the dataset's profile.")
    usage: schemas.Usage
    summary: schemas.FrontSummary = Field(alias="front")
    provenance: dict[str, Any]


async def read(transport: M, search_id: str) -> SearchDetail[M]:
    """Read a search."""
    return await transport.read(SearchDetail[M], f"/v1/searches/{search_id}")


async def control(
    transport: M, search_id: str, action: str, body: Mapping[str, Any] | None = None, key: str | None = None
) -> SearchDetail[M]:
    """Send an action such as `pause`. Returns the updated search, or the clone."""
    path = f"/v1/searches/{search_id}/{action}"
    return await transport.read(SearchDetail[M], path, method="POST", json=body, idempotency_key=key)


async def wait(
    transport: M, search_id: str, *, timeout: float | None, poll: float, progress: bool | None
) -> SearchDetail[M]:
    """Poll until the search has ended. Raises TimeoutError."""
    deadline = following.Deadline(timeout)
    with bars.search(shown=progress) as show:
        while True:
            search = await read(transport, search_id)
            show(search)
            if search.state in TERMINAL:
                return search
            deadline.check(f"search {search_id} is still {search.state}")
            await transport.sleep(poll)
