"""The supernet file: statistics round-trip, and missing ones raise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paretofit.models import checkpoint
from paretofit.models.build import build
from paretofit.models.families.registry import architecture
from paretofit.models.layers.slimmable import Slimmable, UncalibratedError
from paretofit.search.methods.mutualnet import supernet

FULL, HALF = (
    architecture("fd_mobilenet", width=width, slimmable=True, base_width=0.25, nominal=32, classes=3, channels=1)
    for width in (1.0, 0.5)
)


def test_statistics_round_trip_by_channels_and_input_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Slimmable(FULL).eval()
    batches = {size: torch.randn(16, 1, *size) for size in ((32, 32), (24, 20))}
    for sub in (FULL, HALF):
        for batch in batches.values():
            network.calibrate(sub, [batch])
    path = tmp_path / "supernet.safetensors"
    supernet.save(path, network)
    loaded = supernet.load(path)
    assert loaded.bank.keys() == network.bank.keys()
    assert len(loaded.bank) == 4
    assert all(torch.equal(loaded.bank[key], entry) for key, entry in network.bank.items())


def test_uncalibrated_networks_raise(tmp_path: Path) -> None:
    network = Slimmable(FULL).eval()
    network.calibrate(HALF, [torch.randn(16, 1, 32, 32)])
    path = tmp_path / "supernet.safetensors"
    supernet.save(path, network)
    loaded = supernet.load(path)
    assert loaded(torch.zeros(1, 1, 32, 32), HALF).shape == (1, 3)
    for sub, size in ((FULL, (32, 32)), (HALF, (28, 28))):
        with pytest.raises(UncalibratedError, match=rf"no batch norm statistics .* at {size[0]}x{size[1]}"):
            loaded(torch.zeros(1, 1, *size), sub)
        with pytest.raises(UncalibratedError, match="calibrate"):
            loaded.extract(sub, size)


def test_non_supernet_file_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "network.safetensors"
    checkpoint.save(path, build(HALF), {"architecture": HALF.to_json()})
    with pytest.raises(ValueError, match="is not a supernet: use the artifact"):
        supernet.load(path)
