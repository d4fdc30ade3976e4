"""A training step of a network with a learned shape, against a step of the frozen network of the same sizes.

Both run on the CPU in turns of `alpha_interval` steps; the learned ones include the pass that updates the alphas.
Float32, batches of gray images of 32 pixels. The alphas hardly change, so that the sizes stay those of the frozen
network.

- `step_over_frozen_*`: seconds of a learned step over those of a frozen one. Goal: 1.15.
- `host_waits_per_step`: operations of a step, without the pass of the alphas, that would synchronize the host with a
  device, counted by torch's profiler. Goal: 0. (On CUDA, tests make torch raise on any synchronization.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import torch
from torch import nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from benchmarks.harness import Claim, Report, interleaved, medians, run
from paretofit.core.cpus import available_cpus
from paretofit.models.layers.shape_adaptor import Adaptive
from paretofit.search.allocator import keep_freed_memory
from paretofit.search.contracts.dataset import DatasetProfile
from paretofit.search.contracts.spec import ResolvedSpec, SearchSpec
from paretofit.search.data.loader import Batch
from paretofit.search.methods.shape_adaptor.learner import Learner
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.training import standalone
from paretofit.search.training.distributed import Silent
from paretofit.search.training.loop import sgd

BATCH: Final = 64
SIDE: Final = 32
INTERVAL: Final = 20
REPEATS: Final = 5
CASES: Final = {"vgg16": 0.25, "resnet50": 0.25, "mobilenet_v2": 0.5}
"""Width multiplier by family."""
SYNC_OPS: Final = {f"aten::{name}" for name in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal")}
DATASET: Final = DatasetProfile(
    classes=tuple(map(str, range(10))),
    channels=1,
    image_size=(SIDE, SIDE),
    images={"train": 10_000, "selection": 100, "report": 100},
    mean=(0.5,),
    std=(0.25,),
    fingerprint="",
)


def spec(family: str) -> ResolvedSpec:
    method = {
        "kind": "shape_adaptor",
        "families": [family],
        "base_width": CASES[family],
        "targets": [0],
        "alpha_interval": INTERVAL,
        "alpha_learning_rate": 1e-9,
    }
    return SearchSpec.model_validate({"name": "step", "dataset_id": "local", "method": method}).resolve(DATASET)


def stepper(network: nn.Module, passes: Callable[[int], object]) -> Callable[[int], None]:
    """A complete optimizer step of the weights."""
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    network.train()
    optimizer = sgd(network, learning_rate=1e-6, momentum=0.9, weight_decay=5e-4, decay="dense")

    def step(index: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        passes(index)
        optimizer.step()

    return step


def measure(family: str) -> tuple[float, dict[str, Any]]:
    """The duration of a learned step over that of a frozen one, and details."""
    torch.manual_seed(0)
    resolved = spec(family)
    params = resolved.params(ShapeAdaptorParams)
    [config] = params.configs(DATASET)
    space = params.space(DATASET, config)
    network = Adaptive(space.rule, space.alpha)
    learner = Learner(network, resolved, config, 1000, Silent())
    batch = Batch(torch.randn(BATCH, 1, SIDE, SIDE), torch.randint(10, (BATCH,)))
    learned = stepper(learner, lambda index: learner.passes(index, batch, lambda loss: loss))
    static = network.frozen()
    frozen = stepper(static, lambda index: standalone.step(static, params, (SIDE, SIDE), index, batch))

    def steps(step: Callable[[int], None]) -> Callable[[], None]:
        def run_interval() -> None:
            for index in range(INTERVAL):
                step(index)

        return run_interval

    seconds = medians(interleaved({"learned": steps(learned), "frozen": steps(frozen)}, repeats=REPEATS))
    waits = {"step": count_syncs(partial(learned, 0)), "alphas": count_syncs(partial(learned, INTERVAL - 1))}
    details = {f"{name}_ms": round(1000 * taken / INTERVAL, 2) for name, taken in seconds.items()}
    return seconds["learned"] / seconds["frozen"], {**details, "sizes": network.sizes, "host_waits": waits}


def count_syncs(step: Callable[[], object]) -> int:
    """Number of operations of a step at which the host would wait for a device."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        step()
    return sum(event.name in SYNC_OPS for event in profiled.events() or ())


def main() -> Report:
    torch.set_num_threads(available_cpus())
    keep_freed_memory()
    found = {family: measure(family) for family in CASES}
    waits = max(details["host_waits"]["step"] for _, details in found.values())
    claims = (
        *(Claim(f"step_over_frozen_{family}", ratio, 1.15, "lower") for family, (ratio, _) in found.items()),
        Claim("host_waits_per_step", float(waits), 0.0, "lower"),
    )
    return Report("shape_step", claims, {family: details for family, (_, details) in found.items()})


if __name__ == "__main__":
    run(main)
