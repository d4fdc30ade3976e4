"""Networks that start from trained weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from paretofit.models import checkpoint
from paretofit.models.layers.slimmable import Slimmable
from paretofit.models.pretrained.record import WeightsRecord
from paretofit.search.contracts.failures import code_of
from paretofit.search.contracts.plan import FLOOR
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.methods.fd_mobilenet.run import run
from paretofit.search.methods.spatial_sampling.params import SpatialSamplingParams
from paretofit.search.training import standalone, starting
from paretofit.search.training.guard import BelowStartError
from paretofit.search.training.params import TrainingParams
from tests.search.conftest import CLASSES
from tests.search.recorder import Recorder
from tests.search.starts import first_trial, run_search, start_record, started, weights_record, write_weights

METHOD: dict[str, Any] = {
    "kind": "fd_mobilenet",
    "families": ["fd_mobilenet"],
    "widths": [0.25],
    "resolutions": [16],
    "trials": 1,
    "pruning": {"fractions": []},
    "epochs": 1,
    "batch_size": 16,
    "calibration_images": 96,
}
FILE = "network.safetensors"


@pytest.fixture(scope="session")
def point(stripes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a point: FD-MobileNet x .25, trained on the stripes."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    recorder = Recorder(folder)
    body = {"name": "trained", "dataset_id": "local", "method": METHOD | {"epochs": 12, "learning_rate": 0.1}}
    spec = SearchSpec.model_validate(body).resolve(Dataset.open(stripes).profile)
    run(first_trial(spec, stripes, folder, None), recorder)
    assert recorder.points[0].metrics["selection_top1"] > 0.9
    return recorder.artifacts[FILE]


def normalized(point: Path) -> dict[str, Any]:
    """The normalization of the images that the point was trained on."""
    preprocessing = checkpoint.read_record(point)["preprocessing"]
    return {name: tuple(preprocessing[name]) for name in ("mean", "std")}


@pytest.fixture(scope="session")
def headless(point: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of `point` as a file without a classifier."""
    tensors, _ = checkpoint.read(point)
    record = weights_record(classes=None, class_names=None, **normalized(point))
    return write_weights(tmp_path_factory.mktemp("weights") / "headless.safetensors", record, tensors)


def trained(
    dataset: Path, folder: Path, file: Path | None, **method: Any
) -> tuple[dict[str, Any], Recorder, ResolvedSpec]:
    """Run a training from these weights, or from scratch."""
    if file is None:
        body = {"name": "scratch", "dataset_id": "local", "method": METHOD | method}
        spec = SearchSpec.model_validate(body).resolve(Dataset.open(dataset).profile)
    else:
        spec = started(dataset, METHOD | method, file)
    recorder = Recorder(folder)
    return run(first_trial(spec, dataset, folder, file), recorder), recorder, spec


def stopping_recorder(folder: Path, stop: Stop, steps: int) -> Recorder:
    """A recorder that requests a stop after a number of steps."""
    recorder = Recorder(folder)
    recorder.stop = lambda checks: stop if ("loss", steps) in recorder.metrics else Stop.NO
    return recorder


def tensors(recorder: Recorder) -> dict[str, Tensor]:
    return checkpoint.read(recorder.artifacts[FILE])[0]


def initialized(spec: ResolvedSpec, dataset: Path, folder: Path, file: Path, **options: Any) -> tuple[Slimmable, float]:
    """A network before its first step, and its floor accuracy."""
    trial = first_trial(spec, dataset, folder, file)
    config = trial.params.get("config", {"width": 1.0})
    network = standalone.initial(trial, spec.method.network(spec.dataset, config))
    initialize = starting.initializer(trial, Recorder(folder), network, (16, 16), **options)
    assert initialize is not None
    return network, initialize()[FLOOR]


def test_training_from_scratch_has_no_initializer(stripes: Path, tmp_path: Path) -> None:
    outputs, recorder, spec = trained(stripes, tmp_path, None)
    assert FLOOR not in outputs
    assert "start" not in recorder.points[0].provenance
    trial = first_trial(spec, stripes, tmp_path / "again", None)
    network = standalone.initial(trial, spec.method.network(spec.dataset, trial.params["config"]))
    assert starting.initializer(trial, recorder, network, (16, 16)) is None


def test_training_starts_from_weights_and_records_them(stripes: Path, tmp_path: Path, headless: Path) -> None:
    outputs, recorder, spec = trained(stripes, tmp_path, headless)
    # The classifier is fitted on trained features.
    assert outputs[FLOOR] > 0.9
    assert recorder.metrics[FLOOR, 0] == outputs[FLOOR]
    [reported] = recorder.points
    assert reported.metrics["selection_top1"] >= outputs[FLOOR] - 0.1
    record = start_record(headless)
    assert reported.provenance["start"] == record.provenance()
    assert (reported.preprocessing.mean, reported.preprocessing.std) == (record.mean, record.std)
    path = recorder.artifacts[FILE]
    assert Point.model_validate(checkpoint.read_record(path)) == reported
    for split, metric in (("report", "top1"), ("selection", "selection_top1")):
        assert reevaluate(path, Dataset.open(stripes), split).top1 == reported.metrics[metric]
    assert reevaluate(path, Dataset.open(stripes)).equal
    folder = tmp_path / "scratch"
    folder.mkdir()
    # The same recipe from scratch.
    recipe = {name: getattr(spec.method, name) for name in ("learning_rate", "backbone_rate", "ema_decay")}
    _, scratch, _ = trained(stripes, folder, None, **recipe)
    start_tensors, _ = checkpoint.read(headless)
    name = "blocks.3.pointwise.conv.weight"
    near, far = ((tensors(each)[name] - start_tensors[name]).norm() for each in (recorder, scratch))
    assert near < 0.2 * far


def test_normalization_comes_from_the_weights(stripes: Path, tmp_path: Path, point: Path) -> None:
    record = weights_record(classes=None, class_names=None, mean=(0.1,), std=(0.9,))
    file = write_weights(tmp_path / "w.safetensors", record, checkpoint.read(point)[0])
    spec = started(stripes, METHOD, file)
    assert (spec.dataset.mean, spec.dataset.std) == ((0.1,), (0.9,))
    assert Dataset.open(stripes).profile.mean != (0.1,)


def test_point_with_equal_classes_keeps_its_classifier(stripes: Path, tmp_path: Path, point: Path) -> None:
    network, floor = initialized(started(stripes, METHOD, point), stripes, tmp_path, point)
    start_tensors, record = checkpoint.read(point)
    assert floor == record["metrics"]["selection_top1"]
    for name, parameter in network.network.named_parameters():
        assert torch.equal(parameter, start_tensors[name]), name


def test_classifier_of_other_classes_is_refitted(stripes: Path, tmp_path: Path, point: Path) -> None:
    record = weights_record(class_names=tuple(reversed(CLASSES)), **normalized(point))
    file = write_weights(tmp_path / "w.safetensors", record, checkpoint.read(point)[0])
    network, floor = initialized(started(stripes, METHOD, file), stripes, tmp_path, file)
    assert floor > 0.9
    start_tensors, _ = checkpoint.read(point)
    differing = {
        n for n, parameter in network.network.named_parameters() if not torch.equal(parameter, start_tensors[n])
    }
    assert differing == {"blocks.12.linear.weight", "blocks.12.linear.bias"}


def test_resumed_training_does_not_reload_the_weights(stripes: Path, tmp_path: Path, headless: Path) -> None:
    (tmp_path / "whole").mkdir()
    outputs, expected, _ = trained(stripes, tmp_path / "whole", headless)
    file = tmp_path / "copy.safetensors"
    file.write_bytes(headless.read_bytes())
    spec = started(stripes, METHOD, headless)
    first = stopping_recorder(tmp_path / "a", Stop.DRAIN, 3)
    run(first_trial(spec, stripes, tmp_path / "a", file), first)
    [(_, saved)] = first.checkpoints
    file.unlink()
    second = Recorder(tmp_path / "b")
    assert run(first_trial(spec, stripes, tmp_path / "b", file, checkpoint=saved), second) == outputs
    resumed = tensors(second)
    for name, value in tensors(expected).items():
        assert torch.equal(resumed[name], value), name


@pytest.mark.parametrize("stop", [Stop.CANCEL, Stop.DRAIN])
def test_trainings_stopped_before_the_first_step_report_nothing(
    stripes: Path, tmp_path: Path, headless: Path, stop: Stop
) -> None:
    """A later run starts from the beginning, so partially loaded weights are never used."""
    spec = started(stripes, METHOD, headless)
    recorder = Recorder(tmp_path, stop=lambda checks: stop if checks >= 1 else Stop.NO)
    outputs = run(first_trial(spec, stripes, tmp_path, headless), recorder)
    assert outputs["steps"] == 0
    assert not recorder.checkpoints
    assert not recorder.points


def test_narrower_network_keeps_the_most_important_channels(stripes: Path, tmp_path: Path, headless: Path) -> None:
    spec = started(stripes, METHOD | {"widths": [0.125]}, headless)
    network, floor = initialized(spec, stripes, tmp_path, headless)
    start_tensors, _ = checkpoint.read(headless)
    leading = 0
    for i in range(1, 12):
        name = f"blocks.{i}.depthwise.conv.weight"
        full, cut = start_tensors[name], dict(network.network.named_parameters())[name]
        rows = [int((full - row).abs().flatten(1).sum(1).argmin()) for row in cut]
        assert all(torch.equal(full[row], kernel) for row, kernel in zip(rows, cut, strict=True))
        assert len(set(rows)) == len(cut)
        leading += rows == list(range(len(cut)))
    assert leading < 11
    assert floor > 1 / len(CLASSES)


def test_sorting_the_channels_keeps_the_outputs(stripes: Path, tmp_path: Path, headless: Path) -> None:
    spec = started(stripes, METHOD, headless)
    plain, floor = initialized(spec, stripes, tmp_path / "a", headless)
    ordered, same = initialized(spec, stripes, tmp_path / "b", headless, sort=True)
    assert floor == same
    name = "blocks.2.depthwise.conv.weight"
    pairs = [dict(each.network.named_parameters())[name] for each in (plain, ordered)]
    assert not torch.equal(*pairs)
    images = torch.randn(8, 1, 16, 16)
    torch.testing.assert_close(plain.train()(images), ordered.train()(images), rtol=1e-3, atol=1e-3)


def test_probe_trains_classifier_and_norm_parameters(stripes: Path, tmp_path: Path, headless: Path) -> None:
    outputs, recorder, spec = trained(stripes, tmp_path, headless, effort="probe", epochs=3)
    assert spec.params(TrainingParams).fixes_statistics
    start_tensors, _ = checkpoint.read(headless)
    trained_tensors = tensors(recorder)
    changed = {name for name, value in start_tensors.items() if not torch.equal(trained_tensors[name], value)}
    norms = {name for name in start_tensors if ".norm." in name and name.endswith(("weight", "bias"))}
    assert changed == norms
    assert outputs[FLOOR] > 0.9
    path = recorder.artifacts[FILE]
    assert reevaluate(path, Dataset.open(stripes)).equal


def test_few_images_per_class_default_to_probe(stripes: Path, headless: Path) -> None:
    profile = Dataset.open(stripes).profile
    few = profile.model_copy(update={"images": {**profile.images, "train": 59}})
    body = {"name": "x", "dataset_id": "d", "method": {"kind": "fd_mobilenet", "start": {"file": "x"}}}
    assert SearchSpec.model_validate(body).resolve(few, start_record(headless)).params(TrainingParams).effort == "probe"
    body["method"] = {"kind": "fd_mobilenet", "start": {"file": "x"}, "effort": "tune"}
    assert SearchSpec.model_validate(body).resolve(few, start_record(headless)).params(TrainingParams).effort == "tune"


def test_small_batches_use_the_statistics_of_the_weights(stripes: Path, tmp_path: Path, headless: Path) -> None:
    _, recorder, spec = trained(stripes, tmp_path, headless, batch_size=8)
    assert spec.params(TrainingParams).effort == "tune"
    start_tensors, _ = checkpoint.read(headless)
    trained_tensors = tensors(recorder)
    running = {name for name in start_tensors if "running" in name}
    assert running
    assert all(torch.equal(trained_tensors[name], start_tensors[name]) for name in running)
    assert not torch.equal(
        trained_tensors["blocks.1.pointwise.conv.weight"], start_tensors["blocks.1.pointwise.conv.weight"]
    )


def test_fixed_statistics_are_resumed(stripes: Path, tmp_path: Path, headless: Path) -> None:
    (tmp_path / "whole").mkdir()
    _, expected, spec = trained(stripes, tmp_path / "whole", headless, batch_size=8)
    first = stopping_recorder(tmp_path / "a", Stop.DRAIN, 5)
    run(first_trial(spec, stripes, tmp_path / "a", headless), first)
    [(_, saved)] = first.checkpoints
    second = Recorder(tmp_path / "b")
    run(first_trial(spec, stripes, tmp_path / "b", None, checkpoint=saved), second)
    trained_tensors = tensors(second)
    assert all(torch.equal(trained_tensors[name], value) for name, value in tensors(expected).items())


def color_weights(point: Path) -> tuple[WeightsRecord, dict[str, Tensor]]:
    """Color weights whose first convolution has a third of the gray kernel in each channel."""
    start_tensors, _ = checkpoint.read(point)
    statistics = {name: value * 3 for name, value in normalized(point).items()}
    record = weights_record(classes=None, class_names=None, channels=3, **statistics)
    first = "blocks.0.conv.weight"
    return record, start_tensors | {first: start_tensors[first].expand(-1, 3, -1, -1) / 3}


def test_gray_images_start_from_color_weights(stripes: Path, tmp_path: Path, point: Path, headless: Path) -> None:
    record, color_tensors = color_weights(point)
    file = write_weights(tmp_path / "colors.safetensors", record, color_tensors)
    spec = started(stripes, METHOD, file)
    for name, value in normalized(point).items():
        assert getattr(spec.dataset, name) == pytest.approx(value)
    network, floor = initialized(spec, stripes, tmp_path / "a", file)
    gray, same = initialized(started(stripes, METHOD, headless), stripes, tmp_path / "b", headless)
    assert floor == same
    from_color, from_gray = (dict(each.network.named_parameters())["blocks.0.conv.weight"] for each in (network, gray))
    torch.testing.assert_close(from_color, from_gray)
    outputs, recorder, _ = trained(stripes, tmp_path, file)
    assert outputs[FLOOR] == floor
    assert len(recorder.points[0].preprocessing.mean) == 1
    assert reevaluate(recorder.artifacts[FILE], Dataset.open(stripes)).equal


def test_training_that_destroys_the_weights_fails(stripes: Path, tmp_path: Path, headless: Path) -> None:
    ruin = {"learning_rate": 10.0, "backbone_rate": 1.0, "ema_decay": 0.0, "clip_norm": 0.0, "warmup_epochs": 0}
    with pytest.raises(BelowStartError, match=r"below the .* of its trained weights: train for more epochs") as failed:
        trained(stripes, tmp_path, headless, **ruin)
    assert code_of(failed.value) == "below_start"


def test_training_within_two_standard_errors_of_the_floor_passes() -> None:
    # Two standard errors of 0.8 with 100 images are 0.08.
    starting.require_floor({FLOOR: 0.8}, 0.721, 100)
    with pytest.raises(BelowStartError):
        starting.require_floor({FLOOR: 0.8}, 0.719, 100)
    starting.require_floor({}, 0.0, 100)
    starting.require_floor({FLOOR: 1.0}, 1.0, 30)


def test_floor_at_chance_fails_no_training(stripes: Path, headless: Path, tmp_path: Path) -> None:
    spec = started(stripes, METHOD, headless)
    trial = first_trial(spec, stripes, tmp_path, headless)
    counts = Dataset.open(stripes).report["class_counts"]["selection"]
    share = max(counts.values()) / sum(counts.values())
    starting.check_floor(trial, {FLOOR: share}, 0.0)
    with pytest.raises(BelowStartError):
        starting.check_floor(trial, {FLOOR: 1.0}, 0.0)


def test_single_wrong_answer_does_not_fail_a_training_whose_floor_is_perfect() -> None:
    starting.require_floor({FLOOR: 1.0}, 2 / 3, 3)
    starting.require_floor({FLOOR: 1.0}, 29 / 30, 30)
    with pytest.raises(BelowStartError):
        starting.require_floor({FLOOR: 1.0}, 0.8, 30)


def test_training_ended_by_a_limit_is_not_checked(stripes: Path, tmp_path: Path, headless: Path) -> None:
    ruin = {"learning_rate": 10.0, "backbone_rate": 1.0, "ema_decay": 0.0, "clip_norm": 0.0, "warmup_epochs": 0}
    spec = started(stripes, METHOD | ruin, headless)
    recorder = stopping_recorder(tmp_path, Stop.LIMIT, 5)
    outputs = run(first_trial(spec, stripes, tmp_path, headless), recorder)
    assert len(recorder.points) == 1
    assert recorder.points[0].metrics["selection_top1"] < outputs[FLOOR]


SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 16, "calibration_images": 64}
SHARED = SMALL | {"widths": {"min": 0.5, "step": 0.5}, "resolutions": [16, 12], "polish": 2, "polish_networks": 2}
SHAPES = SMALL | {"kind": "shape_adaptor", "trials": 1, "alpha_interval": 2, "targets": [0], "human": False}
RESNET: dict[str, Any] = {"family": "resnet18", "width": 0.125}
METHODS_FROM_WEIGHTS = {
    "mutualnet": ({}, SHARED | {"kind": "mutualnet", "baselines": [{"width": 0.5, "resolution": 16}]}),
    "us_net": ({}, SHARED | {"kind": "us_net"}),
    "mutualnet with stage widths": (
        {},
        SHARED | {"kind": "mutualnet", "granularity": "stage", "sweep": {"mode": "adaptive"}},
    ),
    "boost": ({}, SMALL | {"kind": "mutualnet", "goal": "boost", "resolutions": [16]}),
    "fd_mobilenet": ({}, SMALL | {"kind": "fd_mobilenet", "trials": 2, "resolutions": [16, 12]}),
    "shape_adaptor": (RESNET, SHAPES | {"last_sides": [4], "adaptors": [2]}),
    "autotl": (RESNET, SHAPES | {"modes": ["autotl"]}),
    "spatial_sampling": (RESNET, SMALL | {"kind": "spatial_sampling", "trials": 1, "fill": "zero", "shares": [0.2]}),
    "spatial_sampling with small batches": (
        RESNET,
        SMALL | {"kind": "spatial_sampling", "trials": 1, "fill": "zero", "batch_size": 8},
    ),
}


@pytest.mark.parametrize("name", METHODS_FROM_WEIGHTS)
@pytest.mark.integration
def test_every_method_starts_from_trained_weights(stripes: Path, tmp_path: Path, headless: Path, name: str) -> None:
    network, method = METHODS_FROM_WEIGHTS[name]
    file = headless
    if network:
        file = write_weights(tmp_path / "w.safetensors", weights_record(classes=None, class_names=None, **network))
    spec = started(stripes, method, file)
    search = run_search(spec, stripes, tmp_path / "search")
    points = search.points()
    assert points
    assert all(each.provenance["start"]["sha256"] == start_record(file).sha256 for each in points)
    assert {each.preprocessing.mean for each in points} == {start_record(file).mean}
    for path in (tmp_path / "search" / "points").iterdir():
        assert reevaluate(path, Dataset.open(stripes)).equal
    lines = (tmp_path / "search" / "metrics.jsonl").read_text()
    assert f'"{FLOOR}"' in lines


@pytest.mark.parametrize("batch_size", [8, 16])
def test_only_unmodified_networks_keep_the_statistics_of_the_weights(
    stripes: Path, tmp_path: Path, batch_size: int
) -> None:
    """Masks, shape adaptors and shared weights change the inputs of layers."""
    file = write_weights(tmp_path / "w.safetensors", weights_record(classes=None, class_names=None, **RESNET))
    method_by_kind = {
        "fd_mobilenet": METHOD | {"families": ["resnet18"], "widths": [0.125]},
        "spatial_sampling": SMALL | {"kind": "spatial_sampling"},
        "shape_adaptor": SHAPES,
        "mutualnet": SHARED | {"kind": "mutualnet"},
    }
    for kind, method in method_by_kind.items():
        spec = started(stripes, method | {"batch_size": batch_size}, file)
        assert spec.params(TrainingParams).fixes_statistics == (kind == "fd_mobilenet" and batch_size < 16)
    spec = started(stripes, method_by_kind["spatial_sampling"] | {"batch_size": batch_size}, file)
    trial = first_trial(spec, stripes, tmp_path, file)
    assert (
        standalone.initial(trial, spec.params(SpatialSamplingParams).masked(spec.dataset, "stochastic", 1.0, 0)).fixed
        is None
    )


def test_missing_weights_file_raises(stripes: Path, tmp_path: Path, headless: Path) -> None:
    trial = first_trial(started(stripes, METHOD, headless), stripes, tmp_path, headless)
    with pytest.raises(OSError, match="No such file"):
        run(replace(trial, inputs={"start": tmp_path / "none.safetensors"}), Recorder(tmp_path))
