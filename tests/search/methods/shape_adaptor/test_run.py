"""Trials of a search: shapes are learned, frozen, measured, reported and resumed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.models.build import Network, build
from paretofit.models.cost import cost
from paretofit.models.families.registry import architecture
from paretofit.models.families.shapes import Shape, TooCostlyError, shape
from paretofit.models.layers.shape_adaptor import Adaptive
from paretofit.search.contracts.params import Config
from paretofit.search.contracts.plan import NewTrial
from paretofit.search.contracts.point import Point
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop, Trial
from paretofit.search.data.loader import Batch
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.local import LocalSearch
from paretofit.search.methods.shape_adaptor import learn
from paretofit.search.methods.shape_adaptor.learner import Learner
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.methods.shape_adaptor.plan import plan
from paretofit.search.methods.shape_adaptor.run import run
from tests.models.layers.device_syncs import device_syncs
from tests.search.recorder import Recorder
from tests.search.starts import started

METHOD: dict[str, Any] = {
    "kind": "shape_adaptor",
    "families": ["vgg16"],
    "base_width": 0.125,
    "adaptors": [4],
    "last_sides": [4],
    "targets": [2.0],
    "random_shapes": 1,
    "alpha_interval": 2,
    "alpha_learning_rate": 2.0,
    "epochs": 2,
    "batch_size": 16,
    "calibration_images": 64,
    "ema_decay": 0.9,
}
"""12 steps; the shape settles after 9."""


def params_of(spec: ResolvedSpec) -> ShapeAdaptorParams:
    return spec.params(ShapeAdaptorParams)


def target_of(spec: ResolvedSpec, config: Config) -> float:
    macs = params_of(spec).space(spec.dataset, config).target_macs
    assert macs is not None
    return macs


def resolved(stripes: Path, constraints: list[dict[str, Any]] | None = None, **changes: Any) -> ResolvedSpec:
    submitted = {"name": "stripes", "dataset_id": "local", "method": METHOD | changes, "constraints": constraints or []}
    return SearchSpec.model_validate(submitted).resolve(Dataset.open(stripes).profile)


def trial(spec: ResolvedSpec, dataset: Path, folder: Path, new: NewTrial, **changes: Any) -> Trial:
    work = folder / "work"
    work.mkdir(parents=True)
    return replace(Trial(number=0, spec=spec, params=new.params, dataset=dataset, work=work, seed=3), **changes)


def learned(stripes: Path, tmp_path: Path, stop: Any = None, **changes: Any) -> tuple[dict[str, Any], Recorder]:
    """Run the first training of a search."""
    spec = resolved(stripes, **changes)
    recorder = Recorder(tmp_path) if stop is None else Recorder(tmp_path, stop=stop)
    return run(trial(spec, stripes, tmp_path, plan(spec, []).trials[0]), recorder), recorder


def test_learned_network_is_reported_as_a_point_with_weights_and_report(stripes: Path, tmp_path: Path) -> None:
    outputs, recorder = learned(stripes, tmp_path)
    [point] = recorder.points
    assert (point.key, point.role) == ("vgg16-standard-a4-d4-m2", "candidate")
    assert (outputs["point"], outputs["epochs"], outputs["planned_epochs"]) == (point.key, 2.0, 2)
    spec = resolved(stripes)
    target = target_of(spec, point.config)
    assert 0.9 * target <= point.metrics["macs"] <= target
    architecture = Architecture.from_json(point.architecture)
    assert shape(architecture) == Shape.from_line(str(point.config["shape"])) == Shape.from_line(outputs["shape"])
    costs = cost(architecture, point.input_size).as_dict()
    assert {name: point.metrics[name] for name in costs} == costs
    path = recorder.artifacts[f"{point.key}.safetensors"]
    assert Point.model_validate(checkpoint.read_record(path)) == point
    for split, metric in (("report", "top1"), ("selection", "selection_top1")):
        assert reevaluate(path, Dataset.open(stripes), split).top1 == point.metrics[metric]

    report = json.loads(recorder.artifacts[f"{point.key}.shape.json"].read_text())
    assert [tuple(each["size"]) for each in report["adaptors"]] == list(shape(architecture).sizes)
    history = report["history"]
    assert [entry["step"] for entry in history] == sorted({entry["step"] for entry in history})
    assert len(history) > 2
    assert history[-1]["sizes"] == [each["size"] for each in report["adaptors"]]
    assert history[-1]["step"] == 9
    assert recorder.metrics["side_0", 9] == history[-1]["sizes"][0][0]
    assert history[-1]["macs"] == recorder.metrics["shape_macs", 9] == point.metrics["macs"]
    picture = recorder.artifacts[f"{point.key}.shape.svg"].read_text()
    assert picture.startswith("<?xml")
    for text in (point.key, "input, 16", f"1: {'x'.join(map(str, report['adaptors'][0]['size']))}"):
        assert f"<!-- {text} -->" in picture


@pytest.mark.parametrize("at", [5, 11], ids=["learning", "settled"])
def test_drained_training_resumes_to_the_same_network(stripes: Path, tmp_path: Path, at: int) -> None:
    _, uninterrupted = learned(stripes, tmp_path / "whole")
    _, first = learned(stripes, tmp_path / "a", stop=lambda checks: Stop.DRAIN if checks == at else Stop.NO)
    assert not first.points
    [(step, saved)] = first.checkpoints
    assert step == at
    spec = resolved(stripes)
    second = Recorder(tmp_path / "b")
    run(trial(spec, stripes, tmp_path / "b", plan(spec, []).trials[0], checkpoint=saved), second)
    assert second.artifacts.keys() == uninterrupted.artifacts.keys()
    for name, path in uninterrupted.artifacts.items():
        assert second.artifacts[name].read_bytes() == path.read_bytes()


def test_limit_settles_the_shape_and_reports_it(stripes: Path, tmp_path: Path) -> None:
    outputs, recorder = learned(stripes, tmp_path, stop=lambda checks: Stop.LIMIT if checks >= 3 else Stop.NO)
    [point] = recorder.points
    spec = resolved(stripes)
    assert outputs["steps"] == 3
    assert point.metrics["macs"] <= target_of(spec, point.config)


@pytest.mark.parametrize("stop", [Stop.CANCEL, Stop.DRAIN])
def test_stopped_trials_report_no_points(stripes: Path, tmp_path: Path, stop: Stop) -> None:
    # One stop check per training step, 12 in total, then checks during measurement.
    _, recorder = learned(stripes, tmp_path, stop=lambda checks: stop if checks >= 12 else Stop.NO)
    assert not recorder.points


@pytest.mark.parametrize("mode", ["memory_bounded", "autosc"])
def test_unbounded_shapes_of_other_modes(stripes: Path, tmp_path: Path, mode: str) -> None:
    adaptors = {"adaptors": [2]} if mode == "autosc" else {}
    outputs, recorder = learned(stripes, tmp_path, modes=[mode], targets=[0], alpha_learning_rate=20.0, **adaptors)
    learned_shape = Shape.from_line(outputs["shape"])
    assert [point.key for point in recorder.points] == [outputs["point"]]
    if mode == "memory_bounded":
        assert learned_shape.sizes[-1][0] <= 4
        assert min(learned_shape.blends) >= 0
    else:
        spec = resolved(stripes)
        assert recorder.points[0].metrics["macs"] <= target_of(spec, {"family": "vgg16", "target": 1.0})


def test_constraints_hold_without_a_target(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes)
    human = target_of(spec, {"family": "vgg16", "target": 1.0})
    bounds: list[dict[str, Any]] = [
        {"metric": "macs", "value": 3 * human},
        {"metric": "peak_activation_bytes", "value": 4 * 8 * (16 * 16 + 14 * 14)},
    ]
    _, recorder = learned(stripes, tmp_path, targets=[0], constraints=bounds, last_sides=[12])
    for bound in bounds:
        assert recorder.points[0].metrics[bound["metric"]] <= bound["value"]
    impossible = [{"metric": "peak_activation_bytes", "value": 100}]
    spec = resolved(stripes, constraints=impossible)
    assert plan(spec, []).done
    new = plan(resolved(stripes), []).trials[0]
    with pytest.raises(TooCostlyError, match="the smallest sizes of the shape adaptors exceed the bounds"):
        run(trial(spec, stripes, tmp_path / "x", new), Recorder(tmp_path))


def test_negligible_branches_are_pruned_and_remeasured(stripes: Path, tmp_path: Path) -> None:
    # The initial blends are about 0.0001.
    _, recorder = learned(
        stripes, tmp_path, families=["wrn_10_1"], adaptors=[2], targets=[0], prune=True, alpha_learning_rate=1e-3
    )
    unpruned, pruned = recorder.points
    assert pruned.key == f"{unpruned.key}-pruned"
    assert pruned.metrics["params"] < unpruned.metrics["params"]
    assert pruned.metrics["macs"] < unpruned.metrics["macs"]
    reevaluated = reevaluate(recorder.artifacts[f"{pruned.key}.safetensors"], Dataset.open(stripes))
    assert (reevaluated.top1, reevaluated.equal) == (pruned.metrics["top1"], True)
    nearly = Shape(((2, 2),) * 4, (0.0009, 0.002, 0.998, 0.9991))
    assert learn.without_negligible(nearly).blends == (0.0, 0.002, 0.998, 1.0)


def test_baselines_and_initial_weights(stripes: Path, tmp_path: Path) -> None:
    spec = resolved(stripes, modes=["autotl"], targets=[0])
    [first] = plan(spec, []).trials
    recorder = Recorder(tmp_path)
    run(trial(spec, stripes, tmp_path / "0", first), recorder)
    [human] = recorder.points
    assert (human.role, human.key) == ("baseline", "human-vgg16")
    network = Adaptive(params_of(spec).space(spec.dataset, params_of(spec).configs(spec.dataset)[0]).rule, -2.19)
    source = recorder.artifacts["human-vgg16.safetensors"]
    learn.start_from(source, network, spec.dataset.classes)
    tensors, _ = checkpoint.read(source)
    weights = [tensors[name] for name in tensors if name.endswith("conv.weight")]
    assert {tuple(w.shape) for w in weights} == {tuple(p.shape) for p in network.parameters() if p.dim() == 4}
    assert any(torch.equal(weights[0], p) for p in network.parameters())
    new = NewTrial(params={"stage": "learn", "epochs": 1, "config": params_of(spec).configs(spec.dataset)[0]})
    outputs = run(trial(spec, stripes, tmp_path / "1", new, inputs={"pretrained": source}), recorder)
    assert outputs["point"] == "vgg16-autotl-a5-free"
    other = Adaptive(
        params_of(resolved(stripes)).space(spec.dataset, {"family": "resnet18", "mode": "random", "adaptors": 2}).rule,
        0,
    )
    with pytest.raises(ValueError, match="the weights are for vgg16, but the network is resnet18"):
        learn.start_from(source, other, spec.dataset.classes)

    spec = resolved(stripes)
    drawn = next(new for new in plan(spec, []).trials if new.params["config"]["mode"] == "random")
    run(trial(spec, stripes, tmp_path / "2", drawn), recorder)
    point = recorder.points[-1]
    assert (point.role, point.key) == ("baseline", "vgg16-random-a4-m2-0")
    assert shape(Architecture.from_json(point.architecture)).written() == point.config["shape"]


def save_point(path: Path, network: Network, classes: Iterable[str]) -> None:
    """The checkpoint of a point with this network."""
    record = {
        "key": f"human-{network.architecture.family}",
        "architecture": network.architecture.to_json(),
        "classes": list(classes),
        "preprocessing": {"mean": [0.5], "std": [0.25]},
    }
    checkpoint.save(path, network, record)


@pytest.mark.parametrize("family", ["wrn_10_1", "resnet18", "mobilenet_v2"])
def test_weights_are_transferred_to_matching_layers(stripes: Path, tmp_path: Path, family: str) -> None:
    spec = resolved(stripes, modes=["autotl"], families=[family], targets=[0])
    donor = build(params_of(spec).designed(spec.dataset, family))
    for i, parameter in enumerate(donor.parameters()):
        torch.nn.init.constant_(parameter, i)
    source = tmp_path / "given.safetensors"
    save_point(source, donor, spec.dataset.classes)
    network = Adaptive(params_of(spec).space(spec.dataset, params_of(spec).configs(spec.dataset)[0]).rule, -2.19)
    learn.start_from(source, network, spec.dataset.classes)
    # Each tensor has a distinct constant, so tensors of equal shape must keep the network's order.
    shortcuts = {i for i, (name, _) in enumerate(donor.named_parameters()) if "shortcut" in name}
    filled = [int(parameter.flatten()[0]) for parameter in network.parameters()]
    assert sorted(filled) == list(range(len(filled)))
    assert [i for i in filled if i not in shortcuts] == sorted(set(filled) - shortcuts)
    shapes = [parameter.shape for parameter in donor.parameters()]
    assert [parameter.shape for parameter in network.parameters()] == [shapes[i] for i in filled]


def test_classifier_for_other_classes_is_not_transferred(stripes: Path, tmp_path: Path) -> None:
    """A local search that starts from a network of five classes."""
    torch.manual_seed(0)
    donor = build(architecture("vgg16", base_width=0.125, nominal=16, channels=1, classes=5))
    source = tmp_path / "given.safetensors"
    save_point(source, donor, "abcde")
    method = METHOD | {"modes": ["autotl"], "targets": [0], "epochs": 1, "random_shapes": 0, "human": False}
    spec = started(stripes, method, source)
    config = params_of(spec).configs(spec.dataset)[0]
    network = Adaptive(params_of(spec).space(spec.dataset, config).rule, -2.19)
    initial = [parameter.clone() for parameter in network.parameters()]
    learn.start_from(source, network, spec.dataset.classes)
    weights = list(donor.parameters())
    for i, parameter in enumerate(network.parameters()):
        assert torch.equal(parameter, initial[i] if i >= len(initial) - 2 else weights[i])

    front = LocalSearch(spec, stripes, tmp_path / "search").run(lambda: Stop.NO, lambda number, done: None)
    assert [point.key for point in front.points] == ["vgg16-autotl-a5-free"]
    with pytest.raises(ValueError, match="start: its family is vgg16, but the network's is resnet18"):
        started(stripes, METHOD | {"modes": ["autotl"], "families": ["resnet18"]}, source)


def make_learner(stripes: Path, tmp_path: Path, device: str = "cpu", **changes: Any) -> Learner:
    """The learner that takes the steps of the first training."""
    spec = resolved(stripes, **changes)
    config = params_of(spec).configs(spec.dataset)[0]
    torch.manual_seed(0)
    space = params_of(spec).space(spec.dataset, config)
    network = Adaptive(space.rule, space.alpha, device)
    return Learner(network.train(), spec, config, 100, Recorder(tmp_path))


@pytest.fixture
def learner(stripes: Path, tmp_path: Path) -> Learner:
    return make_learner(stripes, tmp_path)


def batch(device: str = "cpu") -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn(8, 1, 16, 16, generator=generator).to(device), torch.arange(8, device=device) % 3)


def test_step_has_no_device_sync_and_alpha_updates_have_one(learner: Learner) -> None:
    assert device_syncs(lambda: learner.passes(0, batch(), lambda loss: loss)) == []
    before = learner.network.alpha.clone()
    assert device_syncs(lambda: learner.passes(1, batch(), lambda loss: loss)) == ["_to_copy"]
    assert not torch.equal(learner.network.alpha, before)


@pytest.mark.gpu
def test_cuda_step_has_no_device_sync(stripes: Path, tmp_path: Path) -> None:
    learner = make_learner(stripes, tmp_path, "cuda")
    data = batch("cuda")
    for index in range(2):
        learner.passes(index, data, lambda loss: loss)
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.passes(2, data, lambda loss: loss)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_penalty_pulls_alphas_toward_the_target(stripes: Path, tmp_path: Path) -> None:
    learner = make_learner(stripes, tmp_path, penalty=1000)
    network = learner.network
    images, labels = batch()
    for value, sign in ((3.0, 1), (-3.0, -1)):
        alpha = torch.full_like(network.alpha, value).requires_grad_()
        (gradient,) = torch.autograd.grad(learner.loss(images, labels, alpha), [alpha])
        assert torch.equal(gradient.sign(), torch.full_like(gradient, sign))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_overflow_changes_no_adaptor(learner: Learner, value: float) -> None:
    alpha = learner.network.alpha
    learner.move(torch.ones_like(alpha), 0, skips=True)
    before, velocity = alpha.clone(), learner.velocity.clone()
    assert velocity.all()
    overflow = torch.tensor([1.0, value, 1.0, 1.0])
    assert device_syncs(lambda: learner.move(overflow, 1, skips=True)) == []
    assert torch.equal(learner.network.alpha, before)
    assert torch.equal(learner.velocity, velocity)
    # Without a loss scale this is not an overflow, and `plan` reports that the alphas diverged.
    learner.move(overflow, 1, skips=False)
    with pytest.raises(ValueError, match="diverged"):
        learner.network.plan()


def test_accumulated_step_updates_alphas_once(learner: Learner) -> None:
    learner.passes(1, batch(), lambda loss: loss)
    once = learner.network.alpha.clone()
    learner.passes(1, batch(), lambda loss: loss)
    assert torch.equal(learner.network.alpha, once)
    learner.passes(3, batch(), lambda loss: loss)
    assert not torch.equal(learner.network.alpha, once)


def test_unknown_stages_are_rejected(stripes: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stage 'sweep'; use one of learn, compare"):
        run(trial(resolved(stripes), stripes, tmp_path, NewTrial(params={"stage": "sweep"})), Recorder(tmp_path))
