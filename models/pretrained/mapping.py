"""Maps the tensors of a published file to Paretofit's: order of dimensions, padding, epsilon, biases and channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from paretofit.models.pretrained.layouts import Match
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.shuffle import shuffle_order

EPSILON: Final = 1e-5
"""Epsilon of our batch norm."""
TF_EPSILON: Final = 1e-3


def map_tensors(match: Match, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors by our names, float32, equivalent in our network. Raises PretrainedError for values that are
    not finite, for integers and for negative variances."""
    found = {ours: _as_float(theirs, tensors[theirs]) for ours, theirs in (*match.names.items(), *match.head.items())}
    rules = match.rules
    if rules is not None:
        if rules.hwio:
            found = {ours: _from_hwio(ours, tensor, match.names.get(ours, "")) for ours, tensor in found.items()}
        if rules.tensorflow:
            _take_tensorflow(found)
        if rules.bgr:
            found["blocks.0.conv.weight"] = found["blocks.0.conv.weight"].flip(1)
        for name in [name for name in found if name.endswith(".conv.bias")]:
            _fold_bias(found, name.removesuffix(".conv.bias"))
        if match.layout == "megvii":
            _reorder_shuffle(found, match)
        if match.head and not rules.head_bias:
            (weight,) = match.head
            found[weight.removesuffix("weight") + "bias"] = torch.zeros(len(found[weight]))
    for name, tensor in found.items():
        if name.endswith("running_var") and bool((tensor < 0).any()):
            raise PretrainedError(
                f"{match.names.get(name, name)} has a negative variance: the file is damaged, copy it again"
            )
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _as_float(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_quantized:
        raise PretrainedError(
            f"{name} has the type {str(tensor.dtype).removeprefix('torch.')}, not floating point: give weights "
            "that are not quantized"
        )
    found = tensor.detach().to("cpu", torch.float32)
    if not bool(torch.isfinite(found).all()):
        raise PretrainedError(
            f"{name} has values that are not finite in float32: the training diverged, use other weights"
        )
    return found


def _from_hwio(ours: str, tensor: Tensor, theirs: str) -> Tensor:
    """TensorFlow's order of dimensions to PyTorch's; the classifier, a convolution there, becomes a matrix."""
    if tensor.ndim != 4:
        return tensor
    if ".linear." in ours:
        return tensor.flatten(0, 2).t()
    return (
        tensor.permute(2, 3, 0, 1) if theirs.rpartition("/")[2].startswith("depthwise") else tensor.permute(3, 2, 0, 1)
    )


def _take_tensorflow(found: dict[str, Tensor]) -> None:
    """Mirror kernels left-right, because SAME padding is on the right and ours on the left; fold the epsilon into the
    scale."""
    for name, tensor in found.items():
        if tensor.ndim == 4:
            found[name] = tensor.flip(3)
        elif name.endswith(".norm.weight"):
            variance = found[name.removesuffix("weight") + "running_var"].double()
            found[name] = (tensor.double() * ((variance + EPSILON) / (variance + TF_EPSILON)).sqrt()).float()


def _fold_bias(found: dict[str, Tensor], unit: str) -> None:
    """Move a convolution's bias into its batch norm, which becomes the identity where there was none."""
    bias = found.pop(f"{unit}.conv.bias")
    if f"{unit}.norm.weight" in found:
        found[f"{unit}.norm.running_mean"] = found[f"{unit}.norm.running_mean"] - bias
        return
    found |= {
        f"{unit}.norm.weight": torch.ones_like(bias),
        f"{unit}.norm.bias": bias,
        f"{unit}.norm.running_mean": torch.zeros_like(bias),
        f"{unit}.norm.running_var": torch.full_like(bias, 1 - EPSILON),
    }


def _reorder_shuffle(found: dict[str, Tensor], match: Match) -> None:
    """Reorder the channels within each unit so that our shuffle, before the depthwise convolution, equals theirs after
    it."""
    for block in range(2, len(match.architecture().blocks) - 1):
        unit = f"blocks.{block}"
        middle = len(found[f"{unit}.depthwise.conv.weight"])
        groups = match.form.groups or 1
        order = shuffle_order(middle, groups)
        if order is None:
            raise PretrainedError(
                f"{middle} channels in {groups} groups cannot be reordered for our shuffle: use weights with 3 groups"
            )
        before, behind = map(torch.tensor, order)
        for name in [name for name in found if name.startswith(f"{unit}.compress.")]:
            found[name] = found[name][before]
        # The depthwise convolution comes after our shuffle and before theirs.
        shuffled = before.view(groups, -1).t().flatten()
        for name in [name for name in found if name.startswith(f"{unit}.depthwise.")]:
            found[name] = found[name][shuffled]
        weight = found[f"{unit}.expand.conv.weight"]
        each = middle // groups
        columns = (behind % each).view(groups, each)
        found[f"{unit}.expand.conv.weight"] = torch.cat(
            [part[:, columns[group]] for group, part in enumerate(weight.chunk(groups))]
        )
