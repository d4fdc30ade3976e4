"""Reorders the channels of a trained network by importance, so that its narrower forms, which take leading channels
(`paretofit.models.layers.slimmable`), keep the most important ones. The network's outputs do not change.

Once-for-all (Cai et al., ICLR 2020, arXiv 1908.09791, section 3.3) sorts by the L1 norm of the weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from paretofit.models.build import Network
from paretofit.models.channel_groups import ChannelGroup, channel_groups

Importance = dict[str, Tensor]
"""[channels] for each of `channel_groups`, by name."""


@torch.no_grad()
def importance(network: Network, batches: Iterable[Tensor]) -> Importance:
    """How much each channel contributes, measured on batches of images [N, C, H, W] on the network's device.

    Summed over the dense layers that read the channel: the mean absolute input over images and pixels, times the sum of
    the layer's absolute weights for it. Runs in evaluation mode with the network's own batch norm statistics, without
    synchronizing the host. Raises ValueError without batches, and for a network without statistics.
    """
    _check_statistics(network)
    groups = channel_groups(network.architecture)
    totals: dict[str, Tensor] = {}
    modes = [(module, module.training) for module in network.modules()]
    handles = [
        network.get_submodule(_layer(weight)).register_forward_pre_hook(_adder(totals, weight))
        for group in groups
        for weight in group.columns
    ]
    images = 0
    try:
        network.eval()
        for batch in batches:
            network(batch)
            images += batch.shape[0]
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    if images == 0:
        raise ValueError("the importance of channels needs at least one batch of images")
    return _weighted(network, groups, {weight: total / images for weight, total in totals.items()})


@torch.no_grad()
def l1_importance(network: Network) -> Importance:
    """The sum of the absolute weights of all dense layers on each channel: the once-for-all criterion, without data."""
    return _weighted(network, channel_groups(network.architecture), {})


@torch.no_grad()
def sort_channels(network: Network, importance: Mapping[str, Tensor]) -> None:
    """Sort the channels of every group by descending importance, in place; equal ones keep their order.

    The network's outputs are unchanged up to rounding. Where channels move in units, a unit's importance is its sum.
    Raises ValueError if `importance` has other groups or shapes than the network or values that are not finite, and for
    a network without batch norm statistics.
    """
    _check_statistics(network)
    groups = channel_groups(network.architecture)
    if odd := sorted({group.name for group in groups} ^ importance.keys()):
        raise ValueError(f"importance: {odd[0]} is {'unknown' if odd[0] in importance else 'missing'}")
    orders = [_order(group, importance[group.name]) for group in groups]
    tensors = network.state_dict(keep_vars=True)
    for group, order in zip(groups, orders, strict=True):
        for names, dim in ((group.rows, 0), (group.columns, 1)):
            for name in names:
                tensor = tensors[name]
                tensor.copy_(tensor.index_select(dim, order.to(tensor.device)))


def _adder(totals: dict[str, Tensor], weight: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    """A hook that adds to the total of `weight` [channels] the mean absolute input of its layer over pixels, summed
    over images."""

    def add(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        means = inputs[0].abs()
        if means.dim() > 2:
            means = means.flatten(2).mean(2)
        total = means.sum(0)
        totals[weight] = totals[weight] + total if weight in totals else total

    return add


def _weighted(network: Network, groups: tuple[ChannelGroup, ...], inputs: Mapping[str, Tensor]) -> Importance:
    weights = dict(network.named_parameters())
    found: Importance = {}
    for group in groups:
        total = weights[group.rows[0]].new_zeros(group.channels)
        for name in group.columns:
            share = weights[name].detach().abs().transpose(0, 1).flatten(1).sum(1)
            total = total + (share * inputs[name] if name in inputs else share)
        found[group.name] = total
    return found


def _order(group: ChannelGroup, values: Tensor) -> Tensor:
    """The current positions of the channels in their new order."""
    if values.shape != (group.channels,):
        raise ValueError(f"importance: {group.name} must be [{group.channels}], not {list(values.shape)}")
    if not bool(values.isfinite().all()):
        raise ValueError(f"importance: {group.name} must be finite: the network's weights or activations are not")
    units = values.view(-1, group.unit).sum(1).argsort(descending=True, stable=True)
    places = torch.arange(group.channels, device=values.device).view(-1, group.unit)
    return places[units].flatten()


def _layer(weight: str) -> str:
    return weight.removesuffix(".weight")


def _check_statistics(network: Network) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is None:
            raise ValueError(
                f"{name} has no running statistics: sort a static network, such as Slimmable.extract returns"
            )
