"""Two orders of one channel shuffle: that of ShuffleNetV1's paper and Paretofit, and megvii's. Torch-free.

Ours precedes the depthwise convolution; theirs follows it, and is the inverse of ours.
"""

from __future__ import annotations

from paretofit.models.families import registry


def shuffle_matches(groups: int) -> bool:
    """Whether ShuffleNetV1's published channels for these groups can be reordered so that megvii's shuffle equals
    ours."""
    middle = registry.architecture("shufflenet_v1", groups=groups).blocks[2].out_channels // 4
    return all(shuffle_order(channels, groups) is not None for channels in (middle, 2 * middle, 4 * middle))


def shuffle_order(channels: int, groups: int) -> tuple[list[int], list[int]] | None:
    """Channel order between two grouped convolutions that makes our shuffle equal megvii's.

    Returns their channel for each of ours before the shuffle, and after it; None if there is no such order. Both orders
    stay within the groups of the convolutions.
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
