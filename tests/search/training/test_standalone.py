"""Separately trained networks."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from paretofit.models.build import build
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.data.loader import Batch
from paretofit.search.data.sampling import resize
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.training.standalone import step


def test_step_equals_plain_network_training(spec: ResolvedSpec) -> None:
    torch.manual_seed(0)
    params, profile = spec.params(SlimmableParams).model_copy(update={"label_smoothing": 0.1}), spec.dataset
    architecture = params.architecture(profile, 0.5)
    network, plain = Slimmable(architecture).double().train(), build(architecture).double().train()
    plain.load_state_dict(network.network.state_dict(), strict=False)
    batch = Batch(torch.randn(12, 1, 16, 16, dtype=torch.float64), torch.arange(12) % 3)
    losses = step(network, params, (12, 12), 0, batch)
    expected = F.cross_entropy(plain(resize(batch.images, (12, 12))), batch.labels, label_smoothing=0.1)
    torch.autograd.backward(expected)
    torch.testing.assert_close(losses["loss"], expected.detach())
    for mine, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)
