"""MutualNet's training step as published by its authors, in plain PyTorch, as the baseline of a benchmark.

Yang et al., ECCV 2020 (arXiv 1909.12978). As in their code, each module slices its parameters by a width attribute,
images are resized to every resolution, the losses are `KLDivLoss` on probabilities, each parameter is a group of its
own in the optimizer, and tensors are contiguous (NCHW).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least `divisor`, and not below 0.9 of the value."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


class USConv2d(nn.Conv2d):
    """A convolution that uses `width_mult` of its channels: [N, w C, H, W] -> [N, w C', H', W']."""

    width_mult = 1.0

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, *, depthwise: bool, first: bool = False
    ) -> None:
        groups = in_channels if depthwise else 1
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.depthwise = depthwise
        self.first = first
        self.in_channels_basic, self.out_channels_basic = in_channels, out_channels

    def forward(self, x: Tensor) -> Tensor:
        if not self.first:
            self.in_channels = make_divisible(self.in_channels_basic * self.width_mult)
        self.out_channels = make_divisible(self.out_channels_basic * self.width_mult)
        self.groups = self.in_channels if self.depthwise else 1
        weight = self.weight[: self.out_channels, : 1 if self.depthwise else self.in_channels]
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation, self.groups)


class USBatchNorm2d(nn.BatchNorm2d):
    """Normalizes by the statistics of the batch: [N, w C, H, W] -> the same shape."""

    width_mult = 1.0

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=True, track_running_stats=False)
        self.num_features_basic = channels

    def forward(self, x: Tensor) -> Tensor:
        channels = make_divisible(self.num_features_basic * self.width_mult)
        weight, bias = self.weight[:channels], self.bias[:channels]
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)


class USLinear(nn.Linear):
    """A classifier that reads `width_mult` of its features."""

    width_mult = 1.0

    def __init__(self, features: int, classes: int) -> None:
        super().__init__(features, classes)
        self.in_features_basic = features

    def forward(self, x: Tensor) -> Tensor:
        self.in_features = make_divisible(self.in_features_basic * self.width_mult)
        return F.linear(x, self.weight[:, : self.in_features], self.bias)


class MobileNetV1(nn.Module):
    """Images [N, channels, H, W] -> logits [N, classes], at the width set last by `set_width`."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], *, channels: int, classes: int) -> None:
        """`widths` and `strides` are those of the stem and of each separable block."""
        super().__init__()
        layers: list[nn.Module] = [USConv2d(channels, widths[0], 3, strides[0], depthwise=False, first=True)]
        layers += [USBatchNorm2d(widths[0]), nn.ReLU6(inplace=True)]
        for (into, out), stride in zip(pairwise(widths), strides[1:], strict=True):
            layers += [USConv2d(into, into, 3, stride, depthwise=True), USBatchNorm2d(into), nn.ReLU6(inplace=True)]
            layers += [USConv2d(into, out, 1, 1, depthwise=False), USBatchNorm2d(out), nn.ReLU6(inplace=True)]
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = USLinear(widths[-1], classes)

    def set_width(self, width: float) -> None:
        self.apply(lambda module: setattr(module, "width_mult", width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(x).flatten(1))
        return out


def sgd(network: nn.Module, *, learning_rate: float, momentum: float, weight_decay: float) -> SGD:
    """Nesterov SGD with one group per parameter; only dense convolutions and linear layers have weight decay."""
    groups = []
    for parameter in network.parameters():
        shape = parameter.shape
        dense = len(shape) == 2 or (len(shape) == 4 and shape[1] != 1)
        groups.append({"params": [parameter], "weight_decay": weight_decay if dense else 0.0})
    return SGD(groups, lr=learning_rate, momentum=momentum, nesterov=True)


def step(
    network: MobileNetV1,
    optimizer: SGD,
    images: Tensor,
    labels: Tensor,
    *,
    resolutions: Sequence[int],
    width: float,
    subs: Sequence[tuple[float, int]],
) -> tuple[Tensor, Tensor]:
    """One optimizer step: the full network of this width, then each sub-network's (width, resolution); `resolutions`
    are descending. Returns the cross-entropy and the sum of the distillation losses."""
    inputs = [F.interpolate(images, (side, side), mode="bilinear", align_corners=True) for side in resolutions]
    optimizer.zero_grad()
    network.set_width(width)
    output = network(inputs[0])
    loss = nn.CrossEntropyLoss()(output, labels)
    loss.backward()
    detached = output.detach()
    divergence = nn.KLDivLoss(reduction="batchmean")
    distilled = torch.zeros_like(loss)
    for sub_width, side in subs:
        network.set_width(sub_width)
        output = network(inputs[resolutions.index(side)])
        sub_loss = divergence(F.log_softmax(output, dim=1), F.softmax(detached, dim=1))
        sub_loss.backward()
        distilled += sub_loss.detach()
    optimizer.step()
    return loss.detach(), distilled
