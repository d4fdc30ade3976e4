"""Conversion: the published network's outputs, whole or refused, and nothing of a pickle executed."""

from __future__ import annotations

import hashlib
import os
import pickle
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.build import Network, build
from paretofit.models.families.registry import architecture
from paretofit.models.pretrained.convert import convert, convert_tensors
from paretofit.models.pretrained.names import BYTES, IMAGENET, INCEPTION
from paretofit.models.pretrained.record import PretrainedError, WeightsRecord
from tests.models.pretrained import published
from tests.models.pretrained.published import PLAIN, V2_NAMES, Weights

DIGEST = "0" * 64
BIT_EQUAL = [
    *(f"mobilenet_v2 {layout}" for layout in V2_NAMES if layout != "transformers"),
    "mobilenet_v1 timm",
    "resnet18 torchvision",
    "resnet34 torchvision",
    "resnet50 torchvision",
    "resnext50_32x4d torchvision",
    "fd_mobilenet qinzheng93",
]
"""The same arithmetic in the same order; deeper ResNets only repeat it."""
TENSORFLOW = ["mobilenet_v2 transformers", "mobilenet_v1 transformers", "mobilenet_v1 tf_slim"]


def load(path: Path, record: WeightsRecord) -> Network:
    """The network of a weights file; what a file without classifier lacks is fresh."""
    tensors, stored = checkpoint.read(path)
    assert WeightsRecord.model_validate(stored) == record
    network = build(record.architecture())
    absent, surplus = network.load_state_dict(tensors, strict=False)
    assert not surplus
    assert all(name.endswith("num_batches_tracked") or ".linear." in name for name in absent)
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    return network.eval()


def converted(tensors: Mapping[str, Tensor], target: Path, **given: Any) -> tuple[Network, WeightsRecord]:
    record = convert_tensors(tensors, target, sha256=DIGEST, source_name="weights", **given)
    return load(target, record), record


def assert_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """To `tolerance` of the largest number, or of 1."""
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(1.0, float(expected.abs().max())))


def run(forward: Callable[[Weights, Tensor], Tensor], x: Tensor) -> tuple[Weights, Tensor]:
    """Drawn weights, and what the published network makes of two images with them: something else for each."""
    weights = Weights()
    with torch.no_grad():
        expected = forward(weights, x)
    assert (expected[0] - expected[1]).std() > 0.05 * expected.std()
    return weights, expected


def images(height: int = 64, width: int = 64) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.safetensors"


@pytest.mark.parametrize("name", BIT_EQUAL)
def test_logits_are_the_published_networks(name: str, target: Path) -> None:
    x = images()
    weights, expected = run(PLAIN[name], x)
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert torch.equal(network(x), expected)
    assert record.classes == 1000
    assert (record.mean, record.std) == (INCEPTION if name == "mobilenet_v1 timm" else IMAGENET)


@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.4])
@pytest.mark.parametrize("layout", ["torchvision", "timm"])
def test_widths_of_mobilenet_v2(layout: str, width: float, target: Path) -> None:
    x = images(32, 32)
    weights, expected = run(lambda w, x: published.mobilenet_v2(w, x, layout, width, 7), x)
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert torch.equal(network(x), expected)
    assert (record.width, record.classes) == (width, 7)
    assert network.blocks[-1].linear.in_features == max(1280, round(1280 * width))  # type: ignore[union-attr]
    # The search trains this form, of which the file is the full network.
    assert record.slimmable_architecture() == network.architecture


@pytest.mark.parametrize("width", [0.25, 1.25])
def test_widths_of_mobilenet_v1_and_fd_mobilenet(width: float, target: Path) -> None:
    x = images(32, 32)
    for forward in (
        lambda w, x: published.mobilenet_v1(w, x, "timm", width),
        lambda w, x: published.fd_mobilenet(w, x, width),
    ):
        weights, expected = run(forward, x)
        network, record = converted(weights.tensors, target)
        with torch.no_grad():
            assert torch.equal(network(x), expected)
        assert record.width == width


@pytest.mark.parametrize("name", TENSORFLOW)
def test_tensorflow_networks_on_the_mirrored_image(name: str, target: Path) -> None:
    """At a width of 32 every stride is on an even side, where SAME padding is to the right; at a height of 33 on an odd
    one, where it is symmetric as ours. Not bit-equal, because the epsilon is folded into the scale."""
    x = images(33, 32)
    weights, expected = run(PLAIN[name], x)
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert_close(network(x.flip(3)), expected)
    assert record.classes == 1001
    assert (record.mean, record.std) == INCEPTION
    assert any("mirrored" in note for note in record.notes)


def test_mirroring_matters(target: Path) -> None:
    """Unmirrored, the same weights give something else: the paddings differ."""
    x = images(33, 32)
    weights, expected = run(PLAIN["mobilenet_v1 tf_slim"], x)
    network, _ = converted(weights.tensors, target)
    with torch.no_grad():
        assert (network(x) - expected).abs().max() > 1e-2


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_shufflenet_on_rgb_images(width: float, target: Path) -> None:
    """The order of the channels within a group, and with it that of a sum's terms, is another: equal in double
    precision."""
    x = images(64, 48)
    weights, expected = run(lambda w, x: published.shufflenet_v1(w, x, 3, width), x.flip(1))
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert_close(network(x), expected)
        doubled = Weights()
        doubled.tensors = {name: tensor.double() for name, tensor in weights.tensors.items()}
        exact = published.shufflenet_v1(doubled, x.flip(1).double(), 3, width)
        assert_close(network.double()(x.double()), exact, 1e-12)
    assert (record.groups, record.width, record.classes) == (3, width, 1000)
    assert (record.mean, record.std) == BYTES
    assert any("BGR" in note for note in record.notes)


@pytest.mark.parametrize("normalized", [True, False])
def test_vgg_features(normalized: bool, target: Path) -> None:
    """The convolutions' biases are added by the normalization, so not bit-equal; the published head is dropped."""
    x = images(32, 32)

    def forward(w: Weights, x: Tensor) -> Tensor:
        published.vgg16_head(w, classes=3, side=1, hidden=4)
        return published.vgg16_features(w, x, normalized=normalized)

    weights, expected = run(forward, x)
    network, record = converted(weights.tensors, target)
    with torch.no_grad():
        assert_close(network.blocks[:-1](x), expected)
    assert record.classes is None
    assert {"classifier.0.weight", "classifier.6.bias"} <= set(record.dropped)
    assert any("fully connected" in note for note in record.notes)


def test_features_without_a_classifier(target: Path) -> None:
    x = images(32, 32)
    weights, expected = run(lambda w, x: published.mobilenet_v2(w, x, "flat_conv", head=False), x)
    network, record = converted(weights.tensors, target)
    assert record.classes is None
    with torch.no_grad():
        assert torch.equal(network.blocks[:-1](x), expected)


# Files


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    """A MobileNetV2 of width 0.35 with five classes, as torchvision names it."""
    weights, _ = run(lambda w, x: published.mobilenet_v2(w, x, "torchvision", 0.35, 5), images(32, 32))
    return weights.tensors


def expected_tensors(small: dict[str, Tensor], tmp_path: Path) -> dict[str, Tensor]:
    convert_tensors(small, tmp_path / "expected", sha256=DIGEST, source_name="weights")
    return checkpoint.read(tmp_path / "expected")[0]


def assert_same(path: Path, expected: Mapping[str, Tensor]) -> None:
    found, _ = checkpoint.read(path)
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_safetensors_file(small: dict[str, Tensor], tmp_path: Path, target: Path) -> None:
    source = tmp_path / "mine.safetensors"
    save_file(small, source)
    record = convert(source, target, licence="CC0-1.0", source_name="my own", class_names=list("abcde"))
    assert record.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (record.licence, record.source, record.class_names) == ("CC0-1.0", "my own", ("a", "b", "c", "d", "e"))
    assert_same(target, expected_tensors(small, tmp_path))
    assert convert(source, target).source == "mine.safetensors"
    assert convert(source, target).licence == "not stated"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("resnet50_swsl-1c2d3e4f.safetensors", {}),
        ("mine.safetensors", {"licence": "CC-BY-NC-4.0"}),
        ("mine.safetensors", {"source_name": "fb_swsl"}),
    ],
)
def test_files_for_non_commercial_use_need_a_confirmation(
    name: str, given: dict[str, Any], small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    save_file(small, tmp_path / name)
    with pytest.raises(PretrainedError, match=r"non-commercial use only.*--allow-non-commercial"):
        convert(tmp_path / name, target, **given)
    assert not target.exists()
    record = convert(tmp_path / name, target, **given, allow_non_commercial=True)
    assert record.licence == given.get("licence", "not stated")
    if "licence" in given:
        # A weights file still says so, whatever its name.
        target.rename(tmp_path / "again")
        with pytest.raises(PretrainedError, match="non-commercial use only"):
            convert(tmp_path / "again", target)


@pytest.mark.parametrize(
    "nest",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda w: {"model": w},
        lambda w: {"model": {"state_dict": w, "name": "v2"}},
        lambda w: {"state_dict": {f"module.{name}": tensor for name, tensor in w.items()}},
        lambda w: {"state_dict": _changed(w), "state_dict_ema": w},
        lambda w: {
            "model": _changed(w),
            "model_ema": {"n_averaged": torch.tensor(9), **{f"module.{k}": v for k, v in w.items()}},
        },
        lambda w: {"state_dict": _changed(w), "state_dict_ema": None, "model_ema": {"state_dict": w}},
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_pytorch_file(
    nest: Callable[[dict[str, Tensor]], Any], legacy: bool, small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "weights.pth"
    nested = nest(small)
    torch.save(nested, source, _use_new_zipfile_serialization=not legacy)
    record = convert(source, target)
    assert_same(target, expected_tensors(small, tmp_path))
    averaged = "state_dict_ema" in nested or "model_ema" in nested
    assert any("averaged" in note for note in record.notes) == averaged


def _changed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor + 1 for name, tensor in weights.items()}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(
    dtype: torch.dtype, small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "half.safetensors"
    save_file({name: t.to(dtype) if t.is_floating_point() else t for name, t in small.items()}, source)
    convert(source, target)
    rounded = {name: t.to(dtype).float() if t.is_floating_point() else t for name, t in small.items()}
    assert_same(target, expected_tensors(rounded, tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.to(torch.int8), "is int8, not plain floating-point numbers: give weights that are not quantized"),
        (lambda t: t.index_fill(0, torch.tensor([0]), float("nan")), "not finite"),
        (lambda t: t.double() * 1e300, "not finite in float32"),
    ],
)
def test_unusable_numbers(
    change: Callable[[Tensor], Tensor], message: str, small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    source = tmp_path / "odd.safetensors"
    save_file(small | {"features.0.0.weight": change(small["features.0.0.weight"]).contiguous()}, source)
    with pytest.raises(PretrainedError, match=f"features.0.0.weight .*{message}"):
        convert(source, target)
    assert not target.exists()


def test_negative_variance(small: dict[str, Tensor], target: Path) -> None:
    odd = small | {"features.0.1.running_var": -small["features.0.1.running_var"]}
    with pytest.raises(PretrainedError, match="running_var has a negative variance"):
        convert_tensors(odd, target, sha256=DIGEST, source_name="weights")


class MakesFolder:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("how", "name"),
    [("namespace", "argparse.Namespace"), ("numpy", "numpy._core.multiarray.scalar"), ("code", "posix.mkdir")],
)
def test_blocked_globals_are_named_and_not_executed(
    how: str, name: str, legacy: bool, small: dict[str, Tensor], tmp_path: Path, target: Path
) -> None:
    source, folder = tmp_path / "run.pth", tmp_path / "folder"
    extra = {"namespace": Namespace(lr=0.1), "numpy": np.float64(0.5), "code": MakesFolder(folder)}[how]
    torch.save({"state_dict": small, "args": extra}, source, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(PretrainedError) as caught:
        convert(source, target)
    text = str(caught.value)
    assert name in text
    assert "was not loaded" in text
    first, second = (line.strip() for line in text.splitlines()[1:3])
    assert first == "weights = torch.load('run.pth', map_location='cpu', weights_only=False)['state_dict']"
    assert second.startswith("safetensors.torch.save_file(")
    assert not folder.exists()
    assert not target.exists()


def test_the_two_lines_convert(
    small: dict[str, Tensor], tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the error says to do, done."""
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "run.pth"
    torch.save({"state_dict": small, "args": Namespace(lr=0.1)}, source)
    with pytest.raises(PretrainedError) as caught:
        convert(source, target)
    program = "\n".join(line.strip() for line in str(caught.value).splitlines()[1:3])
    exec(f"import torch, safetensors.torch\n{program}")  # The message's own text.
    convert(tmp_path / "weights.safetensors", target)
    assert_same(target, expected_tensors(small, tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither a safetensors file nor a PyTorch state dict"),
        (b"PK\x03\x04 no archive", "neither a safetensors file nor a PyTorch state dict"),
        (b"\x80\x02}q\x00.", "has no tensors|neither"),
        (pickle.dumps([1, 2]), "neither|not a state dict"),
        ((40).to_bytes(8, "little") + b"{" + b" " * 39, "neither a safetensors file|not a safetensors file"),
    ],
)
def test_files_of_another_kind(content: bytes, message: str, tmp_path: Path, target: Path) -> None:
    source = tmp_path / "odd.pth"
    source.write_bytes(content)
    with pytest.raises(PretrainedError, match=message):
        convert(source, target)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([torch.zeros(1)], "holds a list, not a state dict"),
        (torch.zeros(1), "holds a Tensor, not a state dict"),
        ({"epoch": 3}, "no tensors where weights are expected .it holds epoch."),
    ],
)
def test_pytorch_files_without_a_state_dict(saved: Any, message: str, tmp_path: Path, target: Path) -> None:
    torch.save(saved, tmp_path / "odd.pth")
    with pytest.raises(PretrainedError, match=message):
        convert(tmp_path / "odd.pth", target)


def test_no_file(tmp_path: Path, target: Path) -> None:
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "none.pth", target)


def test_old_torch_reads_no_pickles(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
    with pytest.raises(PretrainedError, match=r"CVE-2025-32434\): update it to 2\.6"):
        convert(tmp_path / "a.pth", target)


# Normalization


@pytest.mark.parametrize("name", ["resnet50_caffe-788b5fa3.pth", "bgr_resnet.safetensors", "detectron2 R-50"])
def test_names_that_tell_of_bgr_are_refused(name: str, small: dict[str, Tensor], target: Path) -> None:
    with pytest.raises(PretrainedError, match="seems to be for BGR pixels"):
        convert_tensors(small, target, sha256=DIGEST, source_name=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": (103.5, 116.3, 123.7)}, "mean must be of pixels in 0..1"),
        ({"std": (57.4, 57.1, 58.4)}, "std must be of pixels in 0..1"),
        ({"mean": (0.406, 0.456, 0.485)}, "mean is ImageNet's in the order blue, green, red"),
        ({"std": (0.225, 0.224, 0.229)}, "std is ImageNet's in the order blue, green, red"),
        ({"mean": (0.5,)}, "mean needs 3 numbers"),
        ({"std": (0.0, 0.1, 0.1)}, "std.0"),
        ({"class_names": ["one"]}, "class_names has 1 names for 5 classes"),
    ],
)
def test_wrong_normalization_and_classes(
    given: dict[str, Any], message: str, small: dict[str, Tensor], target: Path
) -> None:
    with pytest.raises(PretrainedError, match=message):
        convert_tensors(small, target, sha256=DIGEST, source_name="weights", **given)


def test_given_normalization_is_recorded(small: dict[str, Tensor], target: Path) -> None:
    _, record = converted(small, target, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    assert (record.mean, record.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_normalization_of_grey_weights_is_not_guessed(small: dict[str, Tensor], target: Path) -> None:
    grey = small | {"features.0.0.weight": small["features.0.0.weight"][:, :1]}
    with pytest.raises(PretrainedError, match="mean: the file does not say how its 1-channel images were normalized"):
        convert_tensors(grey, target, sha256=DIGEST, source_name="weights")
    _, record = converted(grey, target, mean=(0.3,), std=(0.3,))
    assert (record.channels, record.mean) == (1, (0.3,))


# Paretofit's own files


def test_weights_file_round_trip(small: dict[str, Tensor], tmp_path: Path, target: Path) -> None:
    first = convert_tensors(small, tmp_path / "first", sha256=DIGEST, source_name="somewhere", licence="MIT")
    assert convert(tmp_path / "first", target) == first
    assert_same(target, checkpoint.read(tmp_path / "first")[0])
    named = convert(tmp_path / "first", target, class_names=list("abcde"), licence="CC0-1.0")
    assert (named.class_names, named.licence, named.source) == (tuple("abcde"), "CC0-1.0", "somewhere")


POINTS: dict[str, dict[str, Any]] = {
    "fixed": {"family": "fd_mobilenet", "width": 0.3, "nominal": 32, "channels": 1},
    "slimmable full": {"family": "mobilenet_v2", "slimmable": True, "base_width": 0.35, "nominal": 64},
    "slimmable started": {
        "family": "mobilenet_v2",
        "slimmable": True,
        "base_width": 0.35,
        "keep_last_channels": True,
        "nominal": 64,
    },
    "slimmable slice": {"family": "mobilenet_v1", "slimmable": True, "base_width": 0.5, "width": 0.6, "nominal": 32},
    "small resnet": {"family": "resnet18", "base_width": 0.25, "nominal": 32},
    "shufflenet": {"family": "shufflenet_v1", "width": 0.25, "groups": 4, "nominal": 32},
    "wide resnet": {"family": "wrn_10_1", "nominal": 32},
}


@pytest.mark.parametrize("name", POINTS)
def test_checkpoint_of_a_point(name: str, tmp_path: Path, target: Path) -> None:
    network = build(architecture(classes=3, **POINTS[name]))
    record = _point(network)
    checkpoint.save(tmp_path / "point", network, record)
    found = convert(tmp_path / "point", target)
    channels = network.architecture.channels
    assert found.architecture() == network.architecture
    assert (found.class_names, found.mean, found.std) == (("a", "b", "c"), (0.3,) * channels, (0.2,) * channels)
    assert (found.layout, found.licence) == ("paretofit", "CC-BY-4.0")
    x = torch.randn(2, channels, 32, 32)
    with torch.no_grad():
        assert torch.equal(load(target, found)(x), network.eval()(x))


def _point(network: Network) -> dict[str, Any]:
    channels = network.architecture.channels
    return {
        "architecture": network.architecture.to_json(),
        "classes": ["a", "b", "c"],
        "preprocessing": {"mean": [0.3] * channels, "std": [0.2] * channels},
        "provenance": {"start": {"licence": "CC-BY-4.0"}},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": {"mean": ["a", "b", "c"], "std": [1, 1, 1]}},
        {"preprocessing": {"mean": 3, "std": {}}},
        {"preprocessing": []},
        {"provenance": 1, "preprocessing": None},
        {"classes": 7},
        {"classes": ["a"]},
    ],
)
def test_points_that_do_not_say_what_they_need(changes: dict[str, Any], tmp_path: Path, target: Path) -> None:
    network = build(architecture("fd_mobilenet", base_width=0.125, nominal=32, classes=3))
    checkpoint.save(tmp_path / "point", network, _point(network) | changes)
    with pytest.raises(PretrainedError, match=r"mean|std|class"):
        convert(tmp_path / "point", target)


def test_a_point_that_was_trained_from_scratch_has_the_licence_of_its_images(tmp_path: Path, target: Path) -> None:
    network = build(architecture("fd_mobilenet", base_width=0.125, nominal=32, classes=3))
    checkpoint.save(tmp_path / "point", network, _point(network) | {"provenance": {"search": "s"}})
    assert convert(tmp_path / "point", target).licence == "that of its training images"


def test_points_without_a_single_width_are_refused(tmp_path: Path, target: Path) -> None:
    network = build(architecture("wrn_10_1", slimmable=True, width=(1.0, 0.5, 0.25), nominal=32, classes=3))
    checkpoint.save(tmp_path / "point", network, _point(network))
    with pytest.raises(PretrainedError, match="this wrn_10_1 is not one of a single width"):
        convert(tmp_path / "point", target)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"kind": "weights", "family": "resnet18"}, "is not one that this Paretofit reads: width: Field required"),
        ({"architecture": {"version": 1}}, "does not describe a network"),
        ({"something": "else"}, "does not describe a network"),
    ],
)
def test_damaged_records(record: dict[str, Any], message: str, tmp_path: Path, target: Path) -> None:
    checkpoint.write(tmp_path / "odd", {"blocks.0.conv.weight": torch.zeros(1)}, record)
    with pytest.raises(PretrainedError, match=message):
        convert(tmp_path / "odd", target)


def test_tensors_that_are_not_the_records(small: dict[str, Tensor], tmp_path: Path, target: Path) -> None:
    record = convert_tensors(small, tmp_path / "first", sha256=DIGEST, source_name="somewhere")
    tensors, _ = checkpoint.read(tmp_path / "first")
    del tensors["blocks.3.expand.norm.bias"]
    checkpoint.write(tmp_path / "second", tensors, record.model_dump(mode="json"))
    with pytest.raises(PretrainedError, match=r"not those of the record's network: blocks\.3\.expand\.norm\.bias"):
        convert(tmp_path / "second", target)
