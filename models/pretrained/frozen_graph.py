"""Reads the constants of a frozen TensorFlow graph without TensorFlow.

A frozen graph is one `GraphDef` message in protobuf's wire format (protobuf.dev/programming-guides/encoding), in which
the weights are `Const` nodes. The field numbers are those of TensorFlow's graph.proto, node_def.proto,
attr_value.proto, tensor.proto and tensor_shape.proto. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from paretofit.models.pretrained.record import PretrainedError

MAX_DIMENSIONS: Final = 8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT: Final = 10
"""Bytes of a 64-bit number, seven bits each."""

_GRAPH_NODE: Final = 1
_NODE_NAME, _NODE_OP, _NODE_ATTR = 1, 2, 5
_MAP_KEY, _MAP_VALUE = 1, 2
_ATTR_TENSOR: Final = 8
_TENSOR_DTYPE, _TENSOR_SHAPE, _TENSOR_CONTENT, _TENSOR_FLOATS = 1, 2, 4, 5
_SHAPE_DIM, _DIM_SIZE = 2, 1
_DT_FLOAT: Final = 1

Value = int | memoryview
"""A number, or the bytes of a string, a message, or a fixed-width number."""


def constants(content: bytes) -> dict[str, NDArray[np.float32]]:
    """The float32 constants of a frozen graph, by the names of their nodes.

    Constants without values, or with one value for a larger shape, are left out, so that all arrays together are at
    most as large as `content`: a malicious file cannot allocate more memory. Raises PretrainedError if `content` is not
    a graph.
    """
    found: dict[str, NDArray[np.float32]] = {}
    for field, value in _fields(memoryview(content)):
        if field == _GRAPH_NODE:
            name, tensor = _constant(_message(value))
            if tensor is not None:
                found[name] = tensor
    return found


def _constant(node: memoryview) -> tuple[str, NDArray[np.float32] | None]:
    """A node's name, and its tensor if it is a float32 constant."""
    name, op, tensor = "", "", None
    for field, value in _fields(node):
        if field == _NODE_NAME:
            name = _text(value)
        elif field == _NODE_OP:
            op = _text(value)
        elif field == _NODE_ATTR:
            entry = dict(_fields(_message(value)))
            if _text(entry.get(_MAP_KEY, memoryview(b""))) == "value" and _MAP_VALUE in entry:
                tensor = dict(_fields(_message(entry[_MAP_VALUE]))).get(_ATTR_TENSOR)
    if op != "Const" or tensor is None:
        return name, None
    return name, _tensor(name, _message(tensor))


def _tensor(name: str, message: memoryview) -> NDArray[np.float32] | None:
    dtype: Value = 0
    shape: tuple[int, ...] = ()
    content = bytearray()
    for field, value in _fields(message):
        if field == _TENSOR_DTYPE:
            dtype = value
        elif field == _TENSOR_SHAPE:
            shape = _shape(name, _message(value))
        elif field == _TENSOR_CONTENT:
            content = bytearray(_message(value))
        elif field == _TENSOR_FLOATS:
            # Packed, or one at a time.
            content += _message(value)
    if dtype != _DT_FLOAT:
        return None
    count = math.prod(shape)
    if count == 0 or (len(content) == 4 and count != 1):
        # No value, or one for all elements: not trained weights, and the shape may have any size.
        return None
    if len(content) != 4 * count:
        raise PretrainedError(
            f"the constant {name!r} has {len(content)} bytes for shape {shape}: the file is damaged, download it again"
        )
    return np.frombuffer(content, dtype="<f4").reshape(shape)


def _shape(name: str, message: memoryview) -> tuple[int, ...]:
    sizes = [
        dict(_fields(_message(value))).get(_DIM_SIZE, 0) for field, value in _fields(message) if field == _SHAPE_DIM
    ]
    if len(sizes) > MAX_DIMENSIONS:
        raise PretrainedError(
            f"the constant {name!r} has {len(sizes)} dimensions, but at most {MAX_DIMENSIONS} are supported: use "
            "another file"
        )
    # Negative sizes, which mean unknown, are numbers above 2^63 here: no constant has that many bytes.
    return tuple(size if isinstance(size, int) else 0 for size in sizes)


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """The fields of a message in their order, with their numbers."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise PretrainedError(
                "this is not a frozen TensorFlow graph, or it is damaged (unknown wire type): download it again"
            )
        if length > len(message) - at:
            raise PretrainedError("this is not a frozen TensorFlow graph, or it is truncated: download it again")
        yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    value = 0
    for shift, byte in enumerate(message[at : at + _MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    raise PretrainedError("this is not a frozen TensorFlow graph, or it is truncated: download it again")


def _message(value: Value) -> memoryview:
    if isinstance(value, int):
        raise PretrainedError(
            "this is not a frozen TensorFlow graph, or it is damaged (a number instead of data): download it again"
        )
    return value


def _text(value: Value) -> str:
    try:
        return bytes(_message(value)).decode()
    except UnicodeDecodeError as error:
        raise PretrainedError(
            f"this is not a frozen TensorFlow graph, or it is damaged ({error.reason}): download it again"
        ) from error
