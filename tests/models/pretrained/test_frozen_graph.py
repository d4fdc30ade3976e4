"""Constants of frozen TensorFlow graphs, and malformed input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paretofit.models.pretrained.frozen_graph import constants
from paretofit.models.pretrained.record import PretrainedError
from tests.models.pretrained.graphs import INT32, content, data, graph, mobilenet_v1, node, number, tensor, varint


def test_constants_round_trip() -> None:
    written = mobilenet_v1(0.25)
    read = constants(graph(written))
    assert read.keys() == written.keys()
    for name, array in written.items():
        assert read[name].dtype == np.float32
        np.testing.assert_array_equal(read[name], array)


def test_packed_and_unpacked_numbers_are_read() -> None:
    values = np.array([1, -2, 3], "<f4")
    packed = data(5, values.tobytes())
    single = b"".join(varint(5 << 3 | 5) + value.tobytes() for value in values)
    for written in (packed, single):
        np.testing.assert_array_equal(constants(node("a", tensor((3,), written)))["a"], values)


def test_non_float_constants_are_skipped() -> None:
    arrays = constants(
        node("integers", tensor((1,), content(b"\0\0\0\0"), dtype=INT32))
        + node("variable", tensor((1,), content(b"\0\0\0\0")), op="VariableV2")
        + node("no value")
        + node("one for all", tensor((1 << 40, 1 << 40), content(b"\0\0\0\0")))
        + node("empty", tensor((0, 1 << 63)))
        + node("kept", tensor((), content(np.array(2, "<f4").tobytes())))
    )
    assert {name: array.tolist() for name, array in arrays.items()} == {"kept": 2}


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (node("a", tensor((2, 2), content(b"\0" * 12))), r"'a' has 12 bytes for shape \(2, 2\)"),
        (node("a", tensor(((1 << 64) - 1,), content(b"\0" * 12))), "'a' has 12 bytes"),
        (node("a", tensor((1,) * 9, content(b"\0" * 4))), "9 dimensions"),
        (node("a")[:-1], "truncated"),
        (b"\x0a\xff\xff\xff\xff\x0f", "truncated"),
        (b"\x0a" + b"\x80" * 11, "truncated"),
        (b"\x0b", "unknown wire type"),
        (number(1, 5), "a number instead of data"),
        (data(1, data(1, b"\xff")), "invalid start byte"),
    ],
)
def test_damaged_graphs_raise_specific_errors(damaged: bytes, message: str) -> None:
    with pytest.raises(PretrainedError, match=message):
        constants(damaged)


GRAPH = node("a", tensor((2, 3), content(np.arange(6, dtype="<f4").tobytes()))) + node("b", op="Add") + number(3, 1)


@given(st.binary(max_size=200))
@example(node("a", tensor((0, (1 << 64) - 1))))
def test_arbitrary_bytes_raise_only_known_errors(content: bytes) -> None:
    _read(content)


@given(st.integers(0, len(GRAPH) - 1), st.binary(max_size=12), st.integers(0, 12))
def test_arbitrary_damage_raises_only_known_errors(at: int, inserted: bytes, removed: int) -> None:
    _read(GRAPH[:at] + inserted + GRAPH[at + removed :])


def _read(content: bytes) -> None:
    """Read arrays that are not larger than the file, or raise the one known error."""
    try:
        arrays = constants(content)
    except PretrainedError:
        return
    assert sum(array.nbytes for array in arrays.values()) <= len(content)
