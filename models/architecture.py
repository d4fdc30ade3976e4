"""`Architecture`: a network as data, a tuple of blocks with explicit channels, strides and kernels. JSON in and out.

Torch-free. A kind of block is a frozen dataclass in a module of `paretofit.models.kinds`, registered here by its
`kind`. It lists its layers (`Block.layers`) and names the torch module that computes it (`Block.module`). All other
code is independent of the kinds.
"""

from __future__ import annotations

import hashlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from functools import cache, cached_property
from importlib import import_module
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import paretofit.models.kinds
from paretofit.models.trace import Layer, Size, TooSmallError

FORMAT_VERSION = 1


class ArchitectureError(ValueError):
    """Invalid architecture data: the message names the place and the valid values."""


class Block(ABC):
    """A step of a network: subclasses are frozen dataclasses whose fields are numbers, strings, tuples and blocks."""

    __slots__ = ()

    kind: ClassVar[str]
    module: ClassVar[str]
    """Its torch module as `package.module:Class`, constructed with the block as argument."""
    permutable: ClassVar[bool] = False
    """Whether its layers declare their inputs (`Layer.reads`), which lets `paretofit.models.channel_groups` reorder its
    channels; otherwise their order is fixed."""

    in_channels: int
    out_channels: int

    @abstractmethod
    def layers(self, size: Size) -> tuple[Layer, ...]:
        """The layers on an input of this size, in execution order; the last one's output is the block's."""

    def fast_macs(self, size: Size) -> int:
        """Multiply-accumulates in evaluation of the cheapest equivalent form: that of `layers`, unless the kind has
        another."""
        return sum(layer.macs for layer in self.layers(size))


_KINDS: dict[str, type[Block]] = {}
_B = TypeVar("_B", bound=type[Block])


def register(block: _B) -> _B:
    """Class decorator that registers a `kind` for JSON. Raises ValueError if the kind is taken."""
    if _KINDS.setdefault(block.kind, block) is not block:
        raise ValueError(
            f"block kind {block.kind!r} is already defined in {_KINDS[block.kind].__module__}: choose another"
        )
    return block


def kinds() -> dict[str, type[Block]]:
    """Every registered kind of block, including those of `paretofit.models.kinds`."""
    for module in pkgutil.iter_modules(paretofit.models.kinds.__path__):
        import_module(f"paretofit.models.kinds.{module.name}")
    return dict(sorted(_KINDS.items()))


@dataclass(frozen=True)
class Architecture:
    """A static network that runs at any input size; `nominal` is the size in pixels that its strides were chosen for.

    Equal architectures have equal channels, so an Architecture serves as a cache key and is hashed once. Raises
    ArchitectureError if the blocks do not fit together.
    """

    family: str
    nominal: int
    channels: int
    classes: int
    blocks: tuple[Block, ...]
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name in ("nominal", "channels", "classes"):
            if getattr(self, name) < 1:
                raise ArchitectureError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not self.blocks:
            raise ArchitectureError("blocks must contain at least one block")
        channels = self.channels
        for i, block in enumerate(self.blocks):
            if block.in_channels != channels:
                raise ArchitectureError(f"blocks[{i}].in_channels must be {channels}, not {block.in_channels}")
            channels = block.out_channels
        if channels != self.classes:
            raise ArchitectureError(
                f"the last block has {channels} outputs, but there are {self.classes} classes: they must be equal"
            )
        self.layers((self.nominal, self.nominal))

    def layers(self, size: Size) -> tuple[Layer, ...]:
        """Every layer on an input of (height, width). Raises ArchitectureError if it is too small; the message has the
        minimum."""
        try:
            return self._layers(size)
        except TooSmallError:
            raise ArchitectureError(
                f"input {size[0]}x{size[1]} is too small for {self.family}: each side needs at least "
                f"{self._least_side()} pixels"
            ) from None

    def _layers(self, size: Size) -> tuple[Layer, ...]:
        found: list[Layer] = []
        for i, block in enumerate(self.blocks):
            try:
                layers = block.layers(size)
            except TooSmallError:
                raise
            except ValueError as error:
                raise ArchitectureError(f"blocks[{i}] ({block.kind}): {error}") from error
            found += (replace(layer, name=f"blocks.{i}.{layer.name}") for layer in layers)
            size = found[-1].output.size
        return tuple(found)

    def _least_side(self) -> int:
        side = 1
        while True:
            try:
                self._layers((side, side))
            except TooSmallError:
                side += 1
            else:
                return side

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, the inverse of `from_json`."""
        return {
            "version": self.version,
            "family": self.family,
            "nominal": self.nominal,
            "channels": self.channels,
            "classes": self.classes,
            "blocks": [_encode(block) for block in self.blocks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """The architecture of a `to_json` result, by this version or an older one. Raises ArchitectureError."""
        version = data.get("version") if isinstance(data, Mapping) else None
        if type(version) is not int:
            raise ArchitectureError("the architecture must be an object with an integer `version`")
        if not 1 <= version <= FORMAT_VERSION:
            raise ArchitectureError(
                f"version {version} is not supported by this Paretofit (1 to {FORMAT_VERSION}): update it"
            )
        return cls(**_decode_fields(cls, data, place=""))

    @cached_property
    def key(self) -> str:
        """16 hexadecimal digits: the hash of the canonical JSON, the same in every process and release."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        # Hash of the key, cached: hashing all blocks takes a millisecond, in every training pass.
        return hash(int(self.key, 16))


def channel_vector(architecture: Architecture) -> tuple[int, ...]:
    """The output channels of every convolution: with the resolution, the key of costs and statistics of one family."""
    size = (architecture.nominal, architecture.nominal)
    return tuple(layer.output.channels for layer in architecture.layers(size) if layer.op == "conv")


def _encode(value: Any) -> Any:
    if isinstance(value, Block):
        return {
            "kind": value.kind,
            **{field.name: _encode(getattr(value, field.name)) for field in _fields(type(value))},
        }
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return value


def _fields(cls: type) -> tuple[Field[Any], ...]:
    return fields(cls)


_hints = cache(get_type_hints)


def _decode_fields(cls: type, data: Mapping[str, Any], place: str) -> dict[str, Any]:
    known = {field.name: field for field in _fields(cls)}
    where = place or "the architecture"
    if unknown := sorted(set(data) - set(known)):
        raise ArchitectureError(f"{where} has an unknown field {unknown[0]!r}; use {', '.join(known)}")
    required = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in data]:
        raise ArchitectureError(f"{where} lacks the field {missing[0]!r}: add it")
    prefix = f"{place}." if place else ""
    return {name: _decode(_hints(cls)[name], value, f"{prefix}{name}") for name, value in data.items()}


def _decode_block(data: object, place: str) -> Block:
    if not isinstance(data, Mapping):
        raise ArchitectureError(f"{place} must be an object with a `kind`, not {data!r}")
    kind = data.get("kind")
    cls = (_KINDS.get(kind) or kinds().get(kind)) if isinstance(kind, str) else None
    if cls is None:
        raise ArchitectureError(f"{place}.kind must be one of {', '.join(kinds())}, not {kind!r}")
    return cls(**_decode_fields(cls, {name: value for name, value in data.items() if name != "kind"}, place))


def _decode(hint: Any, value: Any, place: str) -> Any:
    """Convert `value` to the type hint of a dataclass's field."""
    origin, args = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Block):
        return _decode_block(value, place)
    if origin in (Union, UnionType):
        if value is None and NoneType in args:
            return None
        (inner,) = (arg for arg in args if arg is not NoneType)
        return _decode(inner, value, place)
    if origin is Literal:
        if type(value) in map(type, args) and value in args:
            return value
        raise ArchitectureError(f"{place} must be one of {', '.join(map(str, args))}, not {value!r}")
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ArchitectureError(f"{place} must be a list, not {value!r}")
        hints = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(hints) != len(value):
            raise ArchitectureError(f"{place} must contain {len(hints)} values, not {len(value)}")
        return tuple(_decode(h, v, f"{place}[{i}]") for i, (h, v) in enumerate(zip(hints, value, strict=True)))
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ArchitectureError(f"{place} must be {hint.__name__}, not {value!r}")
    return value
