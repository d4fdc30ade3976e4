"""Searches that a benchmark runs without the service, in parallel, with cached results.

Results are in PARETOFIT_HOME/cache/benchmarks, under a digest of the data and the methods. An interrupted search is
resumed; the results of a finished one are read from the cache.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from paretofit.core.cpus import available_cpus
from paretofit.core.settings import get_settings
from paretofit.models.checkpoint import read_record
from paretofit.models.pretrained.fetch import fetch
from paretofit.search import registry
from paretofit.search.allocator import keep_freed_memory
from paretofit.search.contracts.dataset import DatasetProfile, DatasetSpec
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.start import StartRecord
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.ingest import IngestRequest, ingest
from paretofit.search.data.store import MANIFEST, Dataset
from paretofit.search.local import LocalSearch
from paretofit.workers import prctl


class SearchRun(NamedTuple):
    """The parameters of a method and the seed of a search."""

    method: dict[str, Any]
    seed: int


class SearchOutcome(NamedTuple):
    """The points of a search and the total duration of its runs in seconds."""

    points: list[Point]
    seconds: float


@dataclass(frozen=True, slots=True)
class Searches:
    """The searches of one benchmark on one dataset."""

    folder: Path

    @property
    def profile(self) -> DatasetProfile:
        return Dataset.open(self.folder / "dataset").profile

    def resolve(self, run: SearchRun) -> ResolvedSpec:
        """The resolved specification of a run. Raises pydantic.ValidationError."""
        body = {"name": "benchmark", "dataset_id": "local", "method": run.method, "seed": run.seed}
        spec = SearchSpec.model_validate(body)
        return spec.resolve(self.profile, None if spec.method.start is None else _record(spec.method.start.file))

    def run(self, runs: Mapping[str, SearchRun], *, threads: int = 1) -> dict[str, SearchOutcome]:
        """Run or resume searches, each on `threads` threads and as many in parallel as there are cores for."""
        spawn = multiprocessing.get_context("spawn")
        processes = max(1, available_cpus() // threads)
        with ProcessPoolExecutor(processes, spawn, initializer=_prepare, initargs=(os.getpid(), threads)) as pool:
            return dict(zip(runs, pool.map(self._run, runs, runs.values()), strict=True))

    def search(self, name: str, run: SearchRun) -> LocalSearch:
        """A search in its cached state. The digest covers defaults, so a version with other defaults starts anew."""
        spec = self.resolve(run)
        digest = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:12]
        return LocalSearch(spec, self.folder / "dataset", self.folder / f"{name}-{digest}")

    def _run(self, name: str, run: SearchRun) -> SearchOutcome:
        search = self.search(name, run)
        search.run(lambda: Stop.NO, lambda *_: None)
        sys.stderr.write(f"{name}: {search.seconds:.0f} s\n")
        return SearchOutcome(search.points(), round(search.seconds, 1))


def cached_searches(benchmark: str, data: DatasetSpec, *described: object, archive: Path | None = None) -> Searches:
    """The searches of a benchmark, cached under a digest of the dataset, its archive and `described`.

    Ingests the dataset if needed. Raises the exceptions of `ingest`.
    """
    content = () if archive is None else (hashlib.sha256(archive.read_bytes()).hexdigest(),)
    text = " ".join([data.model_dump_json(), *map(str, described), *content])
    folder = (
        get_settings().home / "cache" / "benchmarks" / f"{benchmark}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    )
    if not (folder / "dataset" / MANIFEST).exists():
        shutil.rmtree(folder / "dataset", ignore_errors=True)
        ingest(IngestRequest(spec=data, archive=archive), folder / "dataset")
    return Searches(folder)


def cached_weights(name: str) -> Path:
    """The weights file of a named source, downloaded once. Raises PretrainedError."""
    folder = get_settings().home / "cache" / "weights"
    file = folder / f"{name}.safetensors"
    if not file.exists():
        fetch(name, file, cache=folder)
    return file


def _record(file: str | None) -> StartRecord:
    assert file is not None, "benchmarks start from weights files"
    return StartRecord.of(read_record(file), hashlib.sha256(Path(file).read_bytes()).hexdigest())


def _prepare(parent: int, threads: int) -> None:
    """Initialize a worker process, which ends together with its parent."""
    prctl.die_with(parent)
    registry.setup()
    torch.set_num_threads(threads)
    keep_freed_memory()
