"""Matches tensors of two networks of a family by role, across forms. Torch-free.

Forms of a family's network use other indices or names for the same layers: small nominal sizes lose a max-pool, shape
adaptors wrap or follow blocks (`paretofit.models.families.adaptors`), masks wrap them
(`paretofit.models.kinds.sampling`). A role is a layer's name in the plain network without pools, such as
`3.expand.conv`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from paretofit.models.architecture import Architecture, Block
from paretofit.models.kinds.basic import Norm
from paretofit.models.kinds.preactivation import PreactivationBasic
from paretofit.models.kinds.residual import ResidualBasic, ResidualBottleneck
from paretofit.models.kinds.sampling import Sampled
from paretofit.models.kinds.shape_adaptor import Chain, ShapeAdaptor
from paretofit.models.trace import Layer

LEAVES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "conv": ("weight",),
        "batch_norm": ("weight", "bias", "running_mean", "running_var"),
        "linear": ("weight", "bias"),
    }
)
"""The tensors of each kind of layer, by their last names."""

_CHAINS: Final = {
    ResidualBottleneck: {"keep.0.": "reduce.", "keep.1.": "spatial.", "keep.2.": "expand.", "down.": "shortcut."},
    ResidualBasic: {"keep.0.": "first.", "keep.1.": "second.", "down.": "shortcut."},
    PreactivationBasic: {
        "keep.0.conv": "conv1",
        "keep.0.norm": "norm2",
        "keep.1.conv": "conv2",
        "down.conv": "shortcut",
    },
}
"""The layers of a residual block whose sum is a shape adaptor, by their names in the adaptor."""


@dataclass(frozen=True, slots=True)
class Part:
    """A layer with tensors. `added`: it belongs to the form, and the plain network may lack it."""

    layer: Layer
    added: bool = False


def parts(architecture: Architecture) -> dict[str, Part]:
    """The layers of the family's plain network, by role: `{index}.{name in the block}`. Layers that only this form has
    are left out, except shortcuts, which are marked as added."""
    size = (architecture.nominal, architecture.nominal)
    layers: dict[int, list[Layer]] = {}
    for layer in architecture.layers(size):
        if layer.op in LEAVES:
            layers.setdefault(int(layer.name.split(".")[1]), []).append(layer)
    found: dict[str, Part] = {}
    index = 0
    for i, block in enumerate(architecture.blocks):
        if i not in layers:
            continue
        following = architecture.blocks[i + 1] if i + 1 < len(architecture.blocks) else None
        renamed = _renamed(block, following)
        for layer in layers[i]:
            _, _, name = layer.name.split(".", 2)
            old = next((old for old in renamed if name.startswith(old)), None)
            if old is not None:
                role = f"{index}.{renamed[old]}{name.removeprefix(old)}"
                found[role] = Part(layer, added=old.startswith("down."))
        # The batch norm before an adaptor and the adaptor are one block of the plain network.
        index += not _enters(block, following)
    return found


def tensor_names(found: Mapping[str, Part]) -> dict[str, str]:
    """The names of the tensors in the state dict, by role and leaf."""
    return {
        f"{role}.{leaf}": f"{part.layer.name}.{leaf}" for role, part in found.items() for leaf in LEAVES[part.layer.op]
    }


def _renamed(block: Block, following: Block | None) -> dict[str, str]:
    """Prefixes of layer names and their replacements; layers without any of them belong to the form."""
    match block:
        case Sampled():
            return {"body.": ""}
        case ShapeAdaptor(keep=Chain() as chain):
            return _CHAINS[_joined_from(chain)]
        case ShapeAdaptor():
            return {"keep.": ""}
        case Norm() if _enters(block, following):
            return {"norm": "norm1"}
        case _:
            return {"": ""}


def _enters(block: Block, following: Block | None) -> bool:
    """Whether it is the batch norm before the adaptor of a pre-activation block."""
    return isinstance(block, Norm) and isinstance(following, ShapeAdaptor)


def _joined_from(chain: Chain) -> type[Block]:
    if len(chain.blocks) == 3:
        return ResidualBottleneck
    # Of the two only the pre-activation block's last convolution has no batch norm.
    last = chain.blocks[-1].layers((1, 1))
    return ResidualBasic if any(layer.op == "batch_norm" for layer in last) else PreactivationBasic
