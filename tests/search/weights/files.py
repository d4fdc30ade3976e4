"""Small valid and invalid weights files."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file
from torch import Tensor

from paretofit.core.settings import get_settings
from paretofit.models import checkpoint
from paretofit.models.build import build
from paretofit.models.header import METADATA_KEY
from paretofit.models.pretrained.record import WeightsRecord
from paretofit.search.data import fashion_mnist

WIDTH = 0.25
Tensors = dict[str, Tensor]


def record(**changes: Any) -> WeightsRecord:
    """Record of an FD-MobileNet x .25 for 32 pixels."""
    fields: dict[str, Any] = {
        "family": "fd_mobilenet",
        "width": WIDTH,
        "nominal": 32,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.25, 0.25, 0.25),
        "layout": "paretofit",
        "source": "a test",
        "sha256": "e" * 64,
        "licence": "MIT",
    }
    return WeightsRecord(**fields | changes)


def tensors(weights_record: WeightsRecord, seed: int = 0) -> Tensors:
    """Random tensors of the record's network, under the names of weights files."""
    torch.manual_seed(seed)
    network = build(weights_record.architecture(), "cpu")
    last = f"blocks.{len(network.blocks) - 1}."
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
        and (weights_record.classes is not None or not name.startswith(last))
    }


def write(path: Path, *, calibrated: bool = False, **changes: Any) -> WeightsRecord:
    """Write a weights file; with `calibrated` its batch-norm statistics come from Fashion-MNIST images."""
    weights_record = record(**changes)
    values = tensors(weights_record)
    if calibrated:
        values |= _statistics(weights_record, values)
    checkpoint.write(path, values, weights_record.model_dump(mode="json"))
    return weights_record


@torch.no_grad()
def _statistics(weights_record: WeightsRecord, values: Tensors) -> Tensors:
    data = fashion_mnist.load(get_settings().home / "cache" / "fashion_mnist")
    images = torch.from_numpy(fashion_mnist.padded(data.train_images[:512])).float() / 255
    mean, std = (torch.tensor(each)[:, None, None] for each in (weights_record.mean, weights_record.std))
    network = build(weights_record.architecture(), "cpu").train()
    network.load_state_dict(values, strict=False)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network((images.reshape(-1, 1, 32, 32).expand(-1, 3, -1, -1) - mean) / std)
    return {
        name: value for name, value in network.state_dict().items() if name.rpartition(".")[2].startswith("running")
    }


def torchvision_mobilenet_v2() -> Tensors:
    """A MobileNetV2 of published width under torchvision's names; the file has 14 MB."""
    from tests.models.pretrained.published import published

    return published("mobilenet_v2 torchvision")


def content(values: Tensors, weights_record: WeightsRecord) -> bytes:
    """Contents of a weights file."""
    return save(values, metadata={METADATA_KEY: weights_record.model_dump_json()})


def hostile() -> dict[str, tuple[bytes, str, str]]:
    """By name: a file, the code of its rejection, and a part of the detail."""
    good_record = record()
    good = tensors(good_record)
    name = "blocks.0.conv.weight"
    valid = content(good, good_record)
    (length,) = struct.unpack("<Q", valid[:8])

    def changed(change: Callable[[Tensors], Any]) -> bytes:
        values = dict(good)
        change(values)
        return content(values, good_record)

    def nan(values: Tensors) -> None:
        values[name] = values[name].clone()
        values[name].view(-1)[7] = float("nan")

    def infinite_in_half(values: Tensors) -> None:
        values[name] = torch.full_like(values[name], float("inf"), dtype=torch.float16)

    def negative(values: Tensors) -> None:
        values["blocks.0.norm.running_var"] = -values["blocks.0.norm.running_var"]

    header = json.loads(valid[8 : 8 + length])
    entry = json.dumps(header.pop(name))
    other = json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    duplicated = json.dumps(header)[:-1] + f', "{name}": {entry}, "{name}": {other}}}'
    nested = b'{"__metadata__": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    wrong_width = json.dumps(
        {"__metadata__": {METADATA_KEY: good_record.model_dump_json().replace('"width":0.25', '"width":16.0')}}
        | {key: value for key, value in json.loads(valid[8 : 8 + length]).items() if key != "__metadata__"}
    ).encode()
    return {
        "truncated header": (valid[:200], "not_usable", "truncated"),
        "truncated data": (valid[:-100], "not_usable", "truncated or damaged"),
        "trailing data": (valid + b"x" * 10, "not_usable", "do not fill the file"),
        "header beyond the file": (struct.pack("<Q", 2**40) + b'{"a": 1}', "not_usable", "truncated"),
        "huge header": (struct.pack("<Q", 10**8 + 1) + b"{" + b" " * 10**8, "not_usable", "header"),
        "header of brackets": (struct.pack("<Q", len(nested)) + nested, "not_usable", ""),
        "not JSON": (struct.pack("<Q", 4) + b"{{{{", "not_usable", ""),
        "no tensors": (struct.pack("<Q", 2) + b"{}", "not_usable", ""),
        "one name twice": (
            struct.pack("<Q", len(duplicated)) + duplicated.encode() + valid[8 + length :],
            "not_usable",
            "",
        ),
        "another network": (save({"fc.weight": torch.zeros(4, 4)}), "not_usable", "unknown weights"),
        "one missing": (changed(lambda values: values.pop(name)), "not_usable", name),
        "wrong shape": (changed(lambda values: values.update({name: torch.zeros(3, 3)})), "not_usable", name),
        "integers": (changed(lambda values: values.update({name: values[name].int()})), "not_usable", "floating point"),
        "NaN": (changed(nan), "not_usable", "not finite"),
        "infinite": (changed(infinite_in_half), "not_usable", "not finite"),
        "negative variance": (changed(negative), "not_usable", "negative variance"),
        "record with a wrong width": (
            struct.pack("<Q", len(wrong_width)) + wrong_width + valid[8 + length :],
            "not_usable",
            "",
        ),
        "record with long texts": (
            content(good, good_record.model_copy(update={"source": "x" * 10**6})),
            "not_usable",
            "source",
        ),
        "a pickle": (b"\x80\x02}q\x00.", "not_safetensors", "`paretofit weights add FILE`"),
    }


def save_torchvision(path: Path) -> None:
    """Write a safetensors file with torchvision's names."""
    save_file(torchvision_mobilenet_v2(), path)
