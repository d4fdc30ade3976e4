"""Cost of an architecture at an input size: integer arithmetic on its layers. Torch-free.

`python -m paretofit.models.cost FAMILY --width W --input H [W]` prints it as one JSON object. `macs` are those of the
published form, which budgets count; `fast_macs` those in evaluation, where a block may have a cheaper equivalent form.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import NoReturn

from paretofit.models.architecture import Architecture
from paretofit.models.families import structures
from paretofit.models.families.registry import architecture
from paretofit.models.trace import Size

FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """Costs of one image.

    `macs`: multiply-accumulates of convolutions and linear layers. `pool_inputs`: elements that global pools read.
    `params`: trainable parameters. `peak_activation_bytes`: peak memory of activations in float32 inference: a layer's
    input, its output and tensors that later layers still read (shortcuts). Normalization, activation and addition work
    in place; weights and kernel workspaces are not counted.
    """

    macs: int
    pool_inputs: int
    params: int
    peak_activation_bytes: int

    def as_dict(self) -> dict[str, int]:
        """The four numbers by name."""
        return asdict(self)


def cost(architecture: Architecture, size: Size) -> Cost:
    """Cost at an input of (height, width) pixels. Raises ArchitectureError if it is too small; the message has the
    minimum."""
    layers = architecture.layers(size)
    return Cost(
        macs=sum(layer.macs for layer in layers),
        pool_inputs=sum(layer.input.elements for layer in layers if layer.op == "global_pool"),
        params=sum(layer.params for layer in layers),
        peak_activation_bytes=FLOAT32_BYTES * max(layer.live_elements for layer in layers),
    )


@lru_cache(maxsize=8192)
def cost_by_metric(architecture: Architecture, size: Size) -> dict[str, int]:
    """`cost` by the name of each number, cached, because networks are requested repeatedly. Do not modify the
    result."""
    return cost(architecture, size).as_dict()


def fast_macs(architecture: Architecture, size: Size) -> int:
    """Multiply-accumulates in evaluation, each block in its cheapest equivalent form; `cost` counts the published form.
    Raises ArchitectureError like `cost`."""
    total = 0
    architecture.layers(size)
    for block in architecture.blocks:
        total += block.fast_macs(size)
        size = block.layers(size)[-1].output.size
    return total


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"paretofit.models.cost: {message}\n")


def main(arguments: Sequence[str]) -> None:
    """Run the command. Exits with 2 and one line on stderr for an invalid network."""
    parser = _Parser(
        prog="python -m paretofit.models.cost", description="Cost of a network of a family, as one JSON object."
    )
    parser.add_argument("family", metavar="FAMILY", help="such as fd_mobilenet, mobilenet_v1, wrn_28_10")
    parser.add_argument("--width", type=float, default=1.0, help="width multiplier (default 1)")
    parser.add_argument("--slimmable", action="store_true", help="round channels as in slimmable networks")
    parser.add_argument(
        "--base-width", type=float, default=1.0, help="multiplier that defines the full network (default 1)"
    )
    parser.add_argument(
        "--input",
        type=int,
        nargs="+",
        metavar=("H", "W"),
        help="height and width in pixels (default: the nominal size)",
    )
    parser.add_argument(
        "--nominal", type=int, default=224, help="input side in pixels that the strides are chosen for (default 224)"
    )
    parser.add_argument("--classes", type=int, default=1000, help="number of classes (default 1000)")
    parser.add_argument("--channels", type=int, default=3, help="channels of the input (default 3)")
    parser.add_argument("--groups", type=int, help="groups of ShuffleNet's convolutions: 1, 2, 3, 4 or 8 (default 3)")
    parser.add_argument("--structure", metavar="FILE", help="ScaleNet's channels by scale, as JSON rows")
    given = vars(parser.parse_args(arguments))
    sides = given.pop("input") or [given["nominal"]]
    file = given.pop("structure")
    options = {name: value for name, value in given.items() if value is not None}
    if len(sides) > 2:
        parser.error(f"--input takes a height and optionally a width, not {len(sides)} numbers")
    size = (sides[0], sides[-1])
    try:
        network = architecture(**options, structure=None if file is None else structures.read(file))
        found = cost(network, size).as_dict() | {"fast_macs": fast_macs(network, size)}
    except (ValueError, OSError) as error:
        parser.error(str(error))
    json.dump({**found, **options, "input": size, "architecture": network.key}, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main(sys.argv[1:])
