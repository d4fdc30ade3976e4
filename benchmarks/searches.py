"""Searches that a benchmark runs without the service, side by side, and keeps.

They are in PARETOFIT_HOME/cache/benchmarks, under a digest of their data and methods: one that was interrupted goes on
where it was, one that is finished is told again.
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


class Asked(NamedTuple):
    """A method's parameters and a search's seed."""

    method: dict[str, Any]
    seed: int


class Searched(NamedTuple):
    """The points of a search, and the seconds that all its runs took together."""

    points: list[Point]
    seconds: float


@dataclass(frozen=True, slots=True)
class Searches:
    """Those of one benchmark, on one dataset."""

    folder: Path

    @property
    def profile(self) -> DatasetProfile:
        return Dataset.open(self.folder / "dataset").profile

    def resolve(self, asked: Asked) -> ResolvedSpec:
        """The specification of one. Raises pydantic.ValidationError."""
        body = {"name": "benchmark", "dataset_id": "local", "method": asked.method, "seed": asked.seed}
        spec = SearchSpec.model_validate(body)
        return spec.resolve(self.profile, None if spec.method.start is None else _record(spec.method.start.file))

    def run(self, wanted: Mapping[str, Asked], *, threads: int = 1) -> dict[str, Searched]:
        """Run each as far as it was not before: as many at a time as there are cores for, each on so many threads."""
        spawn = multiprocessing.get_context("spawn")
        processes = max(1, available_cpus() // threads)
        with ProcessPoolExecutor(processes, spawn, initializer=_prepare, initargs=(os.getpid(), threads)) as pool:
            return dict(zip(wanted, pool.map(self._run, wanted, wanted.values()), strict=True))

    def search(self, name: str, asked: Asked) -> LocalSearch:
        """One of them, as far as it was run. Under another version, whose defaults are others, it is another search."""
        spec = self.resolve(asked)
        digest = hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:12]
        return LocalSearch(spec, self.folder / "dataset", self.folder / f"{name}-{digest}")

    def _run(self, name: str, asked: Asked) -> Searched:
        search = self.search(name, asked)
        search.run(lambda: Stop.NO, lambda *_: None)
        sys.stderr.write(f"{name}: {search.seconds:.0f} s\n")
        return Searched(search.points(), round(search.seconds, 1))


def kept(benchmark: str, data: DatasetSpec, *described: object, archive: Path | None = None) -> Searches:
    """A benchmark's, on this dataset (of an upload: from its archive), as long as it is described so. Raises what
    ingestion raises."""
    content = () if archive is None else (hashlib.sha256(archive.read_bytes()).hexdigest(),)
    text = " ".join([data.model_dump_json(), *map(str, described), *content])
    folder = (
        get_settings().home / "cache" / "benchmarks" / f"{benchmark}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    )
    if not (folder / "dataset" / MANIFEST).exists():
        shutil.rmtree(folder / "dataset", ignore_errors=True)
        ingest(IngestRequest(spec=data, archive=archive), folder / "dataset")
    return Searches(folder)


def fetched(name: str) -> Path:
    """The file of a named source of trained weights, fetched once. Raises PretrainedError."""
    home = get_settings().home / "cache" / "weights"
    file = home / f"{name}.safetensors"
    if not file.exists():
        fetch(name, file, cache=home)
    return file


def _record(file: str | None) -> StartRecord:
    assert file is not None, "a benchmark starts from files"
    return StartRecord.of(read_record(file), hashlib.sha256(Path(file).read_bytes()).hexdigest())


def _prepare(parent: int, threads: int) -> None:
    """Of a process that searches: it ends with the one that waits for it."""
    prctl.die_with(parent)
    registry.setup()
    torch.set_num_threads(threads)
    keep_freed_memory()
