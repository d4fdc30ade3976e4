"""Checkpoints of a single network: read completely or rejected; other files are never accepted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.checkpoint import CheckpointError, first_nonfinite, load, read, read_record, save, write
from paretofit.models.families.registry import architecture
from paretofit.models.finite import NonFiniteError

ARCHITECTURE = architecture("wrn_10_1", width=0.5, nominal=32, classes=10, channels=1)


def record_of(network: Architecture) -> dict[str, Any]:
    return {"architecture": network.to_json(), "key": network.key, "metrics": {"top1": 0.5}, "classes": ["ä", "b"]}


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    trained = build(ARCHITECTURE)
    trained(torch.randn(4, 1, 16, 16))
    return trained.eval()


@pytest.fixture
def saved(network: Network, tmp_path: Path) -> Path:
    path = tmp_path / "point.safetensors"
    save(path, network, record_of(ARCHITECTURE))
    return path


def test_checkpoint_round_trip(network: Network, saved: Path) -> None:
    loaded = load(saved)
    x = torch.randn(3, 1, 20, 24)
    assert torch.equal(loaded(x), network(x))
    assert loaded.record == read_record(saved) == record_of(ARCHITECTURE)
    assert loaded.architecture == ARCHITECTURE
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_equal_networks_give_identical_files(network: Network, saved: Path) -> None:
    second = saved.with_name("again.safetensors")
    save(second, load(saved), dict(reversed(record_of(ARCHITECTURE).items())))
    assert second.read_bytes() == saved.read_bytes()


def test_channels_last_weights_give_identical_files(network: Network, saved: Path) -> None:
    second = saved.with_name("again.safetensors")
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    save(second, network, record_of(ARCHITECTURE))
    assert second.read_bytes() == saved.read_bytes()


def test_tensor_names_are_not_restricted(tmp_path: Path) -> None:
    tensors = {"bank.8x8.3-4": torch.randn(2, 7), "step": torch.tensor(3)}
    write(tmp_path / "state.safetensors", tensors, {"epoch": 3})
    loaded, record = read(str(tmp_path / "state.safetensors"))
    assert record == {"epoch": 3}
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_record_is_read_without_torch(saved: Path) -> None:
    program = (
        "import sys; from paretofit.models.checkpoint import read_record; print(read_record(sys.argv[1])['key']); "
        "sys.exit('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", program, str(saved)], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == ARCHITECTURE.key


def test_record_of_another_architecture_is_rejected(network: Network, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the record's architecture differs from the network's"):
        save(tmp_path / "point.safetensors", network, record_of(architecture("fd_mobilenet")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["blocks.0.conv.weight", "running_var", "linear.bias"])
def test_non_finite_network_is_not_saved(network: Network, tmp_path: Path, name: str, value: float) -> None:
    assert first_nonfinite(network) is None
    full, tensor = next((full, tensor) for full, tensor in network.state_dict().items() if full.endswith(name))
    tensor.view(-1)[-1] = value
    assert first_nonfinite(network) == full
    with pytest.raises(NonFiniteError, match=f"{full} has infinite or NaN values"):
        save(tmp_path / "point.safetensors", network, record_of(ARCHITECTURE))
    assert list(tmp_path.iterdir()) == []


def test_failed_save_keeps_the_previous_file(network: Network, saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(ValueError, match="Out of range float"):
        save(saved, network, record_of(ARCHITECTURE) | {"metrics": {"top1": float("nan")}})
    assert saved.read_bytes() == before
    occupied = saved.with_name("folder")
    (occupied / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        save(occupied, network, record_of(ARCHITECTURE))
    assert sorted(path.name for path in saved.parent.iterdir()) == ["folder", saved.name]


def test_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "nothing")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip file",
        b"\x80\x04}q\x00. a pickle",
        (10**15).to_bytes(8, "little") + b"{}",
        (2**64 - 1).to_bytes(8, "little") + b"{}",
        (0).to_bytes(8, "little"),
        (100).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"\xff\xfe",
        (50_000).to_bytes(8, "little") + b"[" * 50_000,
    ],
)
def test_other_files_are_rejected(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    for reader in (read_record, read, load):
        with pytest.raises(CheckpointError, match=r"x\.safetensors"):
            reader(path)


@pytest.mark.parametrize("metadata", [None, {}, {"paretofit": "{"}, {"paretofit": "[1]"}, {"format": "pt"}])
def test_file_of_another_program_is_rejected(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors", metadata)
    with pytest.raises(CheckpointError, match="has no Paretofit record"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("blocks.0.conv.weight", None, "blocks.0.conv.weight is missing"),
        ("extra", torch.zeros(1), "extra is not a tensor of its network"),
        ("blocks.0.conv.weight", torch.zeros(8, 1, 5, 5), r"blocks.0.conv.weight is \(8, 1, 5, 5\) torch.float32"),
        ("blocks.0.conv.weight", torch.zeros(8, 1, 3, 3, dtype=torch.float64), "torch.float64"),
    ],
)
def test_tensors_of_another_network_are_rejected(
    name: str, value: Tensor | None, message: str, network: Network, tmp_path: Path
) -> None:
    tensors = dict(network.state_dict())
    tensors.pop(name, None)
    if value is not None:
        tensors[name] = value
    write(tmp_path / "x.safetensors", tensors, record_of(ARCHITECTURE))
    with pytest.raises(CheckpointError, match=f"x.safetensors: .*{message}"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "an object with an integer `version`"),
        ({"version": 99}, "update it"),
        (ARCHITECTURE.to_json() | {"classes": 11}, "10 outputs, but there are 11 classes"),
    ],
)
def test_invalid_architectures_are_rejected(data: object, message: str, network: Network, tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors", network.state_dict(), {"architecture": data})
    with pytest.raises(CheckpointError, match=f"x.safetensors: .*{message}"):
        load(tmp_path / "x.safetensors")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "point.safetensors"
    save(path, build(ARCHITECTURE), record_of(ARCHITECTURE))
    return path.read_bytes()


@settings(max_examples=50, deadline=None)
@given(end=st.none() | st.integers(0, 10**5), position=st.integers(0, 10**4), value=st.integers(0, 255))
def test_damaged_file_is_rejected_or_complete(
    end: int | None, position: int, value: int, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(content)
    damaged[position] = value
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    path.write_bytes(damaged[:end])
    try:
        loaded = load(path)
    except CheckpointError:
        return
    assert loaded.record is not None
    assert Architecture.from_json(loaded.record["architecture"]) == loaded.architecture
