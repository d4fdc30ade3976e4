"""Helpers for trained weights: files of them, and searches that start from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.pretrained.record import WeightsRecord
from paretofit.search.contracts.plan import START
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.start import StartRecord
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.store import Dataset
from paretofit.search.local import LocalSearch
from paretofit.search.trials import plan
from tests.search.conftest import CLASSES


def weights_record(**changes: Any) -> WeightsRecord:
    """Record of weights for the gray stripes dataset: FD-MobileNet x .25."""
    fields: dict[str, Any] = {
        "family": "fd_mobilenet",
        "width": 0.25,
        "channels": 1,
        "nominal": 16,
        "classes": len(CLASSES),
        "class_names": CLASSES,
        "mean": (0.5,),
        "std": (0.25,),
        "layout": "made in a test",
        "source": "a test",
        "sha256": "0" * 64,
        "licence": "CC0-1.0",
    }
    return WeightsRecord.model_validate(fields | changes)


def write_weights(path: Path, record: WeightsRecord, tensors: Mapping[str, torch.Tensor] | None = None) -> Path:
    """Write a weights file; `tensors` default to random weights and statistics."""
    if tensors is None:
        tensors = random_network(record.architecture()).state_dict()
    head = f"blocks.{len(record.architecture().blocks) - 1}."
    stored = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked") and (record.classes is not None or not name.startswith(head))
    }
    checkpoint.write(path, stored, record.model_dump(mode="json"))
    return path


def random_network(architecture: Architecture, seed: int = 0) -> Network:
    """A network with statistics and scales that differ by channel."""
    torch.manual_seed(seed)
    network = build(architecture)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.get_buffer("running_mean"), std=0.1)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    return network.eval()


def start_record(file: Path) -> StartRecord:
    """The start record of a file, created as the service does."""
    return StartRecord.of(checkpoint.read_record(file), hashlib.sha256(file.read_bytes()).hexdigest())


def started(dataset: Path, method: Mapping[str, Any], file: Path, **changes: Any) -> ResolvedSpec:
    """A search that starts from a file."""
    body = {
        "name": "started",
        "dataset_id": "local",
        "method": {**method, "start": {"file": str(file)}},
        **changes,
    }
    return SearchSpec.model_validate(body).resolve(Dataset.open(dataset).profile, start_record(file))


def first_trial(spec: ResolvedSpec, dataset: Path, folder: Path, file: Path | None, **changes: Any) -> Trial:
    """The first trial that the search plans."""
    work = folder / "work"
    work.mkdir(parents=True)
    new = plan(spec, []).trials[0]
    inputs = {} if file is None else {START: file}
    return replace(
        Trial(number=0, spec=spec, params=new.params, dataset=dataset, work=work, seed=3, inputs=inputs), **changes
    )


def run_search(spec: ResolvedSpec, dataset: Path, folder: Path) -> LocalSearch:
    """Run a complete search locally."""
    search = LocalSearch(spec, dataset, folder)
    assert search.run(lambda: Stop.NO, lambda number, done: None).finished
    return search
