"""Time that spatial sampling saves on a CPU, at batch 1, against the fastest dense form, on one thread and on all.

Masks are fixed budgets at random positions, drawn from the seed. This is the worst case for memory access, since
learned masks are clustered. The mask predictors are computed and counted. The dense network is the plain one, channels
last, with folded normalization: the faster of `paretofit.search.export.fold` and of our own dense form, whose 1 x 1
convolutions become matrix products where that measures faster.

- `NETWORK_share_D`: share of the saved multiply-accumulates that is also saved in time, with zero fill at a density
  (predictors included): (1 - time / dense time) / (1 - MACs / dense MACs), for the whole network at 448 pixels. Goal:
  .65 up to a density of .35.
- `NETWORK_slowest`: the longest time over the dense one, for the densities .1 to .7. Goal: 1.02.
- `bottleneck_WIDTH_MAP_slowest`: the same for a single bottleneck of ResNet-50.

The details have the milliseconds of every case, including interpolation.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from benchmarks.harness import Claim, Report, interleaved, medians, run
from paretofit.core.cpus import available_cpus
from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.cost import cost
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.basic import Classifier
from paretofit.models.kinds.residual import ResidualBottleneck
from paretofit.models.kinds.sampling import Fill, Policy, sampled
from paretofit.models.layers.folded_residual import Table
from paretofit.models.layers.sparse import break_even, sparse
from paretofit.models.layers.sparse_sampling import SparseBlock
from paretofit.models.trace import Size
from paretofit.search.export.fold import folded

DENSITIES: Final = (0.1, 0.2, 0.35, 0.5, 0.7)
CLAIMED: Final = 0.35
NETWORKS: Final = {"resnet50": (448, 448), "resnet101": (448, 448)}
BLOCKS: Final[Mapping[str, tuple[int, Size]]] = {
    "64 at 100x168": (64, (100, 168)),
    "64 at 56x56": (64, (56, 56)),
    "128 at 50x84": (128, (50, 84)),
    "128 at 28x28": (128, (28, 28)),
    "256 at 28x28": (256, (28, 28)),
}
"""Middle channels and feature map size of bottlenecks."""
REPEATS: Final = 15


def ready(plan: Architecture) -> Network:
    """A network with random batch norm statistics and weights, like a trained one."""
    torch.manual_seed(0)
    network = build(plan).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            nn.init.constant_(norm.weight, 0.3)
    return network


def masked(plan: Architecture, density: float, fill: Fill) -> Architecture:
    """The architecture with masks of a fixed budget."""
    return sampled(plan, Policy(density=density, draw="budget", fill=fill, grid=0 if fill == "zero" else 7))


class _Pass:
    """A forward pass in torch, with masks of a density."""

    def __init__(self, network: nn.Module, images: Tensor, density: float | None = None) -> None:
        self._network = network
        self._images = images
        self._density = density
        self._masks = [module.masks for module in network.modules() if isinstance(module, SparseBlock)]

    @torch.inference_mode()
    def __call__(self) -> None:
        for masks in self._masks:
            for sampling in masks.samplings:
                sampling.density = self._density or 1.0
        self._network(self._images)


def cases(plain: Architecture, images: Tensor, table: Table) -> dict[str, Callable[[], object]]:
    """The passes by name: `folded` and `dense` for the plain network, `zero` and `rbf` with masks."""
    network = ready(plain)
    folded_network = folded(network)
    convert_conv2d_weight_memory_format(folded_network, torch.channels_last)
    zero = sparse(ready(masked(plain, CLAIMED, "zero")), table)
    rbf = sparse(ready(masked(plain, CLAIMED, "rbf")), table)
    _check(plain, images, table)
    return {
        "folded": _Pass(folded_network, images),
        "dense": _Pass(sparse(network, table), images),
        **{f"zero {density}": _Pass(zero, images, density) for density in DENSITIES},
        f"rbf {CLAIMED}": _Pass(rbf, images, CLAIMED),
    }


def measured(plain: Architecture, size: Size, repeats: int) -> dict[str, Any]:
    """Milliseconds of each case; per density, the MACs and time relative to the dense network."""
    images = torch.randn(1, plain.channels, *size, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    table = break_even(ready(masked(plain, CLAIMED, "zero")), images)
    seconds = medians(interleaved(cases(plain, images, table), repeats=repeats, warmup=2))
    dense = min(seconds["folded"], seconds["dense"])
    macs = cost(plain, size).macs
    rows = {}
    fills: dict[str, Fill] = {"zero": "zero", "rbf": "rbf"}
    for name, taken in seconds.items():
        fill, _, density = name.partition(" ")
        if fill in fills:
            theory = cost(masked(plain, float(density), fills[fill]), size).macs / macs
            share = (1 - taken / dense) / (1 - theory)
            rows[name] = {"macs": theory, "time": taken / dense, "share": share}
            sys.stderr.write(f"  {name:10} MACs {theory:.3f}  time {taken / dense:.3f}  share {share:.2f}\n")
    return {"milliseconds": {name: round(1000 * taken, 2) for name, taken in seconds.items()}, "densities": rows}


def block(middle: int) -> Architecture:
    """A single bottleneck of ResNet-50."""
    outer = 4 * middle
    body = ResidualBottleneck(outer, middle, outer, stride=1, groups=1, projection=False)
    return Architecture("bottleneck", 224, outer, 2, (body, Classifier(outer, 2)))


def report(networks: Mapping[str, Size], blocks: Mapping[str, tuple[int, Size]], repeats: int) -> Report:
    """Measure families and bottlenecks (middle channels, map size), on one thread and on all."""
    claims: list[Claim] = []
    details: dict[str, Any] = {}
    for name, threads in {"one_thread": 1, "all_threads": available_cpus()}.items():
        torch.set_num_threads(threads)
        for family, size in networks.items():
            sys.stderr.write(f"{family} at {size[0]}x{size[1]}, {name}\n")
            found = details[f"{family}_{name}"] = measured(architecture(family), size, repeats)
            rows = {float(key.split()[1]): row for key, row in found["densities"].items() if key.startswith("zero")}
            claims += [
                Claim(f"{family}_share_{density}_{name}", row["share"], 0.65, "higher")
                for density, row in rows.items()
                if density <= CLAIMED
            ]
            slowest = max(row["time"] for row in rows.values())
            claims.append(Claim(f"{family}_slowest_{name}", slowest, 1.02, "lower"))
        for label, (middle, size) in blocks.items():
            sys.stderr.write(f"bottleneck of {label}, {name}\n")
            found = details[f"bottleneck {label} {name}"] = measured(block(middle), size, repeats)
            slowest = max(row["time"] for key, row in found["densities"].items() if key.startswith("zero"))
            claims.append(Claim(f"bottleneck_{label.replace(' at ', '_')}_slowest_{name}", slowest, 1.02, "lower"))
    return Report("sparse_speed", tuple(claims), details)


def main() -> Report:
    return report(NETWORKS, BLOCKS, REPEATS)


@torch.inference_mode()
def _check(plain: Architecture, images: Tensor, table: Table) -> None:
    network = ready(masked(plain, CLAIMED, "zero"))
    expected = network(images)
    difference = float((sparse(network, table)(images) - expected).abs().max() / expected.abs().max())
    if difference > 1e-4:
        raise RuntimeError(f"sparse and masked forms differ by {difference:.1e} of the largest logit")


if __name__ == "__main__":
    run(main)
