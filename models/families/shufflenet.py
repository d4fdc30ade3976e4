"""ShuffleNetV1: Zhang et al., 2017 (arXiv 1707.01083), table 1; and the same units with fast downsampling.

FD-ShuffleNet is future work of FD-MobileNet's authors (Qin et al., 2018, arXiv 1802.03750): as in FD-MobileNet, two
blocks each at 1/8 and 1/16 of the input, the rest at 1/32. A unit costs about the same MACs in every stage, so both
networks do.
"""

from __future__ import annotations

from paretofit.models.architecture import Architecture
from paretofit.models.families.scaling import Scale
from paretofit.models.families.stages import Stage, Table, assemble

STEM = 24
FIRST_STAGE = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
"""Output channels of the first stage by the number of groups; each later stage has twice as many."""
UNITS = {"shufflenet_v1": (4, 8, 4), "fd_shufflenet": (2, 2, 12)}
"""Units by stage. The first unit of a stage has stride 2."""
DEFAULT_GROUPS = 3


def shufflenet(family: str, scale: Scale) -> Architecture:
    """A family of `UNITS` at a scale.

    Channels are multiples of 4 x groups, because a quarter of them is grouped; the stem's are multiples of the groups.
    Small forms lose the stem's stride first, then the max-pool.
    """
    groups = scale.groups or DEFAULT_GROUPS
    first = FIRST_STAGE[groups]
    units = UNITS[family]
    stages = [Stage("conv", STEM, stride=2, divisor=groups), Stage("max_pool", STEM, stride=2, divisor=groups)]
    stages += [
        Stage("shuffle_entry", first, stride=2, groups=groups),
        Stage("shuffle", first, repeat=units[0] - 1, groups=groups),
        Stage("shuffle", 2 * first, stride=2, repeat=units[1], groups=groups),
        Stage("shuffle", 4 * first, stride=2, repeat=units[2], groups=groups),
    ]
    return assemble(family, Table(tuple(stages), divisor=4 * groups), scale)
