"""Slimmable networks: one set of weights that runs every narrower architecture by slicing.

Yu & Huang, US-Net, ICCV 2019; Yang et al., MutualNet, ECCV 2020 (arXiv 1909.12978). A narrower network's weights are
the leading slices of the full one's; its batch norm statistics are its own at each input size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from paretofit.models import build
from paretofit.models.architecture import Architecture, Block, channel_vector
from paretofit.models.build import Network
from paretofit.models.trace import Layer, Size

BankKey = tuple[tuple[int, ...], Size]
"""Channel vector and input size (height, width)."""

_BANK = "bank."


class UncalibratedError(LookupError):
    """Evaluation of a configuration without batch norm statistics."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """How one narrower architecture is cut from the full network, for training or evaluation."""

    network: Network
    """On the meta device: it runs with the tensors that it is given."""
    vector: tuple[int, ...]
    regions: dict[str, tuple[tuple[slice, ...], ...]]
    """By parameter name: the regions of the full parameter that are concatenated along the second axis."""
    norms: dict[str, int]
    """Channels of each batch norm, by name."""


class Slimmable(nn.Module):
    """The parameters of `architecture`, and every architecture that differs from it only by fewer channels.

    In training mode each pass normalizes by its batch and keeps nothing. In evaluation mode a pass uses the statistics
    that `calibrate` computed for its channels and input size. They belong to the weights, so a pass in training mode
    discards them all.
    """

    fixed: Tensor | None

    def __init__(self, architecture: Architecture, device: torch.device | str | None = None) -> None:
        super().__init__()
        self.architecture = architecture
        self.network = _without_statistics(build.build(architecture, device))
        self.bank: dict[BankKey, Tensor] = {}
        """[2, channels of all batch norms]: means and variances."""
        self.register_buffer("fixed", None)

    def fix_statistics(self, entry: Tensor) -> None:
        """Normalize by these statistics, [2, channels of all batch norms] in the order of the layers, also in training:
        those of trained weights, where a batch has too few images for its own. Applies to the full network only."""
        self.fixed = entry.detach().to(next(self.parameters())).clone()

    def forward(self, x: Tensor, sub: Architecture | None = None) -> Tensor:
        """Images [N, C, H, W] -> logits [N, classes] of `sub` (unset: the full network).

        Raises UncalibratedError in evaluation mode without statistics for `sub` at H x W, and ValueError if `sub` is
        not a narrower form of the full network.
        """
        sub = self.architecture if sub is None else sub
        if not self.training:
            cut = _cut(self.architecture, sub, training=False)
            size = (x.shape[-2], x.shape[-1])
            return _call(cut.network, self._weights(cut) | self._statistics(cut, size), x)
        self.bank.clear()
        if self.fixed is not None:
            if sub != self.architecture:
                raise ValueError("the fixed statistics belong to the full network: a narrower one cannot use them")
            cut = _cut(sub, sub, training=False)
            return _call(cut.network, self._weights(cut) | _named_statistics(cut, self.fixed), x)
        if sub == self.architecture:
            full: Tensor = self.network(x)
            return full
        cut = _cut(self.architecture, sub, training=True)
        return _call(cut.network, self._weights(cut), x)

    @torch.no_grad()
    def calibrate(self, sub: Architecture, batches: Iterable[Tensor]) -> None:
        """Compute the statistics of `sub` at the size of these batches of images [N, C, H, W], averaged over the
        batches, and store them in the bank. Raises ValueError without batches, and for batches of several sizes."""
        cut = _cut(self.architecture, sub, training=False)
        if self.fixed is not None:
            raise ValueError("the statistics are fixed and cannot be calibrated")
        weights = self._weights(cut)
        norms = [module for module in cut.network.modules() if isinstance(module, nn.BatchNorm2d)]
        reference = next(self.parameters())
        entry = torch.zeros(2, sum(cut.norms.values()), device=reference.device, dtype=reference.dtype)
        running = _named_statistics(cut, entry)
        size: Size | None = None
        cut.network.train()
        try:
            for count, batch in enumerate(batches, start=1):
                here = (batch.shape[-2], batch.shape[-1])
                if size not in (None, here):
                    raise ValueError(f"the batches of one calibration must have one size, not both {size} and {here}")
                size = here
                for norm in norms:
                    norm.momentum = 1 / count
                _call(cut.network, weights | running, batch)
        finally:
            cut.network.eval()
        if size is None:
            raise ValueError("a calibration needs at least one batch")
        self.bank[cut.vector, size] = entry

    def calibrated(self, sub: Architecture, size: Size) -> bool:
        """Whether `sub` has statistics at (height, width)."""
        return (channel_vector(sub), size) in self.bank

    @torch.no_grad()
    def extract(self, sub: Architecture, size: Size) -> Network:
        """`sub` as a separate static network in evaluation mode, with the statistics of (height, width).

        Its logits equal this network's bit for bit with the same memory format, batch and threads. Raises
        UncalibratedError without statistics.
        """
        cut = _cut(self.architecture, sub, training=False)
        tensors = self._weights(cut) | self._statistics(cut, size)
        batches = {
            f"{name}.num_batches_tracked": torch.zeros((), dtype=torch.long, device=next(self.parameters()).device)
            for name in cut.norms
        }
        network = build.build(sub, "meta")
        network.load_state_dict({name: tensor.clone() for name, tensor in tensors.items()} | batches, assign=True)
        return network.eval()

    def state(self) -> dict[str, Tensor]:
        """Parameters and bank by name, not copied: together with the architecture the complete state."""
        bank = {
            f"{_BANK}{height}x{width}.{'-'.join(map(str, vector))}": entry
            for (vector, (height, width)), entry in self.bank.items()
        }
        return {name: parameter.detach() for name, parameter in self.network.named_parameters()} | bank

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load the result of `state`. Raises ValueError that names the first tensor that does not fit."""
        parameters = dict(self.network.named_parameters())
        names = {name for name in state if not name.startswith(_BANK)}
        if wrong := sorted(names ^ set(parameters)):
            raise ValueError(
                f"{wrong[0]} is {'missing' if wrong[0] in parameters else 'not a parameter of this network'}"
            )
        for name, parameter in parameters.items():
            if state[name].shape != parameter.shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, not {tuple(parameter.shape)}")
        bank = {_bank_key(name): tensor for name, tensor in state.items() if name.startswith(_BANK)}
        for name, parameter in parameters.items():
            parameter.copy_(state[name])
        reference = next(iter(parameters.values()))
        self.bank = {key: tensor.to(reference, copy=True) for key, tensor in bank.items()}

    def _weights(self, cut: _Cut) -> dict[str, Tensor]:
        """The parameters of a narrower network; gradients flow to the full ones."""
        return {name: _take(parameter, cut.regions[name]) for name, parameter in self.network.named_parameters()}

    def _statistics(self, cut: _Cut, size: Size) -> dict[str, Tensor]:
        key = (cut.vector, size)
        if key not in self.bank:
            raise UncalibratedError(
                f"no batch norm statistics for channels {cut.vector} at {size[0]}x{size[1]}: call calibrate() with "
                "batches of that size after the last training step"
            )
        self.bank[key] = self.bank[key].to(next(self.parameters()).device)
        return _named_statistics(cut, self.bank[key])


def _call(network: Network, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    out: Tensor = functional_call(network, tensors, (x,), tie_weights=False)
    return out


_M = TypeVar("_M", bound=nn.Module)


def _without_statistics(network: _M) -> _M:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
            module.running_mean = module.running_var = module.num_batches_tracked = None
    return network


def _without_counters(network: _M) -> _M:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.num_batches_tracked = None
    return network


def _named_statistics(cut: _Cut, entry: Tensor) -> dict[str, Tensor]:
    """Views of a bank entry under the names of the network's buffers."""
    ends = accumulate(cut.norms.values())
    return {
        f"{name}.{statistic}": entry[row, end - channels : end]
        for (name, channels), end in zip(cut.norms.items(), ends, strict=True)
        for row, statistic in enumerate(("running_mean", "running_var"))
    }


@lru_cache(maxsize=4096)
def _meta(place: int, block: Block, *, training: bool) -> nn.Module:
    """The module of a block at this place, shared by all networks that have it there. Creating modules is slow, and
    stage widths rarely repeat as a whole."""
    del place
    with torch.device("meta"):
        made = build.module(block)
    return _without_statistics(made) if training else _without_counters(made).eval()


@lru_cache(maxsize=512)
def _cut(full: Architecture, sub: Architecture, *, training: bool) -> _Cut:
    size = (full.nominal, full.nominal)
    full_layers, sub_layers = full.layers(size), sub.layers(size)
    _check(full, sub, full_layers, sub_layers)
    network = Network(sub, [_meta(place, block, training=training) for place, block in enumerate(sub.blocks)])
    parts = {
        f"{wide.name}.weight": (wide.in_parts, narrow.in_parts)
        for wide, narrow in zip(full_layers, sub_layers, strict=True)
        if wide.in_parts
    }
    return _Cut(
        network=network.train(training),
        vector=channel_vector(sub),
        regions={name: _regions(p.shape, *parts.get(name, ((), ()))) for name, p in network.named_parameters()},
        norms={layer.name: layer.output.channels for layer in sub_layers if layer.op == "batch_norm"},
    )


def _check(
    full: Architecture, sub: Architecture, full_layers: tuple[Layer, ...], sub_layers: tuple[Layer, ...]
) -> None:
    for name in ("channels", "classes", "nominal"):
        if getattr(full, name) != getattr(sub, name):
            raise ValueError(f"{name} is {getattr(sub, name)}, but the full network's is {getattr(full, name)}")
    if len(full_layers) != len(sub_layers):
        raise ValueError(f"{len(sub_layers)} layers cannot be cut from {len(full_layers)}: use one family's widths")
    for wide, narrow in zip(full_layers, sub_layers, strict=True):
        if _skeleton(wide) != _skeleton(narrow) or not _same_groups(wide, narrow):
            raise ValueError(
                f"{narrow.name} ({narrow.op}) differs from the full network's {wide.name} by more than channels"
            )
        for side, most, here in (
            ("inputs", wide.input.channels, narrow.input.channels),
            ("outputs", wide.output.channels, narrow.output.channels),
        ):
            if here > most:
                raise ValueError(f"{narrow.name} has {here} {side}, but the full network has {most}")


def _skeleton(layer: Layer) -> tuple[object, ...]:
    sizes = layer.input.size, layer.output.size
    return layer.name, layer.op, layer.kernel, layer.stride, len(layer.in_parts), sizes


def _same_groups(wide: Layer, narrow: Layer) -> bool:
    """For a grouped (also depthwise) convolution whole groups are removed: the others read the same channels as
    before."""
    if wide.groups == 1:
        return narrow.groups == 1
    return all(
        (one.channels // wide.groups) == (other.channels // narrow.groups)
        for one, other in ((wide.input, narrow.input), (wide.output, narrow.output))
    )


def _regions(shape: torch.Size, wide: tuple[int, ...], narrow: tuple[int, ...]) -> tuple[tuple[slice, ...], ...]:
    lead = tuple(slice(length) for length in shape)
    if not wide:
        return (lead,)
    starts = accumulate(wide[:-1], initial=0)
    return tuple(
        (lead[0], slice(start, start + length), *lead[2:]) for start, length in zip(starts, narrow, strict=True)
    )


def _take(parameter: Tensor, regions: tuple[tuple[slice, ...], ...]) -> Tensor:
    # Contiguous once here, or every kernel that reads it, forward and backward, would copy it.
    taken = parameter[regions[0]] if len(regions) == 1 else torch.cat([parameter[region] for region in regions], dim=1)
    # By strides, because is_contiguous() holds for both formats of a 1x1 kernel, and kernels also choose theirs by
    # strides.
    channels_last = parameter.dim() == 4 and parameter.stride(1) == 1 and parameter.stride(3) == parameter.shape[1]
    return taken.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def _bank_key(name: str) -> BankKey:
    try:
        size, vector = name.removeprefix(_BANK).split(".")
        height, width = map(int, size.split("x"))
        return tuple(map(int, vector.split("-"))), (height, width)
    except ValueError:
        raise ValueError(f"{name} is not a name of batch norm statistics") from None
