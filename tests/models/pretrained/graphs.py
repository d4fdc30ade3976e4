"""Frozen TensorFlow graphs, written without TensorFlow (protobuf.dev/programming-guides/encoding)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

FLOAT, INT32 = 1, 3


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def data(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def shape(sizes: Iterable[int]) -> bytes:
    return b"".join(data(2, number(1, size)) for size in sizes)


def tensor(sizes: Iterable[int], *values: bytes, dtype: int = FLOAT) -> bytes:
    """A `TensorProto`; `values` are its encoded value fields."""
    return number(1, dtype) + data(2, shape(sizes)) + b"".join(values)


def content(values: bytes) -> bytes:
    return data(4, values)


def node(name: str, value: bytes | None = None, *, op: str = "Const") -> bytes:
    """A `NodeDef` in a `GraphDef`, with an optional tensor."""
    fields = data(1, name.encode()) + data(2, op.encode())
    fields += data(5, data(1, b"dtype") + data(2, number(6, FLOAT)))
    if value is not None:
        fields += data(5, data(1, b"value") + data(2, data(8, value)))
    return data(1, fields)


def graph(constants: Mapping[str, NDArray[np.float32]]) -> bytes:
    """A frozen graph of constants, with the other nodes and the version that such graphs contain."""
    nodes = [node("input", op="Placeholder")]
    nodes += [
        node(name, tensor(array.shape, content(array.astype("<f4").tobytes()))) for name, array in constants.items()
    ]
    return b"".join(nodes) + data(4, number(1, 24))


def mobilenet_v1(width: float, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random constants for Google's MobileNetV1, with a head of 1001 classes and a second head after it."""
    random = np.random.default_rng(seed)
    channels = [round(width * each) for each in (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)]
    arrays: dict[str, NDArray[np.float32]] = {}

    def add(name: str, *sizes: int, mean: float = 0, spread: float = 1) -> None:
        arrays[f"MobilenetV1/{name}"] = (mean + spread * random.standard_normal(sizes)).astype(np.float32)

    def unit(scope: str, kernel: str, *sizes: int, out: int) -> None:
        add(f"{scope}/{kernel}", *sizes, spread=0.1)
        add(f"{scope}/BatchNorm/gamma", out, mean=1, spread=0.1)
        add(f"{scope}/BatchNorm/beta", out, spread=0.5)
        add(f"{scope}/BatchNorm/moving_mean", out, spread=0.1)
        # Small, so that the epsilon matters.
        arrays[f"MobilenetV1/{scope}/BatchNorm/moving_variance"] = random.uniform(0.05, 0.2, out).astype(np.float32)
        arrays[f"MobilenetV1/MobilenetV1/{scope}/BatchNorm/batchnorm/add/y"] = np.array(0.001, np.float32)

    unit("Conv2d_0", "weights", 3, 3, 3, channels[0], out=channels[0])
    for i, (into, out) in enumerate(pairwise(channels), start=1):
        unit(f"Conv2d_{i}_depthwise", "depthwise_weights", 3, 3, into, 1, out=into)
        unit(f"Conv2d_{i}_pointwise", "weights", 1, 1, into, out, out=out)
    add("Logits/Conv2d_1c_1x1/weights", 1, 1, channels[-1], 1001)
    add("Logits/Conv2d_1c_1x1/biases", 1001)
    arrays["final_training_ops/weights/final_weights"] = np.ones((1001, 2), np.float32)
    return arrays
