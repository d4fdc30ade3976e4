"""Validation of ScaleNet parameters, and costs of the networks."""

from __future__ import annotations

from typing import Any

import pytest

from paretofit.models.families.registry import architecture
from paretofit.models.families.scalenet import VARIANTS
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.methods.scalenet.params import BudgetMetric, ScaleNetParams

DATASET = DatasetProfile(
    classes=("a", "b", "c"),
    channels=1,
    image_size=(32, 24),
    images={"train": 500, "selection": 50, "report": 50},
    mean=(0.5,),
    std=(0.2,),
    fingerprint="x",
)

IMAGENET = DATASET.model_copy(update={"image_size": (224, 224), "classes": tuple(map(str, range(1000)))})


def test_seed_has_all_planes_at_every_scale() -> None:
    """ScaleNet (arXiv 1904.09460), section 3.2."""
    space = ScaleNetParams(family="scalenet50").space(DATASET)
    assert space.planes == (64,) * 3 + (128,) * 4 + (256,) * 6 + (512,) * 3
    assert space.seed[0] == (64, 64, 64, 64)
    assert set(space.fixed) == {None}
    assert ScaleNetParams(family="scalenet50", seed_ratio=0.5).space(DATASET).seed[-1] == (256,) * 4


def test_second_aggregation_of_a_basic_block_keeps_its_channels() -> None:
    space = ScaleNetParams(family="scalenet20", base_width=0.5).space(DATASET)
    assert space.planes == (8,) * 6 + (16,) * 6 + (32,) * 6
    assert space.fixed == (None, 8) * 3 + (None, 16) * 3 + (None, 32) * 3


@pytest.mark.parametrize("metric", ["macs", "params"])
@pytest.mark.parametrize("family", [name for name in VARIANTS if "_" not in name])
def test_budgets_are_fractions_between_least_network_and_plain_resnet(family: str, metric: BudgetMetric) -> None:
    params = ScaleNetParams(family=family, budget_metric=metric).resolved(IMAGENET, None)
    least, *budgets = params.candidates(IMAGENET)
    space = params.space(IMAGENET)
    plain = space.cost(tuple((planes, 0, 0, 0) for planes in space.planes))[metric]
    span = plain - least.cost[metric]
    assert params.targets(IMAGENET) == tuple(
        float(round(least.cost[metric] + share * span)) for share in (0.25, 0.5, 1.0)
    )
    assert [candidate.cost[metric] for candidate in budgets] == list(params.targets(IMAGENET))


def test_blocks_match_resnet_blocks() -> None:
    space = ScaleNetParams(family="scalenet50", nominal=224).space(DATASET)
    resnet = architecture("resnet50", nominal=224, classes=3, channels=1)
    assert len(space.architecture(space.seed).blocks) == len(resnet.blocks)


@pytest.mark.parametrize("metric", ["macs", "params"])
def test_candidates_are_the_budgets_and_the_least_network(metric: str) -> None:
    params = ScaleNetParams.model_validate(
        {"budget_metric": metric, "budgets": [2e5, 1e5] if metric == "params" else [2e7, 1e7]}
    ).resolved(DATASET, None)
    least, *candidates = params.candidates(DATASET)
    assert least.key == "least"
    assert (
        [candidate.cost[metric] for candidate in candidates]
        == list(params.targets(DATASET))
        == sorted(params.budgets or ())
    )
    assert all(least.cost[name] < candidate.cost[name] for candidate in candidates for name in ("macs", "params"))
    assert [candidate.input_size for candidate in candidates] == [(32, 24)] * 2


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"family": "scalenet50_light"}, "unknown family 'scalenet50_light': choose one of scalenet18, scalenet34"),
        ({"family": "resnet50"}, "unknown family 'resnet50': choose one of scalenet18"),
        ({"budgets": [1e7, 0.0]}, "each budget must be greater than 0"),
        ({"baselines": ["best"]}, "Input should be 'even', 'single', 'random' or 'global'"),
        ({"seed_ratio": 0.2}, "greater than or equal to 0.25"),
        ({"warmup_epochs": 5, "seed_epochs": 5, "epochs": 20}, "warmup_epochs: 5 must be less than seed_epochs, 5"),
        ({"warmup_epochs": 20, "epochs": 20}, "warmup_epochs: 20 must be less than epochs, 20"),
    ],
)
def test_invalid_parameters_are_rejected(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleNetParams.model_validate(params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"budgets": [1000.0]}, "budgets: 1000 macs is less than the smallest network needs; use at least"),
        ({"budgets": [1e12]}, "budgets: 1e.12 macs is more than all channels of the seed network use; use at most"),
        ({"batch_size": 501}, "batch_size: 501 exceeds the dataset's 500 training images"),
    ],
)
def test_dataset_errors_name_the_field(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleNetParams.model_validate(params).resolved(DATASET, None).candidates(DATASET)


def ceiling(family: str, *baselines: str) -> int:
    """The largest accepted budget."""
    values = {"family": family, "baselines": baselines, "budgets": [1e15]}
    with pytest.raises(ValueError, match="more than all channels of the seed network use; use at most") as refused:
        ScaleNetParams.model_validate(values).targets(IMAGENET)
    most = int(str(refused.value).partition("at most ")[2].partition(",")[0])
    assert ScaleNetParams.model_validate(values | {"budgets": [most]}).targets(IMAGENET) == (most,)
    return most


def test_largest_budget_can_be_used_completely() -> None:
    bottlenecks, basic = (ScaleNetParams(family=family).space(IMAGENET) for family in ("scalenet50", "scalenet20"))
    assert ceiling("scalenet50") == bottlenecks.cost(bottlenecks.seed)["macs"]
    # The second aggregation of a basic block keeps only as many channels as the residual has.
    assert ceiling("scalenet20") < basic.cost(basic.seed)["macs"]
    assert ceiling("scalenet20", "single") > ceiling("scalenet20")
    assert ceiling("scalenet50", "even", "single") > ceiling("scalenet50", "even")


def test_default_warmup_is_shorter_than_both_trainings() -> None:
    params = ScaleNetParams(epochs=100, seed_epochs=2).resolved(DATASET, None)
    assert params.warmup_epochs == 0.4
    assert ScaleNetParams(epochs=5, seed_epochs=200).resolved(DATASET, None).warmup_epochs == 1.0


def test_start_from_trained_weights_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"start: not available for scalenet.* use another method"):
        ScaleNetParams.model_validate({"start": {"weights": "resnet18"}})


def test_duplicate_budgets_and_baselines_are_dropped() -> None:
    params = ScaleNetParams.model_validate({"budgets": [3e7, 2e7, 3e7], "baselines": ["even", "single", "even"]})
    assert (params.budgets, params.baselines) == ((2e7, 3e7), ("even", "single"))
