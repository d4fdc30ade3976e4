"""ONNX export: one file, any batch, batch norm folded, nodes named like the network's modules."""

from __future__ import annotations

import ast
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from paretofit.search.export.fold import folded
from paretofit.search.export.formats import BATCH, INPUT, OUTPUT, Precision
from paretofit.search.export.network import Array, Exportable
from paretofit.search.export.program_file import program

PREFIX: Final = "paretofit."
"""Prefix of the metadata keys: `paretofit.preprocessing`, `paretofit.classes` ..., each a JSON value."""

_ERRORS: Final = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    runtime_errors.EPFail,
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NoSuchFile,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)
_SCOPES: Final = "pkg.torch.onnx.name_scopes"
_WEIGHT: Final = ".weight"


def write(source: Exportable, path: Path, precision: Precision) -> None:
    """Write the network with the record's fields as metadata."""
    with _quiet():
        made = torch.onnx.export(
            program(folded(source.network), source),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    assert made is not None
    model: onnx.ModelProto = made.model_proto
    _name(model.graph)
    _strip(model)
    if precision == "float16":
        _halve(model.graph)
    helper.set_model_props(model, {PREFIX + name: value for name, value in source.metadata().items()})
    with _as_value_error():
        onnx.checker.check_model(model, full_check=True)
    onnx.save_model(model, path)


class OnnxSession:
    """A file in ONNX Runtime on the CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin after a run would occupy the cores of the next session.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        with _as_value_error():
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Array, /) -> Array:
        with _as_value_error():
            logits: Array = self._session.run([OUTPUT], {INPUT: images})[0]
        return logits


def open_file(path: Path, threads: int) -> OnnxSession:
    """The file, ready to run with this number of threads."""
    return OnnxSession(path, threads)


def _name(graph: onnx.GraphProto) -> None:
    """Name each node by its module and operation (`blocks.1.expand.conv/Conv`), its outputs after the node, and the
    free dimension."""
    weights = {tensor.name for tensor in graph.initializer}
    seen: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    ends = (*graph.input, *graph.output)
    for value in ends:
        batch = value.type.tensor_type.shape.dim[0]
        if batch.dim_param:
            batch.dim_param = BATCH
    kept = {value.name for value in ends}
    for node in graph.node:
        name = f"{_module(node, weights)}/{node.op_type}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        for i, output in enumerate(node.output):
            if output not in kept:
                renamed[output] = node.name if i == 0 else f"{node.name}:{i}"
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]


def _module(node: onnx.NodeProto, weights: set[str]) -> str:
    # A convolution with folded batch norm carries the scope of the batch norm.
    for name in node.input:
        if name in weights and name.endswith(_WEIGHT):
            return str(name).removesuffix(_WEIGHT)
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            scopes: list[str] = ast.literal_eval(entry.value)
            return scopes[-2] or "network"
    return "network"


def _strip(model: onnx.ModelProto) -> None:
    """Remove the exporter's annotations, which contain source lines of Paretofit, and the shapes of intermediate
    values."""
    graph = model.graph
    del graph.value_info[:]
    for noted in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        del noted.metadata_props[:]
    graph.name = "paretofit"


def _halve(graph: onnx.GraphProto) -> None:
    """Convert weights and arithmetic to float16; input and output stay float32."""
    constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    inner = {INPUT: f"{INPUT}/Cast", OUTPUT: f"{OUTPUT}/Cast"}
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [inner.get(name, name) for name in names]
    graph.node.insert(0, helper.make_node("Cast", [INPUT], [inner[INPUT]], inner[INPUT], to=TensorProto.FLOAT16))
    graph.node.append(helper.make_node("Cast", [inner[OUTPUT]], [OUTPUT], inner[OUTPUT], to=TensorProto.FLOAT))


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Converts errors of ONNX and its runtime, which have no common class, to ValueError."""
    try:
        yield
    except _ERRORS as error:
        raise ValueError(str(error)) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the exporter's warnings about torchvision, which no network here uses, and about torch itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*LeafSpec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
