"""Non-finite weights never become a point: the trial fails as diverged."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paretofit.models import checkpoint
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Trial
from paretofit.search.data.store import Dataset
from paretofit.search.data.writer import DatasetWriter
from paretofit.search.methods.fd_mobilenet.plan import plan
from paretofit.search.methods.fd_mobilenet.run import run
from paretofit.search.training import standalone
from paretofit.search.training.loop import DivergedError
from paretofit.search.training.standalone import StandaloneTraining
from paretofit.search.training.subnet_evaluator import SubnetEvaluator
from tests.search.recorder import Recorder

pytestmark = pytest.mark.integration

METHOD: dict[str, Any] = {
    "kind": "fd_mobilenet",
    "families": ["mobilenet_v2"],
    "widths": [1.0],
    "resolutions": [40],
    "trials": 1,
    "epochs": 1,
    "batch_size": 8,
    "learning_rate": 10,
    "momentum": 0.99,
    "weight_decay": 0.1,
    "decay": "all",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 + 6 + 6 noise images of 40 pixels in two classes."""
    folder = tmp_path_factory.mktemp("noise") / "dataset"
    folder.mkdir()
    with DatasetWriter(folder, channels=3) as writer:
        writer.append_block(np.random.default_rng(0).integers(0, 256, (60, 3, 40, 40), dtype=np.uint8))
        rows = np.split(np.arange(60), [48, 54])
        splits = dict(zip(("train", "selection", "report"), rows, strict=True))
        writer.finish(labels=np.arange(60) % 2, splits=splits, classes=("a", "b"), image_size=(40, 40), report={})
    return folder


def diverging_trial(images: Path, folder: Path, seed: int, **method: Any) -> Trial:
    body = {"name": "noise", "dataset_id": "local", "method": METHOD | method, "seed": seed}
    spec: ResolvedSpec = SearchSpec.model_validate(body).resolve(Dataset.open(images).profile)
    work = folder / "work"
    work.mkdir()
    return Trial(number=0, spec=spec, params=plan(spec, []).trials[0].params, dataset=images, work=work, seed=seed)


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_completed_trials_have_finite_weights(images: Path, tmp_path: Path, seed: int) -> None:
    """For most seeds, this recipe keeps losses finite while variances overflow."""
    recorder = Recorder(tmp_path)
    with suppress(DivergedError):
        run(diverging_trial(images, tmp_path, seed), recorder)
        assert recorder.points
    for point in recorder.points:
        assert point.weights is not None
        assert checkpoint.first_nonfinite(checkpoint.load(recorder.artifacts[point.weights])) is None


@pytest.mark.parametrize("tensor", ["weight", "bias"])
def test_non_finite_network_is_not_published(images: Path, tmp_path: Path, tensor: str) -> None:
    trial = diverging_trial(images, tmp_path, 0, learning_rate=0.01, widths=[0.25], families=["fd_mobilenet"])
    [candidate] = trial.spec.candidates()
    network = standalone.initial(trial, trial.spec.method.network(trial.spec.dataset, candidate.config))
    last = [parameter for name, parameter in network.named_parameters() if name.endswith(tensor)][-1]
    last.data.view(-1)[0] = float("inf")
    recorder = Recorder(tmp_path)
    evaluator = SubnetEvaluator(trial, network, candidate.input_size)
    with pytest.raises(
        DivergedError, match=rf"{tensor} of {candidate.key} has infinite or NaN values; lower learning_rate"
    ):
        standalone.report(
            trial, recorder, StandaloneTraining(network, candidate, 1, "net.safetensors"), evaluator, {"epochs": 1.0}
        )
    assert not recorder.points
    assert not recorder.artifacts
