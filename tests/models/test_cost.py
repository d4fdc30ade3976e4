"""Published and computed costs of the families, and the command that prints them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from paretofit.models.architecture import ArchitectureError
from paretofit.models.cost import Cost, cost, fast_macs, main
from paretofit.models.families.registry import FAMILIES, architecture
from paretofit.models.families.structures import PUBLISHED, Structure
from paretofit.models.kinds.aggregation import ScaleAggregation, ScaleBottleneck
from paretofit.models.kinds.inverted import InvertedResidual


@pytest.mark.parametrize(
    ("family", "width", "side", "macs_and_pool"),
    [
        ("mobilenet_v1", 1.0, 224, 568_790_528),
        ("mobilenet_v1", 1.0, 128, 186_417_152),
        ("mobilenet_v1", 0.5, 224, 149_522_176),
        ("mobilenet_v1", 0.5, 128, 49_168_384),
        ("mobilenet_v1", 0.25, 224, 41_042_816),
        ("mobilenet_v1", 0.25, 128, 13_574_144),
        ("mobilenet_v2", 1.0, 224, 300_836_992),
        ("mobilenet_v2", 1.0, 128, 99_094_528),
        ("resnet50", 1.0, 224, 4_089_284_608),
        ("resnet50", 1.0, 128, 1_336_655_872),
        ("resnet50", 0.9, 224, 3_338_064_192),
        ("resnet50", 0.9, 128, 1_091_219_328),
    ],
)
def test_mutualnet_published_flops(family: str, width: float, side: int, macs_and_pool: int) -> None:
    """MutualNet (arXiv 1909.12978) counts the inputs of the global pool too."""
    result = cost(architecture(family, width=width, slimmable=True), (side, side))
    assert result.macs + result.pool_inputs == macs_and_pool


@pytest.mark.parametrize(
    ("width", "side", "millions"),
    [
        (0.95, 224, 518),
        (0.9, 224, 466),
        (1.0, 192, 418),
        (0.9, 192, 342),
        (0.8, 192, 269),
        (0.85, 160, 215),
        (0.75, 160, 166),
        (0.65, 160, 127),
        (0.5, 160, 76),
        (0.35, 160, 41),
        (0.25, 192, 30),
        (0.25, 128, 13),
    ],
)
def test_mutualnet_published_table(width: float, side: int, millions: int) -> None:
    """MutualNet (arXiv 1909.12978): rounded or truncated there."""
    result = cost(architecture("mobilenet_v1", width=width, slimmable=True), (side, side))
    assert abs((result.macs + result.pool_inputs) / 1e6 - millions) < 1


@pytest.mark.parametrize(
    ("family", "width", "macs", "params"),
    [
        ("fd_mobilenet", 1.0, 144_489_728, 2_901_288),
        ("fd_mobilenet", 0.5, 40_132_224, 993_928),
        ("fd_mobilenet", 0.25, 12_037_952, 383_160),
        ("mobilenet_v1", 0.5, 149_497_088, 1_331_592),
        ("mobilenet_v1", 0.25, 41_030_272, 470_072),
        ("mobilenet_v1", 0.125, 12_085_568, 186_480),
        ("shufflenet_v1", 1.0, 137_460_672, 1_865_728),
        ("shufflenet_v1", 0.5, 37_589_856, 718_324),
        ("shufflenet_v1", 0.25, 11_009_808, 305_902),
    ],
)
def test_compact_families(family: str, width: float, macs: int, params: int) -> None:
    result = cost(architecture(family, width=width), (224, 224))
    assert (result.macs, result.params) == (macs, params)


@pytest.mark.parametrize(("width", "params"), [(1.0, 4_231_976), (0.25, 470_072)])
def test_slimmable_mobilenet_v1_parameters(width: float, params: int) -> None:
    assert cost(architecture("mobilenet_v1", width=width, slimmable=True), (224, 224)).params == params


@pytest.mark.parametrize(("width", "millions"), [(1.4, 582), (1.0, 300), (0.75, 209), (0.5, 97), (0.35, 59)])
def test_fixed_width_mobilenet_v2(width: float, millions: int) -> None:
    """The table of the authors' checkpoints (tensorflow/models, slim/nets/mobilenet)."""
    assert cost(architecture("mobilenet_v2", width=width), (224, 224)).macs // 10**6 == millions


@pytest.mark.parametrize(
    ("family", "params"),
    [
        ("mobilenet_v2", 3_504_872),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnet152", 60_192_808),
        ("resnext50_32x4d", 25_028_904),
        ("vgg16", 15_231_912),
    ],
)
def test_published_numbers_of_parameters_are_reproduced(family: str, params: int) -> None:
    """As counted by torchvision, except VGG-16, which has one linear layer here and convolutions without bias."""
    assert cost(architecture(family), (224, 224)).params == params


def test_vgg16_costs() -> None:
    """The convolutions are those of the published network. On CIFAR-100 Shape Adaptor (arXiv 2008.00892) states 0.313
    GMACs, and 15.06 without pooling."""
    published, three_linear_layers = 15_470_264_320, (25_088 + 1000) * 4096 + 4096**2
    assert cost(architecture("vgg16"), (224, 224)).macs == published - three_linear_layers + 512 * 1000
    small = architecture("vgg16", nominal=32, classes=100)
    result = cost(small, (32, 32))
    assert (result.macs, result.params) == (313_247_744, 14_770_212)
    weights = sum(layer.params for layer in small.layers((32, 32)) if layer.op == "conv")
    assert round(weights * 32**2 / 1e9, 2) == 15.06


PLAIN_50 = tuple((planes, 0, 0, 0) for planes, count in ((64, 3), (128, 4), (256, 6), (512, 3)) for _ in range(count))


@pytest.mark.parametrize(
    ("family", "structure", "macs", "params"),
    [
        ("scalenet50", None, 3_818_372_352, 31_483_618),
        ("scalenet50_light", None, 2_861_475_840, 23_631_912),
        ("scalenet50", PLAIN_50, 3_857_973_248, 25_557_032),
        ("scalenet101", None, 7_511_097_600, 54_792_390),
        ("scalenet152", None, 11_211_951_616, 77_220_070),
    ],
)
def test_scalenet_costs(family: str, structure: Structure | None, macs: int, params: int) -> None:
    """ScaleNet (arXiv 1904.09460): the published structures, and all channels at the largest scale."""
    result = cost(architecture(family, structure=structure), (224, 224))
    assert (result.macs, result.params) == (macs, params)


@pytest.mark.parametrize(("family", "share"), [("scalenet50", 0.07), ("scalenet50_light", 0.12)])
def test_slices_at_their_own_size_need_fewer_macs(family: str, share: float) -> None:
    network = architecture(family)
    assert 1 - fast_macs(network, (224, 224)) / cost(network, (224, 224)).macs == pytest.approx(share, abs=0.005)


def test_blocks_with_one_form_have_equal_costs() -> None:
    network = architecture("resnext50_32x4d")
    assert fast_macs(network, (225, 160)) == cost(network, (225, 160)).macs


def test_interpolated_slices_are_not_counted_at_their_own_size() -> None:
    block = ScaleBottleneck(
        64, 16, 64, 1, projection=False, aggregation=ScaleAggregation(16, 24, (1, 2), (16, 8), (3, 3))
    )
    macs = sum(layer.macs for layer in block.layers((8, 6)))
    assert block.fast_macs((8, 6)) == macs - 64 * 8 * (8 * 6 - 4 * 3)
    assert block.fast_macs((9, 6)) == sum(layer.macs for layer in block.layers((9, 6)))


@pytest.mark.parametrize("width", [1.0, 0.5, 0.25])
def test_fd_shufflenet_costs_about_as_much_as_shufflenet(width: float) -> None:
    fast, slow = (cost(architecture(f, width=width), (224, 224)).macs for f in ("fd_shufflenet", "shufflenet_v1"))
    assert 0.97 * slow < fast < slow


def test_wide_resnet_28_10_costs() -> None:
    result = cost(architecture("wrn_28_10", nominal=32, classes=100), (32, 32))
    assert (result.macs, result.params) == (5_243_386_368, 36_536_884)


def test_fd_mobilenet_spends_its_macs_on_small_maps() -> None:
    """FD-MobileNet (arXiv 1802.03750): MACs by output side, compared with MobileNetV1 up to the smallest map."""

    def macs_by_side(family: str, width: float) -> dict[int, int]:
        sides: dict[int, int] = {}
        for layer in architecture(family, width=width).layers((224, 224)):
            if layer.op == "conv":
                sides[layer.output.height] = sides.get(layer.output.height, 0) + layer.macs
        return sides

    fast = macs_by_side("fd_mobilenet", 1.0)
    assert {side: round(macs / 1e6, 2) for side, macs in fast.items()} == {
        112: 10.84,
        56: 7.33,
        28: 20.62,
        14: 19.94,
        7: 84.73,
    }
    slow = macs_by_side("mobilenet_v1", 0.5)
    assert round(sum(macs for side, macs in fast.items() if side > 7) / 1e6, 1) == 58.7
    assert round(sum(macs for side, macs in slow.items() if side > 7) / 1e6, 1) == 129.4


def test_fd_mobilenet_has_24_layers_and_reaches_each_size_early() -> None:
    def depth_at(family: str, factor: int) -> int:
        layers = [layer for layer in architecture(family).layers((224, 224)) if layer.op in {"conv", "linear"}]
        return next(i for i, layer in enumerate(layers, start=1) if layer.output.height == 224 // factor)

    weighted = [la for la in architecture("fd_mobilenet").layers((224, 224)) if la.op in {"conv", "linear"}]
    assert len(weighted) == 24
    assert (depth_at("fd_mobilenet", 4), depth_at("mobilenet_v1", 4)) == (2, 4)
    assert (depth_at("fd_mobilenet", 32), depth_at("mobilenet_v1", 32)) == (12, 24)


@pytest.mark.parametrize(
    ("family", "width", "side", "elements"),
    [
        # The first pointwise convolution: 16 channels in, 32 out.
        ("mobilenet_v1", 0.5, 224, (16 + 32) * 112**2),
        # A block with an identity shortcut: its input, and a 3x3 convolution's input and output.
        ("wrn_28_10", 1.0, 32, 3 * 160 * 32**2),
        # The second convolution of a block with a projection, beside its shortcut.
        ("wrn_10_2", 1.0, 32, 3 * 32 * 32**2),
        # The last convolution of a bottleneck with an identity shortcut; the projection of the first needs as much.
        ("resnet50", 1.0, 224, (64 + 256 + 256) * 56**2),
        # The stem and its max-pool.
        ("resnet18", 1.0, 224, 64 * (112**2 + 56**2)),
        # The depthwise convolution of the first block that expands.
        ("mobilenet_v2", 1.0, 224, 96 * (112**2 + 56**2)),
        ("vgg16", 1.0, 224, 2 * 64 * 224**2),
        # The shuffle of the first unit, which copies, while the unit's input is kept.
        ("shufflenet_v1", 1.0, 224, (24 + 60 + 60) * 56**2),
        # The last convolution of a block, beside its shortcut.
        ("scalenet50", 1.0, 224, (256 + 256 + 88) * 56**2),
        # The concatenation of a block's branches, beside its shortcut.
        ("scalenet20", 1.0, 32, (16 + 16 + 16) * 32**2),
        # The stem: the image, and 32 channels at half its size.
        ("fd_mobilenet", 1.0, 32, 3 * 32**2 + 32 * 16**2),
    ],
)
def test_peak_activation_memory(family: str, width: float, side: int, elements: int) -> None:
    assert cost(architecture(family, width=width), (side, side)).peak_activation_bytes == 4 * elements


def test_shortcut_memory_is_held_until_the_sum() -> None:
    block = InvertedResidual(16, 96, 16, 3, 1, "relu6", residual=True)
    assert max(layer.live_elements for layer in block.layers((8, 8))) == (16 + 96 + 96) * 8**2
    plain = replace(block, residual=False)
    assert max(layer.live_elements for layer in plain.layers((8, 8))) == (96 + 96) * 8**2


def test_as_dict_names_the_four_numbers() -> None:
    assert Cost(1, 2, 3, 4).as_dict() == {"macs": 1, "pool_inputs": 2, "params": 3, "peak_activation_bytes": 4}


def test_input_without_pixels_is_rejected() -> None:
    with pytest.raises(
        ArchitectureError, match="input 0x32 is too small for fd_mobilenet: each side needs at least 1 pixels"
    ):
        cost(architecture("fd_mobilenet"), (0, 32))


def test_command_prints_one_json_object() -> None:
    command = "-m paretofit.models.cost mobilenet_v1 --slimmable --width 0.5 --input 224"
    process = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True, check=True)
    result = json.loads(process.stdout)
    assert result["macs"] + result["pool_inputs"] == 149_522_176
    assert (result["family"], result["width"], result["input"], result["params"]) == (
        "mobilenet_v1",
        0.5,
        [224, 224],
        1_331_592,
    )
    assert result["peak_activation_bytes"] == 2_408_448


def test_command_accepts_height_and_width(capsys: pytest.CaptureFixture[str]) -> None:
    main(["wrn_28_10", "--width", "0.9", "--input", "28", "20", "--nominal", "32", "--classes", "10"])
    result = json.loads(capsys.readouterr().out)
    expected = cost(architecture("wrn_28_10", width=0.9, nominal=32, classes=10), (28, 20))
    assert result["input"] == [28, 20]
    assert {name: result[name] for name in expected.as_dict()} == expected.as_dict()


def test_command_uses_the_nominal_size_as_default_input(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fd_mobilenet", "--nominal", "32"])
    assert json.loads(capsys.readouterr().out)["input"] == [32, 32]


@pytest.mark.parametrize(
    "family", [name.replace("D_K", "28_10") for name, family in FAMILIES.items() if family.slimmable]
)
def test_command_supports_every_slimmable_family(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([family, "--slimmable", "--width", "0.9", "--input", "160", "--classes", "100"])
    result = json.loads(capsys.readouterr().out)
    network = architecture(family, width=0.9, slimmable=True, classes=100)
    assert result["architecture"] == network.key
    assert result["params"] == cost(network, (160, 160)).params
    assert "groups" not in result


def test_command_accepts_groups(capsys: pytest.CaptureFixture[str]) -> None:
    main(["shufflenet_v1", "--groups", "8"])
    result = json.loads(capsys.readouterr().out)
    assert (result["groups"], result["macs"]) == (8, cost(architecture("shufflenet_v1", groups=8), (224, 224)).macs)


@pytest.mark.parametrize("name", PUBLISHED)
def test_command_reads_a_structure(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "structure.json"
    for data in (PUBLISHED[name], {"structure": PUBLISHED[name]}):
        file.write_text(json.dumps(data))
        main(["scalenet", "--structure", str(file), "--input", "224"])
        result = json.loads(capsys.readouterr().out)
        network = architecture(name)
        assert {key: result[key] for key in ("macs", "params")} == {
            key: cost(network, (224, 224)).as_dict()[key] for key in ("macs", "params")
        }
        assert result["fast_macs"] == fast_macs(network, (224, 224)) < result["macs"]


def test_command_reports_invalid_structures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "structure.json"
    for content, message in (
        ("[[62, 9, 5", "structure.json: "),
        ("3", "structure: must be a list of rows of integers"),
        ("[[1.5, 0, 0, 0, 56]]", "structure: must be a list of rows of integers"),
        ("[]", "structure: empty"),
        ("[[8, 8, 8]]", "structure[0] must hold the channels of the scales 1, 2, 4, 7"),
        ("[[8, 8, 8, 8, 56], [8, 8, 8, 8]]", "structure[1] must hold the channels"),
        ("[[0, 0, 0, 0, 56]]", "structure[0] must hold channels of at least 0, with a sum above 0"),
        ("[[8, 8, 8, 8]]", "structure: scalenet needs rows that end with the side of the map"),
        ("[[8, 8, 8, 8, 56]]", "structure: the sides of its rows give 1 stages instead of 4"),
    ):
        file.write_text(content)
        with pytest.raises(SystemExit):
            main(["scalenet", "--structure", str(file)])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("scalenet", "structure: scalenet needs rows"),
        ("scalenet50 --structure /nowhere.json", "No such file"),
        ("resnet9000", "unknown family 'resnet9000': choose one of fd_mobilenet, fd_shufflenet, mobilenet_v1, mob"),
        ("shufflenet_v1 --groups 5", "groups must be one of 1, 2, 3, 4, 8 for shufflenet_v1, not 5"),
        ("mobilenet_v1 --groups 2", "groups: not available for mobilenet_v1: leave it out"),
        ("shufflenet_v1 --slimmable", "shufflenet_v1 is not slimmable: choose one of fd_mobilenet, mobilenet_v1"),
        ("fd_mobilenet --input 0", "each side needs at least 1 pixels"),
        ("fd_mobilenet --input 1 2 3", "--input takes a height and optionally a width, not 3 numbers"),
        ("fd_mobilenet --width 0", "width must be a positive number, not 0.0"),
        ("fd_mobilenet --nominal 2", "nominal must be 4 or more, not 2"),
        ("wrn_12_2", "the depth must be 6 n + 4"),
        ("fd_mobilenet --width wide", "argument --width: invalid float value: 'wide'"),
        ("", "the following arguments are required: FAMILY"),
    ],
)
def test_command_errors_are_one_line(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    output = capsys.readouterr()
    assert stopped.value.code == 2
    assert output.out == ""
    assert message in output.err
    assert output.err.count("\n") == 1


def test_command_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "--input" in capsys.readouterr().out
