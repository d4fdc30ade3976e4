"""A search that can be waited for, steered and asked for its front."""

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
from paretofit.client.api_object import Bound
from paretofit.client.calling import M, listing, method
from paretofit.client.fronts import Front
from paretofit.client.pages import items


class Search(Bound[M], schemas.Search):
    """A search as it was when it was read."""

    @method
    async def refresh(self) -> SearchDetail[M]:
        """The search as it is now."""
        return await read(self._transport, self.id)

    @method
    async def wait(
        self, *, timeout: float | None = None, poll: float = 1.0, progress: bool | None = None
    ) -> SearchDetail[M]:
        """The search once it is over: look at its `state`. `progress` shows a bar, or none; unset: on a terminal.

        Raises TimeoutError after `timeout` seconds; the search goes on then.
        """
        return await wait(self._transport, self.id, timeout=timeout, poll=poll, progress=progress)

    @listing
    def events(self, *, after: int = 0) -> AsyncIterator[Event]:
        """What happens in it, from event `after` + 1 on, until it is over."""
        return following.events(self._transport, self.id, after)

    @listing
    def trials(self) -> AsyncIterator[Trial]:
        """Its trials, in the order they were planned."""
        return items(self._transport, f"/v1/searches/{self.id}/trials", Trial)

    @method
    async def front(self, *, x: Cost = "macs", device: str | None = None, dominated: bool = False) -> Front[M]:
        """Its Pareto front over the cost `x` (latency_ms: on `device`), on request with the points that others
        dominate."""
        return await fronts.read(self._transport, self.id, x=x, device=device, dominated=dominated)

    @method
    async def cancel(self) -> SearchDetail[M]:
        """Ask it to stop; its running trials end a little later."""
        return await steer(self._transport, self.id, "cancel")

    @method
    async def pause(self) -> SearchDetail[M]:
        """Ask it to rest; its running trials save their work and wait."""
        return await steer(self._transport, self.id, "pause")

    @method
    async def resume(self) -> SearchDetail[M]:
        """Let it go on after a pause, its trials from their checkpoints."""
        return await steer(self._transport, self.id, "resume")

    @method
    async def clone(self, changes: Mapping[str, Any] | None = None) -> SearchDetail[M]:
        """Submit it again, with another name, seed, limits or labels; in limits and labels null removes one."""
        return await steer(self._transport, self.id, "clone", changes or {})

    @method
    async def delete(self) -> None:
        """Remove it, once it is over, with its trials, points and files."""
        await self._transport.request("DELETE", f"/v1/searches/{self.id}")

    @method
    async def study(self, path: str | Path) -> Path:
        """Write it to `path` as a study of Optuna's: a journal, or SQLite if the file's name ends in .db or .sqlite3.

        Raises ImportError for SQLite without Optuna.
        """
        return await studies.write(self._transport, self.id, Path(path))


class SearchDetail(Search[M]):
    """A search with its specification and what came of it: `summary` is its front in figures (`front` in JSON)."""

    model_config = ConfigDict(serialize_by_alias=True)

    spec: dict[str, Any] = Field(description="As accepted: with defaults filled in and the dataset's profile.")
    usage: schemas.Usage
    summary: schemas.FrontSummary = Field(alias="front")
    provenance: dict[str, Any]


async def read(transport: M, search_id: str) -> SearchDetail[M]:
    """A search as it is now."""
    return await transport.read(SearchDetail[M], f"/v1/searches/{search_id}")


async def steer(
    transport: M, search_id: str, verb: str, body: Mapping[str, Any] | None = None, key: str | None = None
) -> SearchDetail[M]:
    """What became of a search, or of its clone."""
    path = f"/v1/searches/{search_id}/{verb}"
    return await transport.read(SearchDetail[M], path, method="POST", json=body, idempotency_key=key)


async def wait(
    transport: M, search_id: str, *, timeout: float | None, poll: float, progress: bool | None
) -> SearchDetail[M]:
    """The search once it is over. Raises TimeoutError."""
    deadline = following.Deadline(timeout)
    with bars.search(shown=progress) as show:
        while True:
            search = await read(transport, search_id)
            show(search)
            if search.state in TERMINAL:
                return search
            deadline.check(f"search {search_id} is still {search.state}")
            await transport.sleep(poll)
