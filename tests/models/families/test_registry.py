"""Families by name: the network of each published table, and errors for unknown names."""

from __future__ import annotations

import pytest

from paretofit.models.architecture import Architecture
from paretofit.models.families.registry import FAMILIES, architecture
from paretofit.models.kinds.residual import ResidualBottleneck
from paretofit.models.trace import Layer

FIVE_DOWNSAMPLINGS = ("mobilenet_v2", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v1", "fd_shufflenet")


def _strides(family: str, nominal: int) -> list[int]:
    layers = architecture(family, nominal=nominal).layers((nominal, nominal))
    spatial: list[Layer] = [layer for layer in layers if layer.op == "conv" and layer.kernel == 3]
    return [layer.stride for layer in spatial]


def test_fd_mobilenet_table() -> None:
    """FD-MobileNet (arXiv 1802.03750), table 1."""
    network = architecture("fd_mobilenet")
    channels = [block.out_channels for block in network.blocks]
    assert channels == [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 1024, 1000]
    assert _strides("fd_mobilenet", 224) == [2, 2, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1]


def test_mobilenet_v1_table() -> None:
    """MobileNets (arXiv 1704.04861), table 1."""
    network = architecture("mobilenet_v1")
    channels = [block.out_channels for block in network.blocks]
    assert channels == [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024, 1000]
    assert _strides("mobilenet_v1", 224) == [2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]


@pytest.mark.parametrize(("family", "activation"), [("mobilenet_v1", "relu6"), ("fd_mobilenet", "relu")])
def test_activation_of_each_family(family: str, activation: str) -> None:
    ops = {layer.op for layer in architecture(family).layers((224, 224))}
    assert ops == {"conv", "batch_norm", activation, "global_pool", "linear"}


@pytest.mark.parametrize(
    ("family", "nominal", "last_side"),
    [
        ("fd_mobilenet", 224, 7),
        ("fd_mobilenet", 64, 4),
        ("fd_mobilenet", 32, 4),
        ("mobilenet_v1", 64, 4),
        ("mobilenet_v1", 32, 4),
        ("wrn_28_10", 32, 8),
        *((family, 224, 7) for family in FIVE_DOWNSAMPLINGS),
        *((family, 128, 4) for family in FIVE_DOWNSAMPLINGS),
        *((family, 64, 4) for family in FIVE_DOWNSAMPLINGS),
        *((family, 32, 4) for family in FIVE_DOWNSAMPLINGS),
        *((family, 16, 4) for family in FIVE_DOWNSAMPLINGS),
        *((family, 4, 4) for family in FIVE_DOWNSAMPLINGS),
        ("vgg16", 224, 7),
        ("vgg16", 32, 1),
    ],
)
def test_last_map_at_the_nominal_size(family: str, nominal: int, last_side: int) -> None:
    layers = architecture(family, nominal=nominal).layers((nominal, nominal))
    (pool,) = (layer for layer in layers if layer.op == "global_pool")
    assert pool.input.size == (last_side, last_side)


def test_small_nominal_sizes_drop_the_earliest_strides() -> None:
    assert _strides("fd_mobilenet", 32) == [1, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("nominal", "kernel", "stride", "pooled"),
    [(224, 7, 2, True), (128, 7, 2, True), (127, 3, 2, False), (64, 3, 2, False), (63, 3, 1, False), (32, 3, 1, False)],
)
def test_resnet_stem_depends_on_nominal_size(nominal: int, kernel: int, stride: int, pooled: bool) -> None:
    stem, second, *_ = architecture("resnet18", nominal=nominal).layers((nominal, nominal))[::3]
    assert (stem.kernel, stem.stride, second.op == "max_pool") == (kernel, stride, pooled)


@pytest.mark.parametrize("nominal", [8, 32, 224])
def test_vgg16_keeps_its_pools(nominal: int) -> None:
    kinds = [block.kind for block in architecture("vgg16", nominal=nominal).blocks]
    stages = [2, 2, 3, 3, 3]
    assert kinds == [kind for n in stages for kind in (*["conv"] * n, "max_pool")] + ["classifier"]


def test_vgg16_accepts_any_input_size() -> None:
    layers = architecture("vgg16", nominal=32).layers((20, 28))
    assert [layer.output.size for layer in layers if layer.op == "max_pool"] == [
        (10, 14),
        (5, 7),
        (3, 4),
        (2, 2),
        (1, 1),
    ]


def test_mobilenet_v2_table() -> None:
    """MobileNetV2 (arXiv 1801.04381), table 2."""
    stem, *blocks, last, _ = architecture("mobilenet_v2").blocks
    assert (stem.out_channels, last.in_channels, last.out_channels) == (32, 320, 1280)
    assert [block.out_channels for block in blocks] == [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
    data = [block for block in architecture("mobilenet_v2").to_json()["blocks"] if block["kind"] == "inverted_residual"]
    assert [block["mid_channels"] // block["in_channels"] for block in data] == [1, *[6] * 16]
    assert [i for i, block in enumerate(data) if block["stride"] == 2] == [1, 3, 6, 13]
    assert [i for i, block in enumerate(data) if not block["residual"]] == [0, 1, 3, 6, 10, 13, 16]


def test_narrow_mobilenet_v2_channels() -> None:
    """The last convolution keeps its output channels; each block expands its input sixfold."""
    data = architecture("mobilenet_v2", width=0.7, slimmable=True).to_json()["blocks"]
    assert data[-2]["out_channels"] == data[-1]["in_channels"] == 1280
    assert all(block["mid_channels"] == 6 * block["in_channels"] for block in data[2:-2])
    assert [block["out_channels"] for block in data[:3]] == [24, 16, 16]
    residual = [[block.get("residual") for block in network.to_json()["blocks"]] for network in _widths("mobilenet_v2")]
    assert residual[0] == residual[1]


def _widths(family: str) -> tuple[Architecture, Architecture]:
    return architecture(family, width=0.05, slimmable=True), architecture(family, slimmable=True)


@pytest.mark.parametrize(
    ("width", "slimmable", "base_width", "last"),
    [(0.5, False, 1, 1280), (1.4, False, 1, 1792), (1.6, True, 1, 1280), (0.5, True, 0.25, 320)],
)
def test_mobilenet_v2_last_convolution_channels(width: float, slimmable: bool, base_width: float, last: int) -> None:
    network = architecture("mobilenet_v2", width=width, slimmable=slimmable, base_width=base_width)
    assert network.blocks[-1].in_channels == last


@pytest.mark.parametrize("slimmable", [False, True])
@pytest.mark.parametrize(("base_width", "last"), [(0.35, 1280), (0.75, 1280), (1.0, 1280), (1.4, 1792)])
def test_slimmable_full_network_can_keep_last_channels(base_width: float, last: int, slimmable: bool) -> None:
    """As in the published MobileNetV2 x 0.35: the full network of a slimmable one has the tensors of the fixed one."""
    network = architecture("mobilenet_v2", base_width=base_width, slimmable=slimmable, keep_last_channels=True)
    assert network.blocks[-1].in_channels == last
    assert network == architecture("mobilenet_v2", width=base_width)
    narrow = architecture(
        "mobilenet_v2", width=0.5, base_width=base_width, slimmable=slimmable, keep_last_channels=True
    )
    assert narrow.blocks[-1].in_channels == last
    assert narrow.blocks[-2].in_channels < network.blocks[-2].in_channels


@pytest.mark.parametrize(
    ("family", "repeats", "kind"),
    [
        ("resnet18", (2, 2, 2, 2), "residual_basic"),
        ("resnet34", (3, 4, 6, 3), "residual_basic"),
        ("resnet50", (3, 4, 6, 3), "residual_bottleneck"),
        ("resnet101", (3, 4, 23, 3), "residual_bottleneck"),
        ("resnet152", (3, 8, 36, 3), "residual_bottleneck"),
        ("resnext50_32x4d", (3, 4, 6, 3), "residual_bottleneck"),
    ],
)
def test_resnet_tables(family: str, repeats: tuple[int, ...], kind: str) -> None:
    """ResNet (arXiv 1512.03385), table 1."""
    stem, pool, *blocks, _ = architecture(family).to_json()["blocks"]
    outputs = 64 if kind == "residual_basic" else 256
    assert (stem["kernel"], stem["stride"], pool["kernel"], pool["stride"]) == (7, 2, 3, 2)
    assert [b["out_channels"] for b in blocks] == [outputs * 2**i for i, n in enumerate(repeats) for _ in range(n)]
    assert {block["kind"] for block in blocks} == {kind}
    starts = [sum(repeats[:i]) for i in range(4)]
    assert [i for i, block in enumerate(blocks) if block["stride"] == 2] == starts[1:]
    projected = [i for i, block in enumerate(blocks) if block["projection"]]
    assert projected == (starts[1:] if kind == "residual_basic" else starts)


def test_narrow_resnet50_channels() -> None:
    """Stem and middle are quarters of multiples of 8, so 64 becomes 58 at width 0.9."""
    stem, _, first, *_ = architecture("resnet50", width=0.9, slimmable=True).to_json()["blocks"]
    assert (stem["out_channels"], first["mid_channels"], first["out_channels"]) == (58, 58, 232)


def test_basic_blocks_keep_identity_shortcuts_at_every_width() -> None:
    for network in _widths("resnet18"):
        assert not network.to_json()["blocks"][2]["projection"]


@pytest.mark.parametrize(("width", "groups"), [(1.0, 32), (0.9, 29), (0.5, 16), (0.01, 1), (1.5, 48)])
def test_narrow_resnext_keeps_whole_groups(width: float, groups: int) -> None:
    blocks = architecture("resnext50_32x4d", width=width).blocks
    bottlenecks = [block for block in blocks if isinstance(block, ResidualBottleneck)]
    assert {block.groups for block in bottlenecks} == {groups}
    assert sorted({block.mid_channels // block.groups for block in bottlenecks}) == [4, 8, 16, 32]


@pytest.mark.parametrize(("groups", "outputs"), [(1, 144), (2, 200), (3, 240), (4, 272), (8, 384), (None, 240)])
def test_shufflenet_table(groups: int | None, outputs: int) -> None:
    """ShuffleNet (arXiv 1707.01083), table 1."""
    stem, pool, *units, _ = architecture("shufflenet_v1", groups=groups).to_json()["blocks"]
    assert (stem["out_channels"], stem["kernel"], stem["stride"]) == (24, 3, 2)
    assert (pool["kernel"], pool["stride"]) == (3, 2)
    assert [unit["out_channels"] for unit in units] == [*[outputs] * 4, *[2 * outputs] * 8, *[4 * outputs] * 4]
    assert [i for i, unit in enumerate(units) if unit["stride"] == 2] == [0, 4, 12]
    assert all(unit["mid_channels"] == unit["out_channels"] // 4 for unit in units)
    assert [unit["compress_groups"] for unit in units] == [1, *[groups or 3] * 15]


@pytest.mark.parametrize(
    ("width", "groups", "stem", "outputs"), [(0.5, 3, 12, 120), (0.25, 3, 6, 60), (0.5, 8, 16, 192), (0.3, 4, 8, 80)]
)
def test_narrow_shufflenet_channels(width: float, groups: int, stem: int, outputs: int) -> None:
    blocks = architecture("shufflenet_v1", width=width, groups=groups).blocks
    assert (blocks[0].out_channels, blocks[2].out_channels) == (stem, outputs)


def test_shufflenet_activation_positions() -> None:
    """One after the first convolution of a unit, before the shuffle, and one at the end of the unit."""
    unit = architecture("shufflenet_v1").layers((224, 224))
    ops = [layer.op for layer in unit if layer.name.startswith("blocks.2.")]
    convolution = ["conv", "batch_norm"]
    assert ops == [*convolution, "relu", "shuffle", *convolution, *convolution, "avg_pool", "concat", "relu"]
    assert "shuffle" not in {layer.op for layer in architecture("shufflenet_v1", groups=1).layers((224, 224))}


def test_fd_shufflenet_table() -> None:
    """Downsampled like FD-MobileNet: two blocks each at 1/8 and 1/16, the rest at 1/32."""
    units = architecture("fd_shufflenet").to_json()["blocks"][2:-1]
    assert [unit["out_channels"] for unit in units] == [240, 240, 480, 480, *[960] * 12]
    assert [i for i, unit in enumerate(units) if unit["stride"] == 2] == [0, 2, 4]


@pytest.mark.parametrize("family", ["shufflenet_v1", "fd_shufflenet"])
def test_families_without_leading_slices_are_not_slimmable(family: str) -> None:
    with pytest.raises(ValueError, match=f"{family} is not slimmable: choose one of fd_mobilenet, mobilenet_v1"):
        architecture(family, slimmable=True)


def test_groups_outside_the_table_are_rejected() -> None:
    with pytest.raises(ValueError, match="groups must be one of 1, 2, 3, 4, 8 for shufflenet_v1, not 5"):
        architecture("shufflenet_v1", groups=5)
    with pytest.raises(ValueError, match="groups: not available for vgg16: leave it out"):
        architecture("vgg16", groups=1)


def test_base_width_scales_the_full_network() -> None:
    """It sets the channels at width 1; smaller widths round to multiples of 8."""
    full = architecture("fd_mobilenet", slimmable=True, base_width=0.25)
    narrow = architecture("fd_mobilenet", slimmable=True, base_width=0.25, width=0.25)
    assert [block.out_channels for block in full.blocks][:-1] == [8, 16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 256]
    assert [block.out_channels for block in narrow.blocks][:-1] == [8, 8, 8, 8, 16, 16, 32, 32, 32, 32, 32, 64]


def test_slimmable_network_at_width_one_equals_the_plain_network() -> None:
    assert architecture("mobilenet_v1", slimmable=True) == architecture("mobilenet_v1")


@pytest.mark.parametrize(
    ("family", "blocks", "channels"),
    [("wrn_10_1", 3, [16, 16, 32, 64]), ("wrn_28_10", 12, [16, 160, 320, 640]), ("wrn_40_2", 18, [16, 32, 64, 128])],
)
def test_wide_resnet_table(family: str, blocks: int, channels: list[int]) -> None:
    """WideResNet (arXiv 1605.07146), table 1: a stem, three groups, a final normalization."""
    network = architecture(family, nominal=32)
    assert [block.kind for block in network.blocks].count("preactivation_basic") == blocks
    assert len(network.blocks) == blocks + 3
    assert sorted({block.out_channels for block in network.blocks[:-1]}) == sorted(set(channels))
    convolutions = [layer for layer in network.layers((32, 32)) if layer.op == "conv" and layer.kernel == 3]
    assert sum(layer.stride == 2 for layer in convolutions) == 2


def test_projections_are_in_the_same_blocks_at_every_width() -> None:
    wide, narrow = (architecture("wrn_10_2", width=width, nominal=32) for width in (1.0, 0.25))
    assert narrow.blocks[1].in_channels == narrow.blocks[1].out_channels == 8
    names = [[layer.name for layer in network.layers((32, 32))] for network in (wide, narrow)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    "family", ["resnet5", "resnet500", "vgg16_bn", "", "FD_MobileNet", "wrn_28", "wrn_28_10x", "wrn_D_K"]
)
def test_unknown_family_error_lists_known_families(family: str) -> None:
    with pytest.raises(
        ValueError, match=r"unknown family .*fd_mobilenet, .*mobilenet_v1, .*resnet50, .*vgg16, wrn_D_K"
    ):
        architecture(family)


@pytest.mark.parametrize("family", ["wrn_27_10", "wrn_4_1", "wrn_6_2", "wrn_994_1"])
def test_invalid_wide_resnet_depth_is_rejected(family: str) -> None:
    with pytest.raises(ValueError, match=f"{family}: the depth must be 6 n \\+ 4"):
        architecture(family)


def test_every_family_cites_its_source() -> None:
    assert all("arXiv" in family.paper and family.title for family in FAMILIES.values())
