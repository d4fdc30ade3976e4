"""The resources of a Celery child process, created at first use after the fork."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from celery.signals import worker_process_init
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from paretofit.core import tracing
from paretofit.core.settings import Settings, get_settings
from paretofit.db.blobs import BlobStore, open_store
from paretofit.db.engine import connect
from paretofit.search.latency.devices import describe, offered
from paretofit.search.registry import methods
from paretofit.workers import environment
from paretofit.workers.app import LIGHT, TRAINING, app
from paretofit.workers.job_slots import JobSlots
from paretofit.workers.trainer_pool import TrainerPool

_LEAST_IDLE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Slot:
    """What a worker process serves: one queue and, for `train`, one device with its share of the CPU threads."""

    queue: str
    device: str
    threads: int
    name: str

    @property
    def offers(self) -> list[str]:
        """The devices that trials of this slot can measure on."""
        return offered(self.device) if self.queue == TRAINING else []

    def describe(self) -> dict[str, Any]:
        """The description in the workers table; `devices` are those that can be measured on, with their machine."""
        devices = {name: describe(name) for name in self.offers}
        return {
            "host": platform.node(),
            "machine": platform.machine(),
            "threads": self.threads,
            **({"devices": devices} if devices else {}),
        }


@dataclass(frozen=True, slots=True)
class Runtime:
    """A worker's slot, settings, database, files and trainers."""

    slot: Slot
    settings: Settings
    engine: Engine
    blobs: BlobStore
    trainers: TrainerPool
    job_slots: JobSlots


def bind(slot: Slot, processes: int = 1) -> None:
    """Set what this process and its `processes` children serve. Call it before Celery forks."""
    app.conf["paretofit_slot"] = slot
    app.conf["paretofit_job_slots"] = JobSlots(max(1, processes - 1))
    if slot.queue == LIGHT:
        # Imported before the fork, so that the children share it.
        for method in methods().values():
            method.load("plan", "plan")


def slot() -> Slot:
    """What this process serves. Raises KeyError if `bind` was not called."""
    bound: Slot = app.conf["paretofit_slot"]
    return bound


@lru_cache(maxsize=1)
def runtime() -> Runtime:
    """The runtime of this process. Do not call it before the fork."""
    settings = get_settings()
    tracing.configure(slot().queue, settings.otlp_url)
    idle_seconds = max(settings.lease_seconds / 2, _LEAST_IDLE_SECONDS)
    engine = connect(settings.sqlalchemy_url, pool_size=4, application=slot().name, idle_seconds=idle_seconds)
    trainers = TrainerPool(environment.here(device=slot().device, threads=slot().threads))
    return Runtime(slot(), settings, engine, open_store(settings.blobs), trainers, app.conf["paretofit_job_slots"])


def _prepare(**_: Any) -> None:
    """Start the warm process and a connection before the first task, which waits for them if necessary."""
    if slot().queue == TRAINING:
        runtime().trainers.warm_up()
    with suppress(OperationalError):
        runtime().engine.connect().close()


worker_process_init.connect(_prepare)
