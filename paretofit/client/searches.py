"""`client.searches`: submit searches, follow and control them, read their fronts."""

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
    """Searches by id (`client.searches`)."""

    @method
    async def create(
        self,
        spec: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
        **fields: Unpack[SearchFields],
    ) -> SearchDetail[M]:
        """Submit a search. Retries never create a second search.

        Args:
            spec: The specification as a mapping.
            idempotency_key: Your own key, to repeat a submission safely from another process.
            **fields: Fields of the specification; they override those in `spec`.

        Raises:
            ApiError: The specification is invalid (422), or no network can meet its constraints (`infeasible`).
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
        """Estimate the candidates, costs and time of a search without submitting it."""
        body = {**(spec or {}), **fields}
        return await self._transport.read(Estimate, "/v1/searches/estimate", method="POST", json=body)

    @method
    async def get(self, search_id: str) -> SearchDetail[M]:
        """Read a search."""
        return await search.read(self._transport, search_id)

    @listing
    def list(
        self, *, state: str | None = None, method: str | None = None, label: str | None = None
    ) -> AsyncIterator[Search[M]]:
        """List searches, newest first.

        Args:
            state: Only searches in this state.
            method: Only searches of this method.
            label: Only searches with this label: `name` or `name:value`.
        """
        filters = {"state": state, "method": method, "label": label}
        return items(self._transport, "/v1/searches", Search[M], filters)

    @method
    async def cancel(self, search_id: str) -> SearchDetail[M]:
        """Cancel a search. Running trials stop within seconds; results are kept."""
        return await search.control(self._transport, search_id, "cancel")

    @method
    async def pause(self, search_id: str) -> SearchDetail[M]:
        """Pause a search. Running trials save a checkpoint and stop."""
        return await search.control(self._transport, search_id, "pause")

    @method
    async def resume(self, search_id: str) -> SearchDetail[M]:
        """Resume a paused search. Trials continue from their checkpoints."""
        return await search.control(self._transport, search_id, "resume")

    @method
    async def clone(
        self, search_id: str, changes: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> SearchDetail[M]:
        """Submit a copy of a search.

        Args:
            search_id: Id of the search.
            changes: New name, seed, limits or labels; a value of None removes a limit or label.
            idempotency_key: Your own key, to repeat the request safely from another process.
        """
        return await search.control(self._transport, search_id, "clone", changes, idempotency_key)

    @method
    async def change(self, search_id: str, changes: Mapping[str, Any]) -> SearchDetail[M]:
        """Change the name, labels, limits or priority of a search; a value of None removes a limit or label."""
        return await self._transport.read(SearchDetail[M], f"/v1/searches/{search_id}", method="PATCH", json=changes)

    @method
    async def delete(self, search_id: str) -> None:
        """Delete a finished search with its trials, points and files."""
        await self._transport.request("DELETE", f"/v1/searches/{search_id}")

    @listing
    def trials(self, search_id: str) -> AsyncIterator[Trial]:
        """List the trials of a search in the order they were planned."""
        return items(self._transport, f"/v1/searches/{search_id}/trials", Trial)

    @listing
    def events(self, search_id: str, *, after: int = 0) -> AsyncIterator[Event]:
        """Iterate over the events of a search from sequence number `after` + 1, until it has ended.

        A lost connection is resumed.
        """
        return following.events(self._transport, search_id, after)

    @method
    async def wait(
        self, search_id: str, *, timeout: float | None = None, poll: float = 1.0, progress: bool | None = False
    ) -> SearchDetail[M]:
        """Wait until a search has ended.

        Args:
            search_id: Id of the search.
            timeout: Seconds to wait; None waits forever.
            poll: Seconds between two polls.
            progress: Show a progress bar; None shows it on a terminal.

        Returns:
            The search in its final state; check `state`.

        Raises:
            TimeoutError: The search has not ended after `timeout` seconds. It keeps running.
        """
        return await search.wait(self._transport, search_id, timeout=timeout, poll=poll, progress=progress)

    @method
    async def front(
        self, search_id: str, *, x: Cost = "macs", device: str | None = None, dominated: bool = False
    ) -> Front[M]:
        """Read the Pareto front of a search.

        Args:
            search_id: Id of the search.
            x: The cost axis, such as `macs` or `latency_ms`.
            device: The device of `latency_ms`; may be omitted if the search has exactly one.
            dominated: Also return the dominated points.
        """
        return await fronts.read(self._transport, search_id, x=x, device=device, dominated=dominated)

    @method
    async def select(self, search_id: str, constraints: Sequence[Bound]) -> Point[M]:
        """Select the most accurate point that meets every constraint. Raises ApiError (409) if none does."""
        return await fronts.select(self._transport, search_id, constraints)

    @method
    async def study(self, search_id: str, path: str | Path) -> Path:
        """Write a search to `path` as an Optuna study.

        The suffix selects the format: SQLite for .db, .sqlite and .sqlite3, else an Optuna journal.

        Raises:
            ImportError: Optuna is not installed, for SQLite.
            DigestMismatchError: The response does not match its SHA-256.
        """
        return await studies.write(self._transport, search_id, Path(path))
