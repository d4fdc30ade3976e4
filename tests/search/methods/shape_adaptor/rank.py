"""One of two ranks that learn a shape from separate images; prints the final alphas and sizes."""

from __future__ import annotations

import json
import sys

import torch
from torch import distributed as dist

from paretofit.models.layers.shape_adaptor import Adaptive
from paretofit.search import registry
from paretofit.search.contracts.spec import SearchSpec
from paretofit.search.data.loader import Batch
from paretofit.search.methods.shape_adaptor.learner import Learner
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams
from paretofit.search.training.distributed import Silent
from tests.search.methods.shape_adaptor.test_params import DATASET


def main(rank: int, ranks: int, store: str) -> None:
    """Take six large steps of the alphas."""
    torch.set_num_threads(1)
    registry.setup()
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    method = {
        "kind": "shape_adaptor",
        "families": ["vgg16"],
        "base_width": 0.125,
        "targets": [0],
        "alpha_interval": 1,
        "alpha_learning_rate": 100,
    }
    spec = SearchSpec.model_validate({"name": "x", "dataset_id": "d", "method": method}).resolve(DATASET)
    [config] = spec.params(ShapeAdaptorParams).configs(DATASET)
    torch.manual_seed(0)
    space = spec.params(ShapeAdaptorParams).space(DATASET, config)
    network = Adaptive(space.rule, space.alpha)
    learner = Learner(network.train(), spec, config, 10, Silent())
    images = torch.randn(4, 1, 32, 40, generator=torch.Generator().manual_seed(rank))
    for index in range(6):
        learner.passes(index, Batch(images, torch.tensor([0, 1, 2, rank])), lambda loss: loss)
    json.dump({"alphas": network.alpha.tolist(), "sizes": network.sizes}, sys.stdout)
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
