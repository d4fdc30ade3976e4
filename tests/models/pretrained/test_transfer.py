"""Trained weights in other networks of their family: all of the backbone, by role, or an error."""

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
"""Small networks with the families' structure."""


def trained(found: Architecture) -> Network:
    """Every tensor of it with values of its own, the statistics as well."""
    torch.manual_seed(0)
    network = build(found)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.copy_(0.5 + torch.rand_like(tensor))
    return network.eval()


def start(found: Architecture, *, head: bool = True, norm: tuple[Any, Any] = IMAGENET) -> Start:
    tensors = {
        name: tensor
        for name, tensor in trained(found).state_dict().items()
        if not name.endswith("num_batches_tracked")
        and (head or not name.startswith(f"blocks.{len(found.blocks) - 1}."))
    }
    mean, std = norm if found.channels == 3 else ((0.3,), (0.35,))
    return Start(found, tensors, mean, std, None, "0" * 64, {})


def loaded(given: Start, target: Architecture, *, same_classes: bool = True) -> Network:
    torch.manual_seed(1)
    network = build(target)
    transfer(given, target, same_classes=same_classes).load(network)
    return network.eval()


def small(family: str, **changes: Any) -> Architecture:
    given: dict[str, Any] = {"slimmable": True, "base_width": NARROW, "nominal": 224, "classes": 10, **changes}
    return architecture(family, **given)


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
def test_the_same_network_gives_the_same_logits(family: str) -> None:
    plain = {"slimmable": family in FAMILIES, "base_width": NARROW if family in FAMILIES else 1.0}
    found = small(family, **plain, nominal=64)
    made = transfer(start(found), found, same_classes=True)
    assert made.fresh == made.notes == ()
    assert (made.mean, made.std) == IMAGENET
    network = build(found)
    network.load_state_dict(made.state, strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network.eval()(x), trained(found)(x))


def test_the_classifier_needs_equal_classes() -> None:
    found = small("resnet18")
    head = tuple(name for name in start(found).tensors if "linear" in name)
    without = transfer(start(found, head=False), found, same_classes=True)
    assert without.fresh == head
    assert "the weights have none" in without.notes[0]
    for target in (found, small("resnet18", classes=7)):
        other = transfer(start(found), target, same_classes=False)
        assert other.fresh == head
        assert "not those of the dataset" in other.notes[0]
    assert transfer(start(found), small("resnet18", classes=7), same_classes=True).fresh == head


def test_another_family_is_refused() -> None:
    with pytest.raises(
        PretrainedError, match="the weights are for resnet18, but the network is resnet34: choose a start of resnet34"
    ):
        transfer(start(small("resnet18")), small("resnet34"), same_classes=False)


def test_one_tensor_too_few_too_many_or_of_another_shape_is_refused() -> None:
    found = small("mobilenet_v1")
    given = start(found)
    name = "blocks.3.pointwise.norm.running_mean"
    for changed, words in (
        ({key: value for key, value in given.tensors.items() if key != name}, f"1 missing ({name})"),
        ({**given.tensors, name: torch.zeros(8)}, f"1 of another shape ({name} [8] instead of [32])"),
    ):
        with pytest.raises(PretrainedError) as error:
            transfer(replace(given, tensors=changed), found, same_classes=True)
        assert words in str(error.value)
    shallow = replace(found, blocks=(*found.blocks[:13], Classifier(256, 10)))
    with pytest.raises(
        PretrainedError, match=r"10 not in the network \(blocks\.13\.depthwise\.conv\.weight, .*, \.\.\.\)"
    ):
        transfer(given, shallow, same_classes=False)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_narrower_network_gets_leading_slices(family: str) -> None:
    """As the slimmable network of these weights has them."""
    full = small(family, nominal=64)
    width = 0.5 if family == "wrn_16_1" else (0.5, 0.75, 0.5, 1.0) if "res" in family else 0.5
    sub = small(family, nominal=64, width=width)
    assert sub != full
    slimmable = Slimmable(full)
    transfer(start(full), full, same_classes=True).load(slimmable.network)
    made = transfer(start(full), sub, same_classes=True)
    assert "narrower" in made.notes[-1]
    network = build(sub)
    made.load(network)
    x = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.train()(x), slimmable.train()(x, sub), rtol=0, atol=0)


def test_a_concatenation_is_sliced_part_by_part() -> None:
    row = (8, 4, 2, 2)
    full = small("scalenet20", slimmable=False, base_width=1.0, structure=(row, row) * 9)
    # Of each block's two the second keeps its channels, which are those of the shortcut.
    sub = small("scalenet20", slimmable=False, base_width=1.0, structure=((4, 4, 1, 2), row) * 9)
    given = start(full)
    made = transfer(given, sub, same_classes=True)
    name = next(layer.name for layer in sub.layers((32, 32)) if layer.in_parts)
    wide = given.tensors[f"{name}.weight"]
    narrow = made.state[f"{name}.weight"]
    columns = [0, 1, 2, 3, 8, 9, 10, 11, 12, 14, 15]
    assert torch.equal(narrow, wide[: len(narrow), columns])


def test_a_wider_network_is_refused() -> None:
    with pytest.raises(PretrainedError, match=r"but not wider: lower its width, or choose wider weights\.$") as error:
        transfer(start(small("mobilenet_v2")), small("mobilenet_v2", base_width=0.5), same_classes=True)
    assert "narrower than its weights" in str(error.value)
    assert str(error.value).count("instead of") == 3


def test_groups_of_another_size_are_refused() -> None:
    """Leading channels of groups that are cut through would be read by others."""
    full, sub = (architecture("shufflenet_v1", base_width=width, classes=10) for width in (1.0, 0.5))
    with pytest.raises(PretrainedError, match="of another shape"):
        transfer(start(full), sub, same_classes=True)


@pytest.mark.parametrize("norm", [IMAGENET, HALVES])
def test_grey_images_are_seen_as_the_same_value_in_all_colours(norm: tuple[Any, Any]) -> None:
    colour, grey = small("mobilenet_v1", nominal=64), small("mobilenet_v1", nominal=64, channels=1)
    given = start(colour, norm=norm)
    made = transfer(given, grey, same_classes=True)
    assert any("grey" in note for note in made.notes)
    assert made.mean == pytest.approx((sum(norm[0]) / 3,))
    pixels = torch.rand(2, 1, 64, 64)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in norm)
    with torch.no_grad():
        wanted = trained(colour).blocks[0]((pixels - mean) / std)
        found = loaded(given, grey).blocks[0]((pixels - made.mean[0]) / made.std[0])
    # At the border zeros are added, which are another grey value after another normalization.
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    torch.testing.assert_close(found[inside], wanted[inside], rtol=1e-4, atol=1e-4)
    if norm == HALVES:
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        stem = given.tensors["blocks.0.conv.weight"]
        torch.testing.assert_close(made.state["blocks.0.conv.weight"], stem.sum(1, keepdim=True))


def test_grey_images_without_a_normalization_behind_the_stem() -> None:
    grey = transfer(start(small("wrn_16_1")), small("wrn_16_1", channels=1), same_classes=True)
    assert grey.state["blocks.0.conv.weight"].shape[1] == 1
    assert grey.fresh == ()


def test_weights_for_grey_images_are_no_start_for_colour() -> None:
    with pytest.raises(PretrainedError, match="the weights take images with 1 channels, but the dataset has 3"):
        transfer(start(small("mobilenet_v1", channels=1)), small("mobilenet_v1"), same_classes=True)


@pytest.mark.parametrize("family", ["resnet18", "resnet50", "resnext50_32x4d"])
@pytest.mark.parametrize("nominals", [(224, 32), (224, 64), (32, 224)])
def test_a_stem_of_another_kernel_is_not_loaded(family: str, nominals: tuple[int, int]) -> None:
    """The max-pool that small forms lack moves the indices of all blocks behind it."""
    source, target = (small(family, nominal=nominal) for nominal in nominals)
    assert abs(len(source.blocks) - len(target.blocks)) == 1
    given = start(source)
    made = transfer(given, target, same_classes=True)
    assert {name.split(".")[1] for name in made.fresh} == {"0"}
    assert len(made.fresh) == 5
    (note,) = made.notes
    assert note.startswith("The stem is freshly initialized")
    shift = len(target.blocks) - len(source.blocks)
    for name, tensor in given.tensors.items():
        _, index, leaf = name.split(".", 2)
        if index != "0":
            assert torch.equal(made.state[f"blocks.{int(index) + shift}.{leaf}"], tensor)


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
def test_networks_with_shape_adaptors(family: str, placement: Placement) -> None:
    plain = {"slimmable": False, "base_width": 1.0} if family == "shufflenet_v1" else {}
    source = small(family, **plain)
    most = places(source, placement)
    for count in {1, (most + 1) // 2, most} if placement != "resizing" else {most}:
        target = adapted(source, count, placement)
        given = start(source)
        made = transfer(given, target, same_classes=True)
        # Downsampling that only adaptors have; and every tensor is used, as often as there are.
        assert all(".down." in name for name in made.fresh)
        if placement == "resizing":
            assert made.fresh == ()
        values = {name: tensor for name, tensor in made.state.items() if not name.endswith("num_batches_tracked")}
        assert sorted(map(fingerprint, values.values())) == sorted(map(fingerprint, given.tensors.values()))
        loaded(given, target)


def fingerprint(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.double().sum().item(), tensor.flatten()[0].item()


def test_the_layers_of_joined_residual_blocks_are_matched_by_their_role() -> None:
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
            # The normalization before the first adaptor is a block of its own.
            "blocks.3.norm.weight": "blocks.3.norm1.weight",
            "blocks.4.keep.0.conv.weight": "blocks.3.conv1.weight",
            "blocks.4.keep.0.norm.running_mean": "blocks.3.norm2.running_mean",
            "blocks.4.keep.1.conv.weight": "blocks.3.conv2.weight",
            "blocks.4.down.conv.weight": "blocks.3.shortcut.weight",
            "blocks.5.conv1.weight": "blocks.4.conv1.weight",
        },
    }
    for family, wanted in names.items():
        source = small(family)
        given = start(source)
        made = transfer(given, adapted(source, places(source, "resizing"), "resizing"), same_classes=True)
        for ours, theirs in wanted.items():
            assert torch.equal(made.state[ours], given.tensors[theirs]), ours


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("family", ["resnet18", "resnet50", "resnext50_32x4d", "wrn_16_1"])
def test_networks_with_masks(family: str, shared: bool) -> None:
    """The first masks compute everything, so a network that starts from weights behaves as they were trained."""
    source = small(family, nominal=64)
    target = sampled(source, Policy(draw="deterministic", shared=shared))
    given = start(source)
    made = transfer(given, target, same_classes=True)
    assert made.fresh
    assert all(name.split(".")[2] in ("masks", "fills") for name in made.fresh)
    assert f"{len(made.fresh)} tensors that only this form" in made.notes[-1]
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(given, target)(x), trained(source)(x))


def test_weights_with_masks_for_a_network_without() -> None:
    plain = small("resnet18", nominal=64)
    given = start(sampled(plain, Policy()))
    assert transfer(given, plain, same_classes=True).fresh == ()


def test_every_layer_of_every_plain_network_has_a_role() -> None:
    for family in FAMILIES:
        found = small(family)
        layers = [layer for layer in found.layers((64, 64)) if layer.op in ("conv", "batch_norm", "linear")]
        assert [part.layer.name for part in parts(found).values()] == [layer.name for layer in layers]
        assert not any(part.added for part in parts(found).values())


def test_load_keeps_format_and_refuses_other_networks() -> None:
    found = small("mobilenet_v1")
    made = transfer(start(found), found, same_classes=True)
    network = build(found).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    made.load(network)
    weight = network.get_parameter("blocks.1.pointwise.conv.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(weight, made.state["blocks.1.pointwise.conv.weight"])
    for other in (small("mobilenet_v1", base_width=0.5), small("fd_mobilenet"), small("mobilenet_v2")):
        torch.manual_seed(3)
        untouched = build(other)
        before = {name: tensor.clone() for name, tensor in untouched.state_dict().items()}
        with pytest.raises(PretrainedError, match="prepared for another network"):
            made.load(untouched)
        assert all(torch.equal(tensor, before[name]) for name, tensor in untouched.state_dict().items())


def record(**changes: Any) -> WeightsRecord:
    given: dict[str, Any] = {
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
    return WeightsRecord(**given)


def test_a_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    for classes in (None, 7):
        weights = record(classes=classes, class_names=classes and tuple("abcdefg"))
        given = start(weights.architecture(), head=classes is not None)
        checkpoint.write(path, given.tensors, weights.model_dump(mode="json"))
        read = start_of(path)
        assert read.weights == weights
        assert read.architecture == weights.architecture()
        assert read.class_names == weights.class_names
        assert (read.mean, read.std) == IMAGENET
        assert read.tensors.keys() == given.tensors.keys()
        assert all(torch.equal(read.tensors[name], tensor) for name, tensor in given.tensors.items())


def test_the_checkpoint_of_a_point(tmp_path: Path) -> None:
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


def test_other_records_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(PretrainedError, match="paretofit weights add"):
        start_of(path)
    given = start(record().architecture(), head=False).tensors
    for tensors, found, words in (
        (given, {"kind": "other"}, "has an invalid record"),
        (given, {**record().model_dump(mode="json"), "width": -1}, "has an invalid record"),
        (given, record(width=0.5).model_dump(mode="json"), "of another shape"),
        (
            given,
            record(classes=1000).model_dump(mode="json"),
            "2 missing (blocks.14.linear.weight, blocks.14.linear.bias)",
        ),
        ({**given, "b": torch.zeros(1)}, record().model_dump(mode="json"), "1 not in the network (b)"),
    ):
        checkpoint.write(path, tensors, found)
        with pytest.raises(PretrainedError) as error:
            start_of(path)
        assert words in str(error.value)
    with pytest.raises(OSError, match="missing"):
        start_of(tmp_path / "missing")
