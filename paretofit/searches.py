"""Searches: submit one, follow it, read its front."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from api.schemas.events import Event
from api.schemas.points import Bound, Cost, Front, FrontPoint
from api.schemas.searches import TERMINAL, Estimate, Search, SearchDetail
from api.schemas.trials import Trial
from paretofit import sse
from paretofit.errors import ApiError, UnreachableError
from paretofit.pages import items
from paretofit.transport import Patience, Transport, describe, is_passing

_SILENCE = 60.0
"""Seconds after which a silent event stream is taken for dead: the service sends a comment more often than that."""

_LAST = frozenset(f"search.{state}" for state in TERMINAL)


class Searches:
    """`client.searches`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> SearchDetail:
        """Submit a search. However often the request has to be repeated, one search comes of it.

        Pass an `idempotency_key` of your own to repeat a submission safely from another process.
        """
        response = self._transport.request("POST", "/v1/searches", json=spec, idempotency_key=idempotency_key)
        return SearchDetail.model_validate_json(response.content)

    def estimate(self, spec: Mapping[str, Any]) -> Estimate:
        """What a search would explore and take; nothing is stored."""
        response = self._transport.request("POST", "/v1/searches/estimate", json=spec)
        return Estimate.model_validate_json(response.content)

    def get(self, search_id: str) -> SearchDetail:
        """A search as it is now."""
        return SearchDetail.model_validate_json(self._transport.request("GET", f"/v1/searches/{search_id}").content)

    def list(
        self, *, state: str | None = None, method: str | None = None, label: str | None = None
    ) -> Iterator[Search]:
        """The searches, newest first; `label` is `name` or `name:value`."""
        return items(self._transport, "/v1/searches", Search, {"state": state, "method": method, "label": label})

    def cancel(self, search_id: str) -> SearchDetail:
        """Ask a search to stop; its running trials end a little later."""
        response = self._transport.request("POST", f"/v1/searches/{search_id}/cancel")
        return SearchDetail.model_validate_json(response.content)

    def pause(self, search_id: str) -> SearchDetail:
        """Ask a search to rest; its running trials save their work and wait."""
        response = self._transport.request("POST", f"/v1/searches/{search_id}/pause")
        return SearchDetail.model_validate_json(response.content)

    def resume(self, search_id: str) -> SearchDetail:
        """Let a paused search go on, its trials from their checkpoints."""
        response = self._transport.request("POST", f"/v1/searches/{search_id}/resume")
        return SearchDetail.model_validate_json(response.content)

    def clone(self, search_id: str, changes: Mapping[str, Any], *, idempotency_key: str | None = None) -> SearchDetail:
        """Submit a search again, with another name, seed, limits or labels; in limits and labels null removes one."""
        path = f"/v1/searches/{search_id}/clone"
        response = self._transport.request("POST", path, json=changes, idempotency_key=idempotency_key)
        return SearchDetail.model_validate_json(response.content)

    def change(self, search_id: str, changes: Mapping[str, Any]) -> SearchDetail:
        """Give a search another name, labels, limits or priority; in limits and labels null removes one."""
        response = self._transport.request("PATCH", f"/v1/searches/{search_id}", json=changes)
        return SearchDetail.model_validate_json(response.content)

    def delete(self, search_id: str) -> None:
        """Remove a search that is over, with its trials, points and files."""
        self._transport.request("DELETE", f"/v1/searches/{search_id}")

    def trials(self, search_id: str) -> Iterator[Trial]:
        """The trials of a search, in the order they were planned."""
        return items(self._transport, f"/v1/searches/{search_id}/trials", Trial)

    def events(self, search_id: str, *, after: int = 0) -> Iterator[Event]:
        """What happens in a search, from event `after` + 1 on, until it is over. A lost connection is taken up again."""
        patience = Patience(self._transport.patience)
        while True:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            before = after
            try:
                with self._transport.stream(
                    "GET", f"/v1/searches/{search_id}/events", headers=headers, timeout=_SILENCE
                ) as response:
                    patience.renew()
                    for message in sse.parse(response.iter_lines()):
                        event = Event.model_validate_json(message.data)
                        after = event.seq
                        yield event
                        if event.type in _LAST:
                            return
                if after == before and self.get(search_id).state in TERMINAL:
                    return
            except httpx.TransportError as error:
                if not patience.wait():
                    raise UnreachableError(self._transport.url, describe(error)) from error
            except ApiError as error:
                if not (is_passing(error) and patience.wait()):
                    raise

    def wait(self, search_id: str, *, timeout: float | None = None, poll: float = 1.0) -> SearchDetail:
        """The search once it is over. Raises TimeoutError after `timeout` seconds; the search goes on then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (search := self.get(search_id)).state not in TERMINAL:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"search {search_id} is still {search.state} after {timeout:g} s")
            time.sleep(poll)
        return search

    def front(self, search_id: str, *, x: Cost = "macs", device: str | None = None, dominated: bool = False) -> Front:
        """The Pareto front over the cost `x` (latency_ms: on `device`), on request with the points that others
        dominate."""
        params: dict[str, str] = (
            {"x": x} | ({} if device is None else {"device": device}) | ({"include": "dominated"} if dominated else {})
        )
        response = self._transport.request("GET", f"/v1/searches/{search_id}/front", params=params)
        return Front.model_validate_json(response.content)

    def select(self, search_id: str, constraints: Sequence[Bound]) -> FrontPoint:
        """The most accurate point of the front that meets every bound. Raises ApiError (409) if none does."""
        body = {"constraints": [bound.model_dump() for bound in constraints]}
        response = self._transport.request("POST", f"/v1/searches/{search_id}/front/select", json=body)
        return FrontPoint.model_validate_json(response.content)
