"""Searches: submit one, follow it, read its front."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from paretofit.api.schemas.events import Event
from paretofit.api.schemas.points import Bound, Cost
from paretofit.api.schemas.searches import Estimate
from paretofit.api.schemas.trials import Trial
from paretofit.client import following, fronts, search, studies
from paretofit.client.api_object import Resource
from paretofit.client.calling import M, listing, method
from paretofit.client.fronts import Front
from paretofit.client.pages import items
from paretofit.client.point import Point
from paretofit.client.search import Search, SearchDetail
from paretofit.client.submission import SearchFields


class Searches(Resource[M]):
    """`client.searches`."""

    @method
    async def create(
        self,
        spec: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[SearchFields],
    ) -> SearchDetail[M]:
        """Submit a search, given as a whole, by its fields, or both. However often the request has to be repeated, one
        search comes of it.

        Pass an `idempotency_key` of your own to repeat a submission safely from another process.
        """
        return await self._transport.read(
            SearchDetail[M],
            "/v1/searches",
            method="POST",
            json={**(spec or {}), **fields},
            idempotency_key=idempotency_key,
        )

    @method
    async def estimate(self, spec: Mapping[str, Any] | None = None, **fields: Unpack[SearchFields]) -> Estimate:
        """What a search would explore and take; nothing is stored."""
        body = {**(spec or {}), **fields}
        return await self._transport.read(Estimate, "/v1/searches/estimate", method="POST", json=body)

    @method
    async def get(self, search_id: str) -> SearchDetail[M]:
        """A search as it is now."""
        return await search.read(self._transport, search_id)

    @listing
    def list(
        self, *, state: str | None = None, method: str | None = None, label: str | None = None
    ) -> AsyncIterator[Search[M]]:
        """The searches, newest first; `label` is `name` or `name:value`."""
        filters = {"state": state, "method": method, "label": label}
        return items(self._transport, "/v1/searches", Search[M], filters)

    @method
    async def cancel(self, search_id: str) -> SearchDetail[M]:
        """Ask a search to stop; its running trials end a little later."""
        return await search.steer(self._transport, search_id, "cancel")

    @method
    async def pause(self, search_id: str) -> SearchDetail[M]:
        """Ask a search to rest; its running trials save their work and wait."""
        return await search.steer(self._transport, search_id, "pause")

    @method
    async def resume(self, search_id: str) -> SearchDetail[M]:
        """Let a paused search go on, its trials from their checkpoints."""
        return await search.steer(self._transport, search_id, "resume")

    @method
    async def clone(
        self, search_id: str, changes: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> SearchDetail[M]:
        """Submit a search again, with another name, seed, limits or labels; in limits and labels null removes one."""
        return await search.steer(self._transport, search_id, "clone", changes, idempotency_key)

    @method
    async def change(self, search_id: str, changes: Mapping[str, Any]) -> SearchDetail[M]:
        """Give a search another name, labels, limits or priority; in limits and labels null removes one."""
        return await self._transport.read(SearchDetail[M], f"/v1/searches/{search_id}", method="PATCH", json=changes)

    @method
    async def delete(self, search_id: str) -> None:
        """Remove a search that is over, with its trials, points and files."""
        await self._transport.request("DELETE", f"/v1/searches/{search_id}")

    @listing
    def trials(self, search_id: str) -> AsyncIterator[Trial]:
        """The trials of a search, in the order they were planned."""
        return items(self._transport, f"/v1/searches/{search_id}/trials", Trial)

    @listing
    def events(self, search_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """What happens in a search, from event `after` + 1 on, until it is over. A lost connection is taken up
        again."""
        return following.events(self._transport, search_id, after)

    @method
    async def wait(
        self, search_id: str, *, timeout: float | None = None, poll: float = 1.0, progress: bool | None = False
    ) -> SearchDetail[M]:
        """The search once it is over. Raises TimeoutError after `timeout` seconds; the search goes on then. `progress`
        shows a bar; None: on a terminal."""
        return await search.wait(self._transport, search_id, timeout=timeout, poll=poll, progress=progress)

    @method
    async def front(
        self, search_id: str, *, x: Cost = "macs", device: str | None = None, dominated: bool = False
    ) -> Front[M]:
        """The Pareto front over the cost `x` (latency_ms: on `device`), on request with the points that others
        dominate."""
        return await fronts.read(self._transport, search_id, x=x, device=device, dominated=dominated)

    @method
    async def select(self, search_id: str, constraints: Sequence[Bound]) -> Point[M]:
        """The most accurate point of the front that meets every bound. Raises ApiError (409) if none does."""
        return await fronts.select(self._transport, search_id, constraints)

    @method
    async def study(self, search_id: str, path: str | Path) -> Path:
        """Write a search to `path` as a study of Optuna's: a journal, or SQLite if the file's name ends in .db or
        .sqlite3.

        Raises ImportError for SQLite without Optuna.
        """
        return await studies.write(self._transport, search_id, Path(path))
