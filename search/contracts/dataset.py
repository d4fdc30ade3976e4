"""A dataset: as a user submits it, and what planning needs to know of it once it is there."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from paretofit.search.contracts.base import Contract

_SHA256: Final = re.compile(r"^[0-9a-f]{64}$")
_S3_URL: Final = re.compile(r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\x00-\x1f\x7f]+)+$")


class BuiltinSource(Contract):
    """A data set that Paretofit knows where to find."""

    kind: Literal["builtin"] = "builtin"
    name: Literal["fashion_mnist"]
    subset: int | None = Field(
        default=None, ge=100, description="Training images to draw by seed, classes kept in proportion; unset: all."
    )


class UploadSource(Contract):
    """An archive (zip or tar) of `class/name.png|jpg|webp`, optionally under `train/`, `val/` and `test/`, sent
    afterwards.

    Split folders may also be called `training`, `valid`, `validation` and `testing`, in any case. With both, `val/` is
    the selection split and `test/` the report split; one of them alone is the report split."""

    kind: Literal["upload"] = "upload"


class FetchedSource(Contract):
    """An archive as for `upload` that the service fetches when the dataset is created."""

    sha256: str | None = Field(
        default=None,
        json_schema_extra={"pattern": _SHA256.pattern},
        description="Of the archive; unset: whatever is there.",
    )

    @field_validator("sha256")
    @classmethod
    def _a_digest(cls, value: str | None) -> str | None:
        if value is not None and not _SHA256.fullmatch(value):
            raise ValueError("is no SHA-256: write its 64 hexadecimal digits in lower case, or leave it out")
        return value


class UrlSource(FetchedSource):
    """An archive at a public https:// address."""

    kind: Literal["url"] = "url"
    url: str = Field(max_length=2048, description="https://...; three redirects at most are followed.")


class S3Source(FetchedSource):
    """An archive in a bucket that the service may read and that its operator opened to the tenant."""

    kind: Literal["s3"] = "s3"
    url: str = Field(
        max_length=2048,
        json_schema_extra={"pattern": _S3_URL.pattern},
        description="s3://BUCKET/KEY, below one of PARETOFIT_S3_SOURCES.",
    )

    @field_validator("url")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if not _S3_URL.fullmatch(value):
            raise ValueError("is no object in a bucket: write s3://BUCKET/KEY, such as s3://imports/clothes.zip")
        if {".", ".."} & set(value.split("/")):
            raise ValueError("a key has no parts . and ..")
        return value

    @property
    def bucket(self) -> str:
        """The bucket."""
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def key(self) -> str:
        """The object's name in it."""
        return self.url.removeprefix("s3://").partition("/")[2]


class Splits(Contract):
    """Fractions held out by seed, classes kept in proportion. Each is used only where the source has no split of its
    own for it: `test/` or a lone `val/` for `report`, `val/` beside `test/` for `selection`, a built-in's test set."""

    selection: float = Field(default=0.1, gt=0, lt=0.5, description="Of the training images, to choose networks on.")
    report: float = Field(default=0.1, gt=0, lt=0.5, description="Of all images, to report accuracies on.")


class DatasetSpec(Contract):
    """A dataset as a user submits it."""

    name: str = Field(min_length=1, max_length=200)
    source: Annotated[BuiltinSource | UploadSource | UrlSource | S3Source, Field(discriminator="kind")]
    format: Literal["image_folder"] = "image_folder"
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Side that training crops to, pixels; unset: 224 for uploads (less for smaller images), a "
        "builtin's own.",
    )
    licence: str | None = Field(
        default=None, max_length=500, description="Of the images, as far as you know; model cards say it."
    )
    splits: Splits = Splits()
    seed: int = Field(default=0, ge=0, lt=2**31)


class DatasetProfile(Contract):
    """What planning needs to know of a dataset: `image_size` is the height and width that training crops to."""

    classes: tuple[str, ...] = Field(min_length=2)
    channels: int = Field(ge=1)
    image_size: tuple[int, int]
    images: dict[str, int] = Field(description="Images per split: train, selection, report.")
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
