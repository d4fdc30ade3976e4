"""Candidate networks of a family for given weights, and their tensor shapes. Torch-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from paretofit.models.architecture import Architecture
from paretofit.models.families import registry
from paretofit.models.pretrained.record import MAX_WIDTH, PretrainedError


@dataclass(frozen=True, slots=True)
class Form:
    """A network of a family as arguments of `paretofit.models.families.registry.architecture`; `width` is its
    `base_width`."""

    width: float
    groups: int | None = None
    slimmable: bool = False
    keep_last_channels: bool = True


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Tensor shapes of a network by name, as in its torch module's state dict, without `num_batches_tracked`.

    Supports convolutions, batch norms and linear layers, which cover all families with published weights.
    """
    side = max(architecture.nominal, 32)
    found: dict[str, tuple[int, ...]] = {}
    for layer in architecture.layers((side, side)):
        out = layer.output.channels
        match layer.op:
            case "conv":
                found[f"{layer.name}.weight"] = (out, layer.input.channels // layer.groups, layer.kernel, layer.kernel)
            case "batch_norm":
                found |= {f"{layer.name}.{leaf}": (out,) for leaf in ("weight", "bias", "running_mean", "running_var")}
            case "linear":
                found |= {f"{layer.name}.weight": (out, layer.input.channels), f"{layer.name}.bias": (out,)}
    return found


@lru_cache(maxsize=64)
def kept_shapes(architecture: Architecture) -> Mapping[str, tuple[int, ...]]:
    """`tensor_shapes`, cached for the last networks."""
    return tensor_shapes(architecture)


@lru_cache(maxsize=64)
def network(family: str, form: Form, *, channels: int = 3, nominal: int = 224, classes: int = 1000) -> Architecture:
    """The network of a form. Raises PretrainedError if the family has none."""
    try:
        return registry.architecture(
            family,
            base_width=form.width,
            groups=form.groups,
            slimmable=form.slimmable,
            keep_last_channels=form.keep_last_channels,
            channels=channels,
            nominal=nominal,
            classes=classes,
        )
    except ValueError as error:
        raise PretrainedError(f"{family} x {form.width:g}: {error}") from error


def forms(ratios: Iterable[float], groups: int | None) -> Iterator[Form]:
    """Forms to try: whole hundredths of a width first, because channels are rounded."""
    ratios = tuple(ratios)
    near = (round(round(ratio * 100) / 100 + step, 2) for step in (0, -0.01, 0.01) for ratio in ratios)
    for width in dict.fromkeys((*near, *ratios)):
        if 0 < width <= MAX_WIDTH:
            yield Form(width, groups)
            yield Form(width, groups, slimmable=True)
            yield Form(width, groups, keep_last_channels=False)
            yield Form(width, groups, slimmable=True, keep_last_channels=False)


def form_of(architecture: Architecture) -> Form:
    """The form of a point's network in its family. Raises PretrainedError if it has none."""
    family = architecture.family
    reason = (
        f"this {family} does not have a single width: its stages have their own widths, or a method changed it. "
        "Give a file of a network with one width"
    )
    try:
        choices = registry.groups(family) or (None,)
    except ValueError as error:
        raise PretrainedError(str(error)) from error
    for groups in choices:
        full = network(family, Form(1.0, groups), nominal=architecture.nominal)
        if [block.kind for block in full.blocks] != [block.kind for block in architecture.blocks]:
            continue
        outputs = {
            ours.out_channels: min(theirs.out_channels, MAX_WIDTH * ours.out_channels)
            for ours, theirs in zip(full.blocks[:-1], architecture.blocks, strict=False)
        }
        found = Counter({round(theirs / ours, 6): ours for ours, theirs in outputs.items()})
        for form in forms([ratio for ratio, _ in found.most_common(4)], groups):
            try:
                made = network(
                    family,
                    form,
                    channels=architecture.channels,
                    nominal=architecture.nominal,
                    classes=architecture.classes,
                )
            except PretrainedError:
                continue
            if made == architecture:
                return form
    raise PretrainedError(reason)
