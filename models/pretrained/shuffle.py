"""Two orders of one channel shuffle: ShuffleNetV1's as its paper and we have it, and as megvii publishes it.
Torch-free.

Ours is in front of the depthwise convolution, theirs behind it, and theirs is the inverse of ours.
"""

from __future__ import annotations

from paretofit.models.families import registry


def shuffle_matches(groups: int) -> bool:
    """Whether ShuffleNetV1's published channels for these groups can be ordered so that megvii's shuffle equals
    ours."""
    middle = registry.architecture("shufflenet_v1", groups=groups).blocks[2].out_channels // 4
    return all(shuffle_order(channels, groups) is not None for channels in (middle, 2 * middle, 4 * middle))


def shuffle_order(channels: int, groups: int) -> tuple[list[int], list[int]] | None:
    """How channels between two grouped convolutions are ordered so that our shuffle equals megvii's.

    Returns for each of our channels before the shuffle theirs, and for each of our places behind it theirs; None if
    there is no such order. Both orders stay within the groups of the convolutions.
    """
    each = channels // groups
    ours = [(place % groups) * each + place // groups for place in range(channels)]
    theirs = [(place % each) * groups + place // each for place in range(channels)]
    places: dict[tuple[int, int], list[int]] = {}
    for place, source in enumerate(theirs):
        places.setdefault((source // each, place // each), []).append(place)
    before = [0] * channels
    behind = [0] * channels
    for place, source in enumerate(ours):
        left = places.get((source // each, place // each))
        if not left:
            return None
        behind[place] = left.pop(0)
        before[source] = theirs[behind[place]]
    return before, behind
