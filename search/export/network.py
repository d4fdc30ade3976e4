"""Input of every exporter: a static network and its record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from paretofit.models import checkpoint
from paretofit.models.build import Network
from paretofit.models.finite import NonFiniteError
from paretofit.models.trace import Size

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Exportable:
    """A network on the CPU in evaluation mode; `size` (height, width) is that of its input; `record` is stored in the
    file.

    `batch`: fixed batch size of the file; None: any. (A fixed one takes a third of the export time. ncnn always takes
    one image.) Raises ArchitectureError if the input is too small for the network, NonFiniteError if its training
    diverged.
    """

    network: Network
    size: Size
    record: Mapping[str, Any]
    batch: int | None = None

    def __post_init__(self) -> None:
        self.network.architecture.layers(self.size)
        if (name := checkpoint.first_nonfinite(self.network)) is not None:
            raise NonFiniteError(
                f"{name} has infinite or NaN values, because its training diverged: export another point"
            )

    def example(self, batch: int, seed: int = 0) -> Tensor:
        """Images [batch, C, H, W] with a normal distribution, like normalized images."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, self.network.architecture.channels, *self.size, generator=generator)

    def metadata(self) -> dict[str, str]:
        """The record's fields as JSON strings: architecture, preprocessing, classes ..."""
        return {name: json.dumps(value, sort_keys=True) for name, value in self.record.items()}


def exportable(
    network: Network, size: Size, record: Mapping[str, Any] | None = None, batch: int | None = None
) -> Exportable:
    """The network to export. `record` is that of a point (`paretofit.search.contracts.point.Point`); unset: the
    architecture alone."""
    known = {"architecture": network.architecture.to_json(), "input_size": list(size)} if record is None else record
    return Exportable(network.cpu().eval(), size, known, batch)


class TorchSession:
    """Adapts a torch module to arrays: images [N, C, H, W] -> logits [N, classes]."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    @torch.inference_mode()
    def __call__(self, images: Array, /) -> Array:
        logits: Array = self._module(torch.from_numpy(images)).numpy()
        return logits
