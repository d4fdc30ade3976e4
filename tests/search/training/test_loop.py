"""The training loop has no device sync between two points of a curve."""

from __future__ import annotations

from functools import partial
from itertools import repeat
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.loader import Batch
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.train import step
from paretofit.search.training import loop
from paretofit.search.training.loop import sgd
from paretofit.search.training.state import ExponentialMovingAverage, TrainState
from paretofit.search.training.step import accumulate_gradients, autocast_dtype, grad_scaler
from tests.search.recorder import Recorder

WAITS = {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::nonzero", "aten::equal"}
STEPS = 3


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_step_has_no_device_sync(spec: ResolvedSpec, tmp_path: Path, dtype: str) -> None:
    method = spec.params(SlimmableParams).model_copy(update={"precision": dtype})
    torch.manual_seed(0)
    network = Slimmable(method.architecture(spec.dataset)).train()
    cpu = torch.device("cpu")
    weights = TrainState(
        network=network,
        optimizer=sgd(network, learning_rate=0.1, momentum=0.9, weight_decay=1e-4, decay="dense"),
        scaler=grad_scaler(autocast_dtype(method.precision, cpu), cpu),
        average=ExponentialMovingAverage(network, 0.9),
    )
    update = accumulate_gradients(
        partial(step, network, method, spec.dataset, 0), parts=2, batch_size=8, scaler=weights.scaler
    )
    batch = Batch(torch.randn(8, 1, 16, 16), torch.arange(8) % 3)
    recorder = Recorder(tmp_path, stop=lambda checks: Stop.CANCEL if checks == STEPS else Stop.NO)
    schedule = loop.Schedule(steps=loop.CURVE_POINTS * (STEPS + 1), peak=0.1, warmup=1)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiled:
        completed, _ = loop.train(schedule, repeat(batch), update, weights, recorder, lambda step: None)
    called = {event.key for event in profiled.key_averages()}
    assert completed == STEPS
    assert not called & WAITS
    assert {"aten::_fused_sgd_", "aten::_foreach_lerp_"} <= called
    assert not any(name == "loss" for name, _ in recorder.metrics)
