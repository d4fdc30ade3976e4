"""Transfer of trained weights to other networks of the family: the complete backbone, by role, or an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.families.adaptors import Placement, adapted, places
from paretofit.models.families.registry import architecture
from paretofit.models.kinds.basic import Classifier
from paretofit.models.kinds.sampling import Policy, sampled
from paretofit.models.layers.slimmable import Slimmable
from paretofit.models.pretrained.record import PretrainedError, WeightsRecord
from paretofit.models.pretrained.roles import parts
from paretofit.models.pretrained.start import Start, start_of
from paretofit.models.pretrained.transfer import transfer

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
NARROW = 0.25
"""Width of small networks with the structure of their families."""


def trained(arch: Architecture) -> Network:
    """A network in which every tensor, including statistics, has distinct values."""
    torch.manual_seed(0)
    network = build(arch)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.copy_(0.5 + torch.rand_like(tensor))
    return network.eval()


def start(arch: Architecture, *, head: bool = True, norm: tuple[Any, Any] = IMAGENET) -> Start:
    tensors = {
        name: tensor
        for name, tensor in trained(arch).state_dict().items()
        if not name.endswith("num_batches_tracked") and (head or not name.startswith(f"blocks.{len(arch.blocks) - 1}."))
    }
    mean, std = norm if arch.channels == 3 else ((0.3,), (0.35,))
    return Start(arch, tensors, mean, std, None, "0" * 64, {})


def loaded(weights: Start, target: Architecture, *, same_classes: bool = True) -> Network:
    torch.manual_seed(1)
    network = build(target)
    transfer(weights, target, same_classes=same_classes).load(network)
    return network.eval()


def small(family: str, **changes: Any) -> Architecture:
    params: dict[str, Any] = {"slimmable": True, "base_width": NARROW, "nominal": 224, "classes": 10, **changes}
    return architecture(family, **params)


FAMILIES = (
    "mobilenet_v1",
    "mobilenet_v2",
    "fd_mobilenet",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "vgg16",
    "wrn_16_1",
)


@pytest.mark.parametrize("family", [*FAMILIES, "shufflenet_v1", "scalenet20"])
def test_transfer_to_the_same_network_keeps_logits(family: str) -> None:
    plain = {"slimmable": family in FAMILIES, "base_width": NARROW if family in FAMILIES else 1.0}
    source = small(family, **plain, nominal=64)
    transferred = transfer(start(source), source, same_classes=True)
    assert transferred.fresh == transferred.notes == ()
    assert (transferred.mean, transferred.std) == IMAGENET
    network = build(source)
    network.load_state_dict(transferred.state, strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), trained(source)(x))


def test_classifier_is_kept_only_for_equal_classes() -> None:
    source = small("resnet18")
    head = tuple(name for name in start(source).tensors if "linear" in name)
    without = transfer(start(source, head=False), source, same_classes=True)
    assert without.fresh == head
    assert "the weights have none" in without.notes[0]
    for target in (source, small("resnet18", classes=7)):
        other = transfer(start(source), target, same_classes=False)
        assert other.fresh == head
        assert "not those of the dataset" in other.notes[0]
    assert transfer(start(source), small("resnet18", classes=7), same_classes=True).fresh == head


def test_different_family_is_rejected() -> None:
    with pytest.raises(
        PretrainedError, match="the weights are for resnet18, but the network is resnet34: choose a start of resnet34"
    ):
        transfer(start(small("resnet18")), small("resnet34"), same_classes=False)


def test_missing_surplus_and_mismatched_tensors_are_rejected() -> None:
    source = small("mobilenet_v1")
    weights_start = start(source)
    name = "blocks.3.pointwise.norm.running_mean"
    for changed, message in (
        ({key: value for key, value in weights_start.tensors.items() if key != name}, f"1 missing ({name})"),
        ({**weights_start.tensors, name: torch.zeros(8)}, f"1 of another shape ({name} [8] instead of [32])"),
    ):
        with pytest.raises(PretrainedError) as error:
            transfer(replace(weights_start, tensors=changed), source, same_classes=True)
        assert message in str(error.value)
    shallow = replace(source, blocks=(*source.blocks[:13], Classifier(256, 10)))
    with pytest.raises(
        PretrainedError, match=r"10 not in the network \(blocks\.13\.depthwise\.conv\.weight, .*, \.\.\.\)"
    ):
        transfer(weights_start, shallow, same_classes=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_narrower_network_gets_leading_slices(family: str) -> None:
    """The slices equal those of the slimmable network of these weights."""
    full = small(family, nominal=64)
    width = 0.5 if family == "wrn_16_1" else (0.5, 0.75, 0.5, 1.0) if "res" in family else 0.5
    sub = small(family, nominal=64, width=width)
    assert sub != full
    slimmable = Slimmable(full)
    transfer(start(full), full, same_classes=True).load(slimmable.network)
    transferred = transfer(start(full), sub, same_classes=True)
    assert "narrower" in transferred.notes[-1]
    network = build(sub)
    transferred.load(network)
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.train()(x), slimmable.train()(x, sub), rtol=0, atol=0)


def test_concatenation_is_sliced_per_part() -> None:
    row = (8, 4, 2, 2)
    full = small("scalenet20", slimmable=False, base_width=1.0, structure=(row, row) * 9)
    # The second aggregation of a block keeps its channels, because they must match the shortcut.
    sub = small("scalenet20", slimmable=False, base_width=1.0, structure=((4, 4, 1, 2), row) * 9)
    weights_start = start(full)
    transferred = transfer(weights_start, sub, same_classes=True)
    name = next(layer.name for layer in sub.layers((32, 32)) if layer.in_parts)
    wide = weights_start.tensors[f"{name}.weight"]
    narrow = transferred.state[f"{name}.weight"]
    columns = [0, 1, 2, 3, 8, 9, 10, 11, 12, 14, 15]
    assert torch.equal(narrow, wide[: len(narrow), columns])


def test_wider_network_is_rejected() -> None:
    with pytest.raises(PretrainedError, match=r"but not wider: lower its width, or choose wider weights\.$") as error:
        transfer(start(small("mobilenet_v2")), small("mobilenet_v2", base_width=0.5), same_classes=True)
    assert "narrower than its weights" in str(error.value)
    assert str(error.value).count("instead of") == 3


def test_groups_of_a_different_size_are_rejected() -> None:
    """Channels of a partially kept group would be read by the wrong groups."""
    full, sub = (architecture("shufflenet_v1", base_width=width, classes=10) for width in (1.0, 0.5))
    with pytest.raises(PretrainedError, match="of another shape"):
        transfer(start(full), sub, same_classes=True)


@pytest.mark.parametrize("norm", [IMAGENET, HALVES])
def test_gray_images_equal_color_images_with_equal_channels(norm: tuple[Any, Any]) -> None:
    color, gray = small("mobilenet_v1", nominal=64), small("mobilenet_v1", nominal=64, channels=1)
    weights_start = start(color, norm=norm)
    transferred = transfer(weights_start, gray, same_classes=True)
    assert any("grayscale" in note for note in transferred.notes)
    assert transferred.mean == pytest.approx((sum(norm[0]) / 3,))
    pixels = torch.rand(2, 1, 64, 64)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in norm)
    with torch.no_grad():
        expected = trained(color).blocks[0]((pixels - mean) / std)
        result = loaded(weights_start, gray).blocks[0]((pixels - transferred.mean[0]) / transferred.std[0])
    # Zero padding at the border is a different gray value after a different normalization.
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(result[inside], expected[inside], rtol=1e-4, atol=1e-4)
    if norm == HALVES:
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
        stem = weights_start.tensors["blocks.0.conv.weight"]
        torch.testing.assert_close(transferred.state["blocks.0.conv.weight"], stem.sum(1, keepdim=True))


def test_gray_images_without_normalization_after_the_stem_are_supported() -> None:
    gray = transfer(start(small("wrn_16_1")), small("wrn_16_1", channels=1), same_classes=True)
    assert gray.state["blocks.0.conv.weight"].shape[1] == 1
    assert gray.fresh == ()


def test_gray_weights_are_rejected_for_color_images() -> None:
    with pytest.raises(PretrainedError, match="the weights take images with 1 channels, but the dataset has 3"):
        transfer(start(small("mobilenet_v1", channels=1)), small("mobilenet_v1"), same_classes=True)


@pytest.mark.parametrize("family", ["resnet18", "resnet50", "resnext50_32x4d"])
@pytest.mark.parametrize("nominals", [(224, 32), (224, 64), (32, 224)])
def test_stem_with_different_kernel_is_not_loaded(family: str, nominals: tuple[int, int]) -> None:
    """Small forms lack the max-pool, which shifts the indices of all later blocks."""
    source, target = (small(family, nominal=nominal) for nominal in nominals)
    assert abs(len(source.blocks) - len(target.blocks)) == 1
    weights_start = start(source)
    transferred = transfer(weights_start, target, same_classes=True)
    assert {name.split(".")[1] for name in transferred.fresh} == {"0"}
    assert len(transferred.fresh) == 5
    (note,) = transferred.notes
    assert note.startswith("The stem is freshly initialized")
    shift = len(target.blocks) - len(source.blocks)
    for name, tensor in weights_start.tensors.items():
        _, index, leaf = name.split(".", 2)
        if index != "0":
            assert torch.equal(transferred.state[f"blocks.{int(index) + shift}.{leaf}"], tensor)


@pytest.mark.parametrize(
    "family", ["mobilenet_v1", "mobilenet_v2", "fd_mobilenet", "vgg16", "wrn_16_1", "shufflenet_v1"]
)
def test_other_families_keep_all_tensors_at_any_nominal_size(family: str) -> None:
    plain = {"slimmable": False, "base_width": 1.0} if family == "shufflenet_v1" else {}
    source, target = small(family, **plain), small(family, **plain, nominal=28)
    assert source.blocks != target.blocks or family in ("vgg16", "wrn_16_1")
    assert transfer(start(source), target, same_classes=True).fresh == ()


@pytest.mark.parametrize("placement", ["resizing", "replace", "add"])
@pytest.mark.parametrize("family", [*FAMILIES, "shufflenet_v1"])
@pytest.mark.integration
def test_weights_transfer_to_networks_with_shape_adaptors(family: str, placement: Placement) -> None:
    plain = {"slimmable": False, "base_width": 1.0} if family == "shufflenet_v1" else {}
    source = small(family, **plain)
    most = places(source, placement)
    for count in {1, (most + 1) // 2, most} if placement != "resizing" else {most}:
        target = adapted(source, count, placement)
        weights_start = start(source)
        transferred = transfer(weights_start, target, same_classes=True)
        # Only the adaptors' own downsampling is fresh, and every tensor is used exactly once.
        assert all(".down." in name for name in transferred.fresh)
        if placement == "resizing":
            assert transferred.fresh == ()
        values = {
            name: tensor for name, tensor in transferred.state.items() if not name.endswith("num_batches_tracked")
        }
        assert sorted(map(fingerprint, values.values())) == sorted(map(fingerprint, weights_start.tensors.values()))
        loaded(weights_start, target)


def fingerprint(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.double().sum().item(), tensor.flatten()[0].item()


def test_layers_of_joined_residual_blocks_are_matched_by_role() -> None:
    names = {
        # The first adaptor follows the stem, the second is the max-pool.
        "resnet50": {
            "blocks.6.keep.0.conv.weight": "blocks.5.reduce.conv.weight",
            "blocks.6.keep.1.norm.bias": "blocks.5.spatial.norm.bias",
            "blocks.6.keep.2.norm.running_var": "blocks.5.expand.norm.running_var",
            "blocks.6.down.conv.weight": "blocks.5.shortcut.conv.weight",
        },
        "resnet18": {
            "blocks.5.keep.0.conv.weight": "blocks.4.first.conv.weight",
            "blocks.5.keep.1.norm.weight": "blocks.4.second.norm.weight",
            "blocks.5.down.norm.running_mean": "blocks.4.shortcut.norm.running_mean",
        },
        "wrn_16_1": {
            # The normalization before the first adaptor is a separate block.
            "blocks.3.norm.weight": "blocks.3.norm1.weight",
            "blocks.4.keep.0.conv.weight": "blocks.3.conv1.weight",
            "blocks.4.keep.0.norm.running_mean": "blocks.3.norm2.running_mean",
            "blocks.4.keep.1.conv.weight": "blocks.3.conv2.weight",
            "blocks.4.down.conv.weight": "blocks.3.shortcut.weight",
            "blocks.5.conv1.weight": "blocks.4.conv1.weight",
        },
    }
    for family, expected in names.items():
        source = small(family)
        weights_start = start(source)
        transferred = transfer(
            weights_start, adapted(source, places(source, "resizing"), "resizing"), same_classes=True
        )
        for target_name, source_name in expected.items():
            assert torch.equal(transferred.state[target_name], weights_start.tensors[source_name]), target_name


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("family", ["resnet18", "resnet50", "resnext50_32x4d", "wrn_16_1"])
def test_weights_transfer_to_networks_with_masks(family: str, shared: bool) -> None:
    """Initial masks compute all positions, so the network initially behaves like the trained one."""
    source = small(family, nominal=64)
    target = sampled(source, Policy(draw="deterministic", shared=shared))
    weights_start = start(source)
    transferred = transfer(weights_start, target, same_classes=True)
    assert transferred.fresh
    assert all(name.split(".")[2] in ("masks", "fills") for name in transferred.fresh)
    assert f"{len(transferred.fresh)} tensors that only this form" in transferred.notes[-1]
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(weights_start, target)(x), trained(source)(x))


def test_weights_with_masks_transfer_to_a_network_without_masks() -> None:
    plain = small("resnet18", nominal=64)
    weights_start = start(sampled(plain, Policy()))
    assert transfer(weights_start, plain, same_classes=True).fresh == ()


def test_every_layer_of_every_plain_network_has_a_role() -> None:
    for family in FAMILIES:
        source = small(family)
        layers = [layer for layer in source.layers((64, 64)) if layer.op in ("conv", "batch_norm", "linear")]
        assert [part.layer.name for part in parts(source).values()] == [layer.name for layer in layers]
        assert not any(part.added for part in parts(source).values())


def test_load_keeps_memory_format_and_rejects_other_networks() -> None:
    source = small("mobilenet_v1")
    transferred = transfer(start(source), source, same_classes=True)
    network = build(source).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    transferred.load(network)
    weight = network.get_parameter("blocks.1.pointwise.conv.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, transferred.state["blocks.1.pointwise.conv.weight"])
    for other in (small("mobilenet_v1", base_width=0.5), small("fd_mobilenet"), small("mobilenet_v2")):
        torch.manual_seed(3)
        untouched = build(other)
        before = {name: tensor.clone() for name, tensor in untouched.state_dict().items()}
        with pytest.raises(PretrainedError, match="prepared for another network"):
            transferred.load(untouched)
        assert all(torch.equal(tensor, before[name]) for name, tensor in untouched.state_dict().items())


def record(**changes: Any) -> WeightsRecord:
    fields: dict[str, Any] = {
        "family": "mobilenet_v1",
        "width": NARROW,
        "mean": IMAGENET[0],
        "std": IMAGENET[1],
        "layout": "test",
        "source": "a test",
        "sha256": "0" * 64,
        "licence": "CC0-1.0",
        **changes,
    }
    return WeightsRecord(**fields)


def test_start_is_read_from_a_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for classes in (None, 7):
        weights = record(classes=classes, class_names=classes and tuple("abcdefg"))
        weights_start = start(weights.architecture(), head=classes is not None)
        checkpoint.write(path, weights_start.tensors, weights.model_dump(mode="json"))
        read = start_of(path)
        assert read.weights == weights
        assert read.architecture == weights.architecture()
        assert read.class_names == weights.class_names
        assert (read.mean, read.std) == IMAGENET
        assert read.tensors.keys() == weights_start.tensors.keys()
        assert all(torch.equal(read.tensors[name], tensor) for name, tensor in weights_start.tensors.items())


def test_start_is_read_from_a_point_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "point.safetensors"
    network = trained(small("wrn_16_1", channels=1, classes=2))
    checkpoint.save(
        path,
        network,
        {
            "architecture": network.architecture.to_json(),
            "classes": ["cat", "dog"],
            "preprocessing": {"crop": [28, 28], "mean": [0.25], "std": [0.5]},
        },
    )
    read = start_of(path)
    assert read.weights is None
    assert (read.mean, read.std, read.class_names) == ((0.25,), (0.5,), ("cat", "dog"))
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(read, network.architecture)(x), network(x))


def test_invalid_records_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(PretrainedError, match="paretofit weights add"):
        start_of(path)
    good_tensors = start(record().architecture(), head=False).tensors
    for tensors, body, message in (
        (good_tensors, {"kind": "other"}, "has an invalid record"),
        (good_tensors, {**record().model_dump(mode="json"), "width": -1}, "has an invalid record"),
        (good_tensors, record(width=0.5).model_dump(mode="json"), "of another shape"),
        (
            good_tensors,
            record(classes=1000).model_dump(mode="json"),
            "2 missing (blocks.14.linear.weight, blocks.14.linear.bias)",
        ),
        ({**good_tensors, "b": torch.zeros(1)}, record().model_dump(mode="json"), "1 not in the network (b)"),
    ):
        checkpoint.write(path, tensors, body)
        with pytest.raises(PretrainedError) as error:
            start_of(path)
        assert message in str(error.value)
    with pytest.raises(OSError, match="missing"):
        start_of(tmp_path / "missing")
