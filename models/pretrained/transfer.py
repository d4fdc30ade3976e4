"""Transfers trained weights to another network of their family.

Tensors are matched by role (`paretofit.models.pretrained.roles`), never by position, and the whole backbone is loaded
or nothing: a silent partial match that trains from random weights is the most frequent failure of such code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import torch
from torch import Tensor, nn

from paretofit.models.architecture import Architecture
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.roles import Part, parts, tensor_names
from paretofit.models.pretrained.start import COUNTER, NAMED, Start, check_tensors, head_prefix, tensor_shapes
from paretofit.models.trace import Layer

_STATISTICS: Final = ("running_mean", "running_var")


@dataclass(frozen=True, slots=True)
class Transfer:
    """Initial state of a network.

    `state`: tensors of `paretofit.models.build.build(target)` by name, including running statistics. `fresh`: names of
    the others, which keep their initial values. `notes`: one sentence for each group of tensors that was not loaded or
    was changed, with the reason. `mean` and `std`, one value per channel of the target: the normalization that the
    tensors require.
    """

    state: dict[str, Tensor]
    fresh: tuple[str, ...]
    notes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @torch.no_grad()
    def load(self, network: nn.Module) -> None:
        """Copy the tensors into a network of the target, on any device and in any memory format. A network without
        running statistics, such as a slimmable one, gets none. Raises PretrainedError, with nothing copied, if the
        network is not the target's."""
        own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        needed = {name for name in self.state if not name.endswith((*_STATISTICS, COUNTER))}
        unknown = set(own) - set(self.state) - set(self.fresh)
        odd = sorted((needed - set(own)) | {name for name in unknown if not name.endswith(COUNTER)})
        odd += [name for name in sorted(needed & set(own)) if own[name].shape != self.state[name].shape]
        if odd:
            raise PretrainedError(f"the weights were prepared for another network: {', '.join(odd[:NAMED])} differ")
        for name, tensor in self.state.items():
            if name in own:
                own[name].copy_(tensor)


def transfer(start: Start, target: Architecture, *, same_classes: bool) -> Transfer:
    """The tensors of `target` from trained weights of its family, all of the backbone or none.

    - The classifier is loaded only if `same_classes` (equal by name and order).
    - A target with fewer channels gets the leading slices of every tensor: those of each part of a concatenation, and
      whole groups of a grouped convolution. A wider one is rejected.
    - A stem of another kernel (a ResNet's below 128 pixels) is not loaded.
    - A target for grayscale images gets one first convolution instead of three (`_gray`).
    - Layers that only the target's form has (masks, downsampling of shape adaptors) are fresh.

    Raises PretrainedError with the first three tensors that are missing, extra or of a wrong shape.
    """
    source = start.architecture
    if source.family != target.family:
        raise PretrainedError(
            f"the weights are for {source.family}, but the network is {target.family}: choose a start of "
            f"{target.family}, or family {source.family}"
        )
    theirs, ours = parts(source), parts(target)
    notes: list[str] = []
    left = _unloaded(start, target, theirs, ours, notes, same_classes=same_classes)
    tensors, mean, std = _for_channels(start, target, theirs, notes)
    expected = tensor_shapes(target)
    given = {role: name for role, name in tensor_names(theirs).items() if not _within(role, left)}
    needed = {role: name for role, name in tensor_names(ours).items() if not _within(role, left)}

    state: dict[str, Tensor] = {}
    missing, shapes = [], {}
    narrowed = False
    for role, name in needed.items():
        part = ours[role.rpartition(".")[0]]
        if role not in given or given[role] not in tensors:
            if not part.added:
                missing.append(name)
            continue
        tensor = tensors[given[role]]
        cut = _cut(tensor, expected[name], theirs[role.rpartition(".")[0]].layer, part.layer)
        if cut is None:
            shapes[name] = expected[name], tuple(tensor.shape)
        else:
            state[name] = cut.contiguous()
            narrowed = narrowed or cut.shape != tensor.shape
    unused = [name for role, name in given.items() if role not in needed and not theirs[role.rpartition(".")[0]].added]
    wider = any(a > b for here, there in shapes.values() for a, b in zip(here, there, strict=False))
    check_tensors(
        f"the weights of {source.family}",
        missing,
        unused,
        shapes,
        "the network can be narrower than its weights, but not wider: lower its width, or choose wider weights"
        if wider
        else "choose weights of the same network",
    )
    if narrowed:
        notes.append("The network is narrower than the weights: it starts from their leading channels.")
    fresh = tuple(name for name in expected if name not in state)
    if added := [name for name in fresh if not _within(_role(name, ours), left)]:
        notes.append(f"{len(added)} tensors that only this form of the network has are freshly initialized.")
    counters = {
        f"{name.removesuffix('running_var')}{COUNTER}": torch.zeros((), dtype=torch.int64)
        for name in state
        if name.endswith("running_var")
    }
    return Transfer(state | counters, fresh, tuple(notes), mean, std)


def _unloaded(
    start: Start,
    target: Architecture,
    theirs: Mapping[str, Part],
    ours: Mapping[str, Part],
    notes: list[str],
    *,
    same_classes: bool,
) -> list[str]:
    """Prefixes of roles that are not loaded: the classifier, or the stem."""
    left = []
    has_head = any(name.startswith(head_prefix(start.architecture)) for name in start.tensors)
    if not has_head:
        notes.append("The classifier is not loaded: the weights have none.")
    elif not same_classes or start.architecture.classes != target.classes:
        notes.append("The classifier is not loaded: its classes are not those of the dataset.")
    if notes:
        left += [role for found in (theirs, ours) for role, part in found.items() if part.layer.op == "linear"]
    stems = [found.get("0.conv") for found in (theirs, ours)]
    kernels = [stem.layer.kernel for stem in stems if stem is not None]
    if len(set(kernels)) > 1:
        notes.append(
            f"The stem is freshly initialized: its kernel is {kernels[1]}x{kernels[1]} at nominal size "
            f"{target.nominal}, that of the weights {kernels[0]}x{kernels[0]} (a nominal of "
            f"{start.architecture.nominal} keeps it)."
        )
        left += ["0.conv", "0.norm"]
    return left


def _for_channels(
    start: Start, target: Architecture, theirs: Mapping[str, Part], notes: list[str]
) -> tuple[dict[str, Tensor], tuple[float, ...], tuple[float, ...]]:
    """The tensors for the target's image channels, and their normalization."""
    channels = start.architecture.channels
    if channels == target.channels:
        return start.tensors, start.mean, start.std
    if target.channels != 1:
        raise PretrainedError(
            f"the weights take images with {channels} channels, but the dataset has {target.channels}: only color "
            "weights can be used for grayscale images, not the reverse; choose other weights"
        )
    notes.append("The images are grayscale: the first convolution is the sum over the color channels of the weights'.")
    return _gray(start, theirs)


def _gray(start: Start, theirs: Mapping[str, Part]) -> tuple[dict[str, Tensor], tuple[float, ...], tuple[float, ...]]:
    """Tensors with one first convolution for grayscale images, equivalent to the weights' on the gray value in all
    channels.

    A gray value g is normalized with m and s, the averages of means and standard deviations. As (g - m_c) / s_c equals
    (g - m) / s · s / s_c + (m - m_c) / s_c, the kernel is the sum of w_c · s / s_c, and the constant, which is missing
    only at the image's border, is subtracted from the running mean of the following batch norm.
    """
    count = len(start.mean)
    mean, std = sum(start.mean) / count, sum(start.std) / count
    name = theirs["0.conv"].layer.name
    weight = start.tensors[f"{name}.weight"].double()
    scales = torch.tensor([std / each for each in start.std], dtype=torch.float64)
    offsets = torch.tensor(
        [(mean - each) / spread for each, spread in zip(start.mean, start.std, strict=True)], dtype=torch.float64
    )
    tensors = dict(start.tensors)
    tensors[f"{name}.weight"] = torch.einsum("ocij,c->oij", weight, scales).unsqueeze(1).float()
    if "0.norm" in theirs:
        running = f"{theirs['0.norm'].layer.name}.running_mean"
        constant = torch.einsum("ocij,c->o", weight, offsets)
        tensors[running] = (tensors[running].double() - constant).float()
    return tensors, (mean,), (std,)


def _cut(tensor: Tensor, shape: tuple[int, ...], wide: Layer, narrow: Layer) -> Tensor | None:
    """The slices of a tensor that a layer of this shape starts from; None if there are none."""
    if tensor.dim() != len(shape) or tuple(tensor.shape[2:]) != shape[2:]:
        return None
    if any(here > there for here, there in zip(shape, tensor.shape, strict=True)):
        return None
    if wide.op == "conv" and not _same_groups(wide, narrow):
        return None
    if tensor.dim() < 2:
        return tensor[: shape[0]]
    if len(wide.in_parts) != len(narrow.in_parts):
        return None
    if not wide.in_parts:
        return tensor[: shape[0], : shape[1]]
    if any(here > there for here, there in zip(narrow.in_parts, wide.in_parts, strict=True)):
        return None
    starts = accumulate(wide.in_parts[:-1], initial=0)
    columns = [
        tensor[: shape[0], begin : begin + length] for begin, length in zip(starts, narrow.in_parts, strict=True)
    ]
    return torch.cat(columns, dim=1)


def _same_groups(wide: Layer, narrow: Layer) -> bool:
    """For a grouped convolution whole groups are removed: the others read the same channels as before."""
    if wide.groups == 1 or narrow.groups == 1:
        return wide.groups == narrow.groups
    return all(
        one.channels // wide.groups == other.channels // narrow.groups
        for one, other in ((wide.input, narrow.input), (wide.output, narrow.output))
    )


def _role(name: str, found: Mapping[str, Part]) -> str:
    module = name.rpartition(".")[0]
    return next((role for role, part in found.items() if part.layer.name == module), "")


def _within(role: str, left: Sequence[str]) -> bool:
    return any(role == each or role.startswith(f"{each}.") for each in left)
