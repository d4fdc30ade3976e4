"""Identifies the published network of a file's tensors, by their names and shapes alone. Torch-free.

Every tensor of the backbone is mapped by name and must have the shape of Paretofit's network, or the file is rejected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from paretofit.models.architecture import Architecture, ArchitectureError
from paretofit.models.families import registry
from paretofit.models.pretrained.forms import Form, form_of, forms, kept_shapes, network
from paretofit.models.pretrained.names import BACKGROUND_NOTE, LAYOUTS, Layout
from paretofit.models.pretrained.record import PretrainedError, WeightsRecord
from paretofit.models.pretrained.shuffle import shuffle_matches

PREFIXES: Final = (
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "encoder.",
    "mobilenet_v1.",
    "mobilenet_v2.",
    "module/",
)
COUNTERS: Final = ("num_batches_tracked", "n_averaged", "global_step")
"""Name endings of counters, which are not weights."""
TF_SLOTS: Final = ("/RMSProp", "/RMSProp_1", "/Momentum")
TF_AVERAGE: Final = "/ExponentialMovingAverage"
OWN: Final = "paretofit"
MAX_DIMENSION: Final = 2**31
KNOWN: Final = (
    "MobileNetV2 (torchvision, tonylins, timm, transformers), MobileNetV1 (timm, transformers, TF-slim), ResNet-18 to "
    "-152, ResNeXt-50 32x4d and VGG-16 (torchvision, timm), FD-MobileNet (qinzheng93), ShuffleNetV1 with 3 groups "
    "(megvii), and Paretofit's own files"
)
REFUSED: Final = {
    "stem.conv1.weight": (
        "detectron2's ResNets take BGR pixels and have their strides in the first 1x1 convolution, which "
        "Paretofit does not support: use torchvision's or timm's weights"
    ),
    "res2_0_branch2a_w": (
        "Caffe2's ResNets take BGR pixels and have their strides in the first 1x1 convolution, which Paretofit "
        "does not support: use torchvision's or timm's weights"
    ),
    "features.dw_conv_12.weight": (
        "this MobileNetV1 was trained with ReLU, but Paretofit's has ReLU6: use timm's or Google's weights"
    ),
    "blocks.0.conv.weight": (
        "the tensors have Paretofit's names, but the file lacks the record with its strides: give the file as "
        "Paretofit wrote it"
    ),
}
"""Unsupported files, each recognized by one tensor."""


@dataclass(frozen=True, slots=True)
class Match:
    """The layout of a file's tensors. `names` maps our names to the file's, `head` our names of the linear layer to the
    file's (empty: there is none). `classes` is the number of rows of that layer. `dropped` are unused tensors."""

    layout: str
    family: str
    form: Form
    channels: int
    nominal: int
    classes: int | None
    names: Mapping[str, str]
    head: Mapping[str, str]
    rules: Layout | None
    """None: the tensors have our names already."""
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def architecture(self) -> Architecture:
        """The network of the tensors, with 1000 classes if there is no classifier."""
        return network(
            self.family, self.form, channels=self.channels, nominal=self.nominal, classes=self.classes or 1000
        )


def recognize(shapes: Mapping[str, tuple[int, ...]], record: Mapping[str, Any] | None = None) -> Match:
    """The published network with tensors of these names and shapes. `record` is Paretofit's own, if the file has one.

    Raises PretrainedError for an unknown layout, and for a known one with missing, surplus or misshapen tensors, with
    the first three of each.
    """
    for name, shape in shapes.items():
        if any(not 0 <= size < MAX_DIMENSION for size in shape):
            raise PretrainedError(f"{name[:80]!r} has an impossible shape: the file is damaged, copy it again")
    if record is not None:
        return _own(shapes, record)
    clean, ignored = _without_prefixes(shapes)
    for key, reason in REFUSED.items():
        if key in clean:
            raise PretrainedError(reason)
    given = {name: shapes[original] for name, original in clean.items()}
    found = _closest(given)
    if found.layout.name == "megvii" and not shuffle_matches(found.form.groups or 1):
        raise PretrainedError(
            f"ShuffleNetV1 with {found.form.groups} groups cannot be used: megvii's channel shuffle is the inverse "
            "of the paper's, and with these groups no channel order makes them equal; use weights with 3 groups"
        )
    return found.match({name: clean[name] for name in given}, given, ignored)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A layout of a family at one width, with the file's tensors that have another shape there."""

    layout: Layout
    architecture: Architecture
    form: Form
    wrong: tuple[str, ...]

    def match(self, clean: Mapping[str, str], given: Mapping[str, tuple[int, ...]], ignored: tuple[str, ...]) -> Match:
        expected = _their_shapes(self.layout, self.architecture)
        names = self.layout.names(self.architecture.family)
        head, dropped = self._head(given)
        missing = [name for name in (*expected, *head.values()) if name not in given]
        surplus = [name for name in given if name not in expected and name not in dropped and name not in head.values()]
        wrong = [
            f"{name} {_text(given[name])} instead of {_text(expected[name])}" for name in self.wrong
        ] + self._wrong_head(head, given)
        if missing or surplus or wrong:
            raise PretrainedError(
                (
                    f"these are not all tensors of {self.architecture.family} x {self.form.width:g} in the layout of "
                    f"{self.layout.name}: "
                )
                + "; ".join(
                    f"{kind} {', '.join(found[:3])}" + (f" and {len(found) - 3} more" if len(found) > 3 else "")
                    for kind, found in (("missing", missing), ("surplus", surplus), ("wrong shape", wrong))
                    if found
                )
                + ". Give the complete, unchanged weights of one network"
            )
        classes = given[head["weight"]][self._class_axis] if head else None
        notes = list(self.layout.notes)
        if self.layout.tensorflow and classes == 1001:
            notes.append(BACKGROUND_NOTE)
        if classes is not None and not self.layout.head_bias:
            notes.append("the classifier has no bias: it is zero")
        linear = f"blocks.{len(self.architecture.blocks) - 1}.linear"
        return Match(
            layout=self.layout.name,
            family=self.architecture.family,
            form=self.form,
            channels=self.architecture.channels,
            nominal=self.architecture.nominal,
            classes=classes,
            names={ours: clean[theirs] for ours, theirs in names.items()},
            head={f"{linear}.{leaf}": clean[theirs] for leaf, theirs in head.items()},
            rules=self.layout,
            dropped=(*ignored, *(clean[name] for name in sorted(dropped))),
            notes=tuple(notes),
        )

    @property
    def _class_axis(self) -> int:
        return 3 if self.layout.hwio else 0

    def _head(self, given: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, str], set[str]]:
        """The tensors of the linear classifier by leaf, and the dropped ones of another form of classifier."""
        under = {name for name in given if name.startswith(self.layout.head_modules)}
        for module in self.layout.head:
            weight, _, bias = module.partition("|") if "|" in module else (f"{module}.weight", "", f"{module}.bias")
            head = {"weight": weight} | ({"bias": bias} if self.layout.head_bias else {})
            if under and under <= {weight, bias}:
                return head, under - set(head.values())
        return {}, under

    def _wrong_head(self, head: Mapping[str, str], given: Mapping[str, tuple[int, ...]]) -> list[str]:
        if not head or any(name not in given for name in head.values()):
            return []
        features = self.architecture.blocks[-1].in_channels
        shape = given[head["weight"]]
        classes = shape[self._class_axis] if len(shape) == (4 if self.layout.hwio else 2) else 0
        expected = (1, 1, features, classes) if self.layout.hwio else (classes, features)
        if not classes or shape != expected:
            return [f"{head['weight']} {_text(shape)} instead of (classes, {features})"]
        if "bias" in head and given[head["bias"]] != (classes,):
            return [f"{head['bias']} {_text(given[head['bias']])} instead of ({classes},)"]
        return []


def _closest(given: Mapping[str, tuple[int, ...]]) -> _Candidate:
    """The layout that shares most names with the file, at the width that shares most shapes."""
    scored: list[tuple[float, Layout, str]] = []
    for layout in LAYOUTS:
        backbone = {name for name in given if not name.startswith(layout.head_modules)}
        for family in layout.families:
            names = set(layout.names(family).values())
            scored.append((len(names & backbone) / len(names | backbone), layout, family))
    best = max(score for score, _, _ in scored)
    if best < 0.5:
        first = ", ".join(sorted(given)[:3]) or "none"
        raise PretrainedError(f"unknown weights (the first tensors are {first}). Supported are {KNOWN}")
    candidates = [
        candidate for score, layout, family in scored if score == best for candidate in _widths(layout, family, given)
    ]
    if not candidates:
        raise PretrainedError("the tensors have known names, but their shapes match no width: give unchanged weights")
    return min(candidates, key=lambda candidate: len(candidate.wrong))


def _widths(layout: Layout, family: str, given: Mapping[str, tuple[int, ...]]) -> Iterator[_Candidate]:
    """The layout at the widths that the shapes suggest, until one fits."""
    channels = _input_channels(layout, family, given)
    seen: set[Architecture] = set()
    for groups in registry.groups(family) or (None,):
        full = network(family, Form(1.0, groups), channels=channels)
        for form in forms(_ratios(_their_shapes(layout, full), given), groups):
            try:
                architecture = network(family, form, channels=channels)
            except PretrainedError:
                continue
            if architecture in seen:
                continue
            seen.add(architecture)
            expected = _their_shapes(layout, architecture)
            wrong = tuple(name for name, shape in expected.items() if name in given and given[name] != shape)
            yield _Candidate(layout, architecture, form, wrong)
            if not wrong:
                return


def _input_channels(layout: Layout, family: str, given: Mapping[str, tuple[int, ...]]) -> int:
    shape = given.get(layout.names(family)["blocks.0.conv.weight"], ())
    channels = shape[2 if layout.hwio else 1] if len(shape) == 4 else 3
    return channels if 1 <= channels <= 16 else 3


def _ratios(full: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> list[float]:
    """Channel ratios to the full network, the most exact (of the widest layers) first."""
    found: Counter[float] = Counter()
    for name, shape in full.items():
        if len(shape) == 1 and len(given.get(name, ())) == 1:
            ratio = round(given[name][0] / shape[0], 6)
            found[ratio] = max(found[ratio], shape[0])
    return [ratio for ratio, _ in found.most_common(4)]


def _their_shapes(layout: Layout, architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Shapes of the backbone's tensors in the file, by their names."""
    ours = kept_shapes(architecture)
    found: dict[str, tuple[int, ...]] = {}
    for name, theirs in layout.names(architecture.family).items():
        shape = ours[name] if not name.endswith(".conv.bias") else ours[name.removesuffix("bias") + "weight"][:1]
        if layout.hwio and len(shape) == 4:
            out, into, height, width = shape
            shape = (height, width, out, into) if theirs.endswith("depthwise_weights") else (height, width, into, out)
        found[theirs] = shape
    return found


def _without_prefixes(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Maps names without wrappers' prefixes to the file's, and lists its other tensors except counters."""
    clean: dict[str, str] = {}
    ignored: list[str] = []
    averaged = {name.removesuffix(TF_AVERAGE) for name in shapes if name.endswith(TF_AVERAGE)}
    for original in shapes:
        name = original
        while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
            name = name.removeprefix(prefix)
        if name.rpartition(".")[2] in COUNTERS:
            continue
        if name.endswith(TF_SLOTS) or original in averaged:
            ignored.append(original)
            continue
        name = name.removesuffix(TF_AVERAGE)
        if name in clean:
            raise PretrainedError(
                f"{clean[name]} and {original} are the same tensor of two networks: give the weights of one network"
            )
        clean[name] = original
    return clean, tuple(ignored)


def _own(shapes: Mapping[str, tuple[int, ...]], record: Mapping[str, Any]) -> Match:
    """The network of a file of Paretofit's own: weights, or the checkpoint of a point."""
    if record.get("kind") == "weights":
        weights = read_weights_record(record)
        architecture, classes = weights.architecture(), weights.classes
        form = Form(weights.width, weights.groups, weights.slimmable, weights.keep_last_channels)
    else:
        try:
            architecture = Architecture.from_json(record.get("architecture", {}))
        except ArchitectureError as error:
            raise PretrainedError(f"the file's record does not describe a network: {error}") from error
        classes = architecture.classes
        form = form_of(architecture)
    expected = dict(kept_shapes(architecture))
    if classes is None:
        expected = {name: shape for name, shape in expected.items() if ".linear." not in name}
    found = {name: shape for name, shape in shapes.items() if name.rpartition(".")[2] not in COUNTERS}
    odd = sorted(set(expected) ^ set(found)) or sorted(name for name in expected if expected[name] != found[name])
    if odd:
        raise PretrainedError(
            f"the tensors do not match the record's network: {', '.join(odd[:3])}. Give the file as Paretofit wrote it"
        )
    head = {name: name for name in found if ".linear." in name}
    return Match(
        layout=OWN,
        family=architecture.family,
        form=form,
        channels=architecture.channels,
        nominal=architecture.nominal,
        classes=classes,
        names={name: name for name in found if name not in head},
        head=head,
        rules=None,
    )


def read_weights_record(record: Mapping[str, Any]) -> WeightsRecord:
    """The record of a weights file, from its header. Raises PretrainedError."""
    try:
        return WeightsRecord.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "record"
        raise PretrainedError(
            f"the file's record is not supported by this Paretofit: {place}: {first['msg']}. Convert the original "
            "file again"
        ) from error


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
