"""The users of a run: they submit, upload, cancel and pause over HTTP, and record the responses."""

from __future__ import annotations

import io
import random
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
from PIL import Image

from paretofit import Client
from paretofit.client.errors import ApiError, UnreachableError
from paretofit.client.transports import SyncTransport, complete
from paretofit.search.methods.mutualnet.params import MutualNetParams
from tests.chaos.schedule import Request

SMALLER: Final = {"widths": {"step": 0.75}, "calibration_images": 64}
LABEL: Final = "submission"
"""The label under which a search carries the Idempotency-Key of its submission."""
_RETRY_TIMEOUT: Final = 120.0
_USERS: Final = 24
_LATEST: Final = 4
_IMAGES: Final = 60
_FINISHED: Final = frozenset({"search_finished", "search_paused", "search_not_paused"})


class Load:
    """Concurrent requests of many users. The thread of the run calls the methods; slow work happens in a pool.

    `submitted` maps each Idempotency-Key to the ids in the responses; `cancelled` and `datasets` contain ids that the
    service acknowledged; `unexpected_responses` are undocumented ones.
    """

    def __init__(self, url: str, folder: Path, rng: random.Random) -> None:
        self._client = Client(url, retry_timeout=_RETRY_TIMEOUT)
        self._transport = SyncTransport(url, None, retry_timeout=_RETRY_TIMEOUT, timeout=60)
        self._folder = folder
        self._rng = rng
        self._pool = ThreadPoolExecutor(_USERS, thread_name_prefix="user")
        self._pending: list[Future[None]] = []
        self._handlers: Mapping[Request, Callable[[], bool]] = {
            "search": self._search,
            "mutualnet": self._mutualnet,
            "dataset": self._dataset,
            "cancel": self._cancel,
            "pause": self._pause,
        }
        self._dataset_id = ""
        self._can_pause = False
        self._chosen: set[str] = set()
        self.done: Counter[Request] = Counter()
        self.submitted: defaultdict[str, set[str]] = defaultdict(set)
        self.accepted: list[str] = []
        self.cancelled: set[str] = set()
        self.datasets: set[str] = set()
        self.unexpected_responses: list[str] = []

    def prepare(self) -> None:
        """Wait for the API and create the dataset of all searches."""
        source = {"kind": "builtin", "name": "fashion_mnist", "subset": 100}
        dataset = self._client.datasets.create({"name": "searches", "source": source})
        self._dataset_id = self._client.datasets.wait(dataset.id, timeout=_RETRY_TIMEOUT).id
        paths = complete(self._transport.request("GET", "/openapi.json")).json()["paths"]
        self._can_pause = "/v1/searches/{search_id}/pause" in paths

    def request(self, kind: Request) -> bool:
        """Send a request. Returns False if it has no target."""
        return self._handlers[kind]()

    def is_idle(self) -> bool:
        """Whether every user has received a response."""
        self._pending = [future for future in self._pending if not future.done()]
        return not self._pending

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._client.close()
        self._transport.close()

    def _start(self, kind: Request, work: Callable[..., object], *arguments: object) -> None:
        def user() -> None:
            try:
                work(*arguments)
            except (ApiError, UnreachableError) as error:
                if not (isinstance(error, ApiError) and error.code in _FINISHED):
                    self.unexpected_responses.append(f"{kind}: {type(error).__name__}: {error}")
            else:
                self.done[kind] += 1

        self._pending.append(self._pool.submit(user))

    def _search(self) -> bool:
        trials, twice, read_timeout = (
            self._rng.choice([1, 2, 2]),
            self._rng.random() < 0.2,
            self._rng.uniform(0.001, 0.03),
        )
        self._submit(
            "search",
            {"kind": "witnessed", "trials": trials},
            twice=twice,
            read_timeout=read_timeout,
            priority=self._priority(),
        )
        return True

    def _mutualnet(self) -> bool:
        self._submit(
            "mutualnet",
            {"kind": "mutualnet", **MutualNetParams.tiny, **SMALLER},
            twice=False,
            read_timeout=0.01,
            priority=self._priority(),
        )
        return True

    def _priority(self) -> int:
        return self._rng.choice([0, 0, 0, 9])

    def _submit(
        self, kind: Request, method: dict[str, Any], *, twice: bool, read_timeout: float, priority: int
    ) -> None:
        """Submit a search. Half of the clients disconnect and retry; a few submissions are sent twice at once."""
        key = f"{self._rng.getrandbits(64):016x}"
        spec = {
            "name": f"{kind} {key}",
            "dataset_id": self._dataset_id,
            "method": method,
            "labels": {LABEL: key},
            "priority": priority,
            "seed": self._rng.randrange(1000),
        }
        disconnects = self._rng.random() < 0.5
        for _ in range(2 if twice else 1):
            self._start(kind, self._create, key, spec, read_timeout if disconnects else None)

    def _create(self, key: str, spec: dict[str, Any], read_timeout: float | None) -> None:
        if read_timeout is not None:
            try:
                url, headers = f"{self._client.url}/v1/searches", {"Idempotency-Key": key}
                with httpx.Client(timeout=httpx.Timeout(5, read=read_timeout), trust_env=False) as client:
                    client.post(url, json=spec, headers=headers)
            except httpx.TransportError:
                pass
        search = self._client.searches.create(spec, idempotency_key=key)
        if search.id not in self.accepted:
            self.accepted.append(search.id)
        self.submitted[key].add(search.id)

    def _dataset(self) -> bool:
        archive = self._folder / f"{self._rng.getrandbits(32):08x}.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for index in range(2 * _IMAGES):
                image = io.BytesIO()
                Image.frombytes("L", (16, 16), self._rng.randbytes(256)).save(image, "PNG")
                file.writestr(f"{'ab'[index % 2]}/{index}.png", image.getvalue())
        self._start("dataset", self._upload, archive)
        return True

    def _upload(self, archive: Path) -> None:
        dataset = self._client.datasets.create({"name": archive.stem, "source": {"kind": "upload"}})
        self.datasets.add(dataset.id)
        self._client.datasets.upload(dataset.id, archive)

    def _choose_search(self) -> str | None:
        """One of the newest searches that no user has cancelled or paused yet."""
        fresh = [search_id for search_id in self.accepted[-_LATEST:] if search_id not in self._chosen]
        if not fresh:
            return None
        chosen = self._rng.choice(fresh)
        self._chosen.add(chosen)
        return chosen

    def _cancel(self) -> bool:
        chosen = self._choose_search()
        if chosen is not None:
            self._start("cancel", self._cancel_later, chosen, self._rng.uniform(0, 2))
        return chosen is not None

    def _cancel_later(self, search_id: str, after: float) -> None:
        time.sleep(after)
        self._client.searches.cancel(search_id)
        self.cancelled.add(search_id)

    def _pause(self) -> bool:
        chosen = self._choose_search() if self._can_pause else None
        if chosen is not None:
            self._start("pause", self._pause_and_resume, chosen, self._rng.uniform(0, 2), self._rng.uniform(0.5, 3))
        return chosen is not None

    def _pause_and_resume(self, search_id: str, after: float, seconds: float) -> None:
        time.sleep(after)
        complete(self._transport.request("POST", f"/v1/searches/{search_id}/pause"))
        time.sleep(seconds)
        complete(self._transport.request("POST", f"/v1/searches/{search_id}/resume"))
