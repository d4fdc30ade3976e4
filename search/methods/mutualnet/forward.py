"""Passes through a network in training, on the images of one step."""

from __future__ import annotations

import torch
from torch import Tensor

from paretofit.models.families.scaling import Width
from paretofit.models.layers.slimmable import Slimmable
from paretofit.search.data.sampling import resize
from paretofit.search.methods.method import DatasetProfile
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.training import input_size
from paretofit.search.training import precision


class Forward:
    """Logits of sub-networks that all see the same crops, resized once for each distinct size."""

    def __init__(self, network: Slimmable, params: SlimmableParams, profile: DatasetProfile, images: Tensor) -> None:
        self._network = network
        self._params = params
        self._profile = profile
        self._images = images.contiguous(memory_format=torch.channels_last)
        self._dtype = precision.resolve(params.precision, images.device)
        self._sized: dict[tuple[int, int], Tensor] = {}

    def __call__(self, width: Width, resolution: int) -> Tensor:
        """[batch, classes], of the images' own type."""
        images = self._at(resolution)
        with torch.autocast(images.device.type, self._dtype, enabled=self._dtype is not None):
            out: Tensor = self._network(images, self._params.architecture(self._profile, width))
        return out.to(images.dtype)

    def _at(self, resolution: int) -> Tensor:
        size = input_size(self._profile, resolution)
        if size not in self._sized:
            self._sized[size] = resize(self._images, size, antialias=self._params.antialias)
        return self._sized[size]
