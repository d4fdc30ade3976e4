"""Validation of Shape Adaptor parameters, and costs of the networks."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.models.architecture import Architecture
from paretofit.models.cost import cost
from paretofit.models.families.adaptors import places
from paretofit.models.families.registry import architecture
from paretofit.models.families.shapes import adaptors, initial_alpha
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.contracts.start import Start, StartRecord
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.space import key

DATASET = DatasetProfile(
    classes=("a", "b", "c"),
    channels=1,
    image_size=(32, 40),
    images={"train": 500, "selection": 50, "report": 50},
    mean=(0.5,),
    std=(0.2,),
    fingerprint="x",
)
LARGE = DATASET.model_copy(update={"image_size": (224, 224)})


@pytest.mark.parametrize(
    ("family", "mode", "small", "large"),
    [
        ("vgg16", "standard", 4, 6),
        ("resnet50", "memory_bounded", 4, 6),
        ("vgg16", "autosc", 2, 4),
        ("mobilenet_v2", "autosc", 3, 4),
        ("resnet50", "autotl", 3, 5),
        ("vgg16", "autotl", 5, 5),
    ],
)
def test_default_numbers_of_adaptors(family: str, mode: str, small: int, large: int) -> None:
    """Liu et al. (arXiv 2008.00892): int(log2(side / 2)). For compression 2, MobileNetV2 3, large inputs 4. For
    transfer as many as ResNet-50 has resizing layers: 5."""
    params = ShapeAdaptorParams().resolved(DATASET, None)
    assert params.numbers(DATASET, family, mode) == (small,)
    assert params.numbers(LARGE, family, mode) == (large,)


def test_initial_alphas_and_limits_by_mode() -> None:
    params = ShapeAdaptorParams(modes=("standard", "memory_bounded", "autosc", "autotl"), last_sides=(4, 8)).resolved(
        DATASET, None
    )
    configs = params.configs(DATASET)
    assert [(config["mode"], config.get("last_side")) for config in configs] == [
        ("standard", 4),
        ("standard", 8),
        ("memory_bounded", 4),
        ("memory_bounded", 8),
        ("autosc", None),
        ("autotl", None),
    ]
    spaces = [params.space(DATASET, config) for config in configs]
    alphas = [space.alpha for space in spaces]
    assert alphas[:4] == [initial_alpha(32, side, 4) for side in (4, 8)] * 2
    assert alphas[4:] == [2.19, -2.19]
    rules = [space.rule for space in spaces]
    assert [rule.limit for rule in rules] == [None, None, 4, 8, None, None]
    assert [rule.in_all for rule in rules] == [False] * 4 + [True, False]
    assert {rule.size for rule in rules} == {(32, 40)}


def test_compressed_network_costs_at_most_the_human_designed_one() -> None:
    params = ShapeAdaptorParams(modes=("autosc",), targets=(0.5, 1.0, 2.0)).resolved(DATASET, None)
    assert [config["target"] for config in params.configs(DATASET)] == [0.0, 0.5]
    human = params.space(DATASET, {"family": "vgg16", "target": 1.0}).target_macs
    assert max(candidate.cost["macs"] for candidate in params.candidates(DATASET)) == human


@pytest.mark.parametrize("preset", ShapeAdaptorParams.presets)
def test_presets_have_networks(preset: str) -> None:
    dataset = LARGE if preset == "imagenet" else DATASET
    params = ShapeAdaptorParams.model_validate(ShapeAdaptorParams.presets[preset])
    assert params.resolved(dataset, None).candidates(dataset)


def test_candidates_are_bounded_by_their_targets() -> None:
    params = ShapeAdaptorParams(base_width=0.25, targets=(0.0, 1.0, 2.0)).resolved(DATASET, None)
    human = cost(params.designed(DATASET, "vgg16"), (32, 40)).macs
    costs = {candidate.key: candidate.cost["macs"] for candidate in params.candidates(DATASET)}
    free = costs.pop("vgg16-standard-a4-d8-free")
    assert costs.pop("least-vgg16-standard-a4-d8") < human
    assert costs == {"vgg16-standard-a4-d8-m1": human, "vgg16-standard-a4-d8-m2": 2 * human}
    rule = params.space(DATASET, params.configs(DATASET)[0]).rule
    assert free == rule.macs(((32, 40),) * 4) > 40 * human


def test_shape_defines_a_network() -> None:
    params = ShapeAdaptorParams(base_width=0.25).resolved(DATASET, None)
    config = {**params.configs(DATASET)[0], "shape": "25x31@0.5 20x25@0.4 15x19@0.3 11x14@0.25"}
    candidate = params.candidate(DATASET, config)
    network = params.network(DATASET, config)
    assert [block.size for block in adaptors(network).values()] == [(25, 31), (20, 25), (15, 19), (11, 14)]
    assert candidate.cost["macs"] == cost(network, (32, 40)).macs
    assert candidate.key == key(config) == "vgg16-standard-a4-d8-m1"
    human = {"family": "vgg16", "mode": "human"}
    assert params.network(DATASET, human) == architecture("vgg16", base_width=0.25, nominal=32, classes=3, channels=1)
    assert params.candidate(DATASET, human).key == "human-vgg16"
    with pytest.raises(ValueError, match="learns its networks"):
        params.network(DATASET, params.configs(DATASET)[0])


@pytest.mark.parametrize(
    "family",
    ["resnet18", "resnext50_32x4d", "mobilenet_v1", "fd_mobilenet", "shufflenet_v1", "fd_shufflenet", "wrn_16_2"],
)
def test_every_supported_family_has_candidates(family: str) -> None:
    options = ShapeAdaptorParams(families=(family,), base_width=0.5, targets=(0.0,), modes=("standard", "autosc"))
    params = options.resolved(DATASET, None)
    assert params.candidates(DATASET)
    assert places(params.designed(DATASET, family), "replace") >= 4


def point(network: Architecture) -> StartRecord:
    """The record of a start from a point with this network."""
    record = {
        "key": "human-resnet18",
        "architecture": network.to_json(),
        "classes": [str(i) for i in range(network.classes)],
        "preprocessing": {"mean": [0.5] * network.channels, "std": [0.2] * network.channels},
    }
    return StartRecord.of(record, "0" * 64)


def test_start_must_match_the_network() -> None:
    options: dict[str, Any] = {"base_width": 0.25, "modes": ["autotl"], "start": {"point": "x"}, "human": False}
    options_of_network: dict[str, Any] = {"base_width": 0.25, "nominal": 32, "channels": 1}
    resolved = ShapeAdaptorParams.model_validate(options).resolved(
        DATASET, point(architecture("resnet18", classes=1000, **options_of_network))
    )
    assert (resolved.families, resolved.nominal) == (("resnet18",), 32)
    assert resolved.effort == "tune"
    for family, other, changes, message in (
        ("resnet34", {}, {"families": ["resnet18"]}, "start: its family is resnet34, but the network's is resnet18"),
        ("resnet18", {}, {"base_width": 0.5}, "start: .* choose a smaller width"),
        ("resnet18", {"nominal": 224}, {"nominal": 32}, "nominal: 32 differs .* use 224"),
        ("resnet18", {}, {"effort": "probe"}, "effort: probe is not available for shape_adaptor: use tune"),
    ):
        params = ShapeAdaptorParams.model_validate(options | changes)
        with pytest.raises(ValueError, match=message):
            params.resolved(DATASET, point(architecture(family, classes=3, **{**options_of_network, **other})))


def test_published_transfer_recipe() -> None:
    """Liu et al. (arXiv 2008.00892): the five resizing layers of a pretrained ResNet-50, alphas of -2.19, lr .001,
    batch 8, 80 epochs."""
    options = ShapeAdaptorParams.model_validate(ShapeAdaptorParams.presets["transfer"] | {"init_from": "pt_x"})
    params = options.resolved(LARGE, point(architecture("resnet50", nominal=224)))
    [config] = params.configs(LARGE)
    assert (config["family"], config["mode"], config["adaptors"], config["target"]) == ("resnet50", "autotl", 5, 0)
    assert params.space(LARGE, config).alpha == -2.19
    assert (params.learning_rate, params.batch_size, params.epochs) == (0.001, 8, 80)
    assert (params.backbone_rate, params.warmup_epochs, params.ema_decay, params.clip_norm) == (1.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("reference", "start"),
    [("pt_x", Start(point="pt_x")), ("given.safetensors", Start(file="given.safetensors")), ("./x", Start(file="./x"))],
)
def test_init_from_is_an_alias_of_start(reference: str, start: Start) -> None:
    params = ShapeAdaptorParams(init_from=reference)
    assert params.start == start
    assert ShapeAdaptorParams.model_validate(params.model_dump()) == params
    for other in ({"weights": "resnet18"}, Start(point="pt_y"), {"file": "y.safetensors"}):
        with pytest.raises(ValueError, match="init_from: differs from start, which replaces it"):
            ShapeAdaptorParams.model_validate({"init_from": reference, "start": other})


def test_init_from_path_is_relative_to_the_specification() -> None:
    params = {"init_from": "./a/b.safetensors", "start": {"file": "/specs/a/b.safetensors"}}
    assert ShapeAdaptorParams.model_validate(params).start == Start(file="/specs/a/b.safetensors")
    with pytest.raises(ValueError, match="differs from start"):
        ShapeAdaptorParams.model_validate(params | {"start": {"file": "/specs/c/b.safetensors"}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"families": ["scalenet50"]}, "families: scalenet50 has no places for shape adaptors"),
        ({"families": ["no_such"]}, "unknown family 'no_such'"),
        ({"modes": ["autotl"], "human": False}, "human: mode autotl starts from the human-designed network's weights"),
        (
            {"init_from": "pt_x", "modes": ["autotl"], "families": ["vgg16", "resnet50"]},
            "start: has one family, but families are vgg16, resnet50; search each of them separately",
        ),
        ({"modes": ["fast"]}, "Input should be 'standard', 'memory_bounded', 'autosc' or 'autotl'"),
        ({"last_sides": [1]}, "greater than or equal to 2"),
        ({"targets": [-1]}, "greater than or equal to 0"),
    ],
)
def test_invalid_parameters_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapeAdaptorParams.model_validate(options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"adaptors": [2], "targets": [0.5]},
            r"targets: 0.5 of vgg16 is \S+ macs, less than its smallest shape needs; use at least 4",
        ),
        ({"adaptors": [13]}, "adaptors: vgg16 has places for 1 to 12"),
        ({"resolutions": [64]}, "resolutions: 64 exceeds"),
        ({"batch_size": 600}, "batch_size: 600 exceeds"),
    ],
)
def test_dataset_errors_name_the_field(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapeAdaptorParams.model_validate(options).resolved(DATASET, None).candidates(DATASET)


def test_latencies_are_unknown_before_learning() -> None:
    body = {"name": "x", "dataset_id": "d", "method": {"kind": "shape_adaptor"}}
    spec = SearchSpec.model_validate(body).resolve(DATASET)
    with pytest.raises(ValueError, match="learns its networks, so none can be measured before"):
        spec.method.network(spec.dataset, spec.candidates()[0].config)
