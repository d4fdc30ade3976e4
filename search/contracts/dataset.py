"""Datasets: the specification that users submit, and the profile that planning uses."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator

from paretofit.search.contracts.base import Contract

_SHA256: Final = re.compile(r"^[0-9a-f]{64}$")
_S3_URL: Final = re.compile(r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\x00-\x1f\x7f]+)+$")


class BuiltinSource(Contract):
    """A dataset that Paretofit can download itself."""

    kind: Literal["builtin"] = "builtin"
    name: Literal["fashion_mnist"]
    subset: int | None = Field(
        default=None,
        ge=100,
        description="Number of training images to sample by seed, stratified by class; unset: all.",
    )


class UploadSource(Contract):
    """An archive (zip or tar) of `class/name.png|jpg|webp`, optionally under `train/`, `val/` and `test/`, uploaded
    afterwards.

    Split folders may also be called `training`, `valid`, `validation` and `testing`, in any case. With both, `val/` is
    the selection split and `test/` the report split; one of them alone is the report split."""

    kind: Literal["upload"] = "upload"


class FetchedSource(Contract):
    """An archive as for `upload` that the service fetches when the dataset is created."""

    sha256: str | None = Field(
        default=None,
        json_schema_extra={"pattern": _SHA256.pattern},
        description="SHA-256 of the archive; unset: not verified.",
    )

    @field_validator("sha256")
    @classmethod
    def _a_digest(cls, value: str | None) -> str | None:
        if value is not None and not _SHA256.fullmatch(value):
            raise ValueError("invalid SHA-256: write its 64 hexadecimal digits in lower case, or leave it out")
        return value


class UrlSource(FetchedSource):
    """An archive at a public https:// address."""

    kind: Literal["url"] = "url"
    url: str = Field(max_length=2048, description="https:// address; at most three redirects are followed.")


class S3Source(FetchedSource):
    """An archive in a bucket that the service can read and that its operator has allowed for the tenant."""

    kind: Literal["s3"] = "s3"
    url: str = Field(
        max_length=2048,
        json_schema_extra={"pattern": _S3_URL.pattern},
        description="s3://BUCKET/KEY, under one of PARETOFIT_S3_SOURCES.",
    )

    @field_validator("url")
    @classmethod
    def _one_place(cls, value: str) -> str:
        if not _S3_URL.fullmatch(value):
            raise ValueError("invalid object URL: write s3://BUCKET/KEY, such as s3://imports/clothes.zip")
        if {".", ".."} & set(value.split("/")):
            raise ValueError("the key contains . or ..: write it without them")
        return value

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.url.removeprefix("s3://").partition("/")[0]

    @property
    def key(self) -> str:
        """Key of the object in the bucket."""
        return self.url.removeprefix("s3://").partition("/")[2]


class Splits(Contract):
    """Held-out fractions, sampled by seed and stratified by class. Each is used only where the source lacks that split:
    `test/` or `val/` without `test/` is `report`, `val/` together with `test/` is `selection`, and a built-in dataset
    has its own test set."""

    selection: float = Field(
        default=0.1, gt=0, lt=0.5, description="Fraction of the training images held out to choose networks."
    )
    report: float = Field(
        default=0.1, gt=0, lt=0.5, description="Fraction of all images held out to report accuracies."
    )


class DatasetSpec(Contract):
    """A dataset as a user submits it."""

    name: str = Field(min_length=1, max_length=200)
    source: Annotated[BuiltinSource | UploadSource | UrlSource | S3Source, Field(discriminator="kind")]
    format: Literal["image_folder"] = "image_folder"
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=1024,
        description="Side of the training crop, in pixels; unset: 224 for uploads (less for smaller images), or the "
        "built-in dataset's own.",
    )
    licence: str | None = Field(
        default=None, max_length=500, description="License of the images, as far as you know; shown in model cards."
    )
    splits: Splits = Splits()
    seed: int = Field(default=0, ge=0, lt=2**31)


class DatasetProfile(Contract):
    """What planning knows of a dataset. `image_size` is the height and width of the training crop, in pixels."""

    classes: tuple[str, ...] = Field(min_length=2)
    channels: int = Field(ge=1)
    image_size: tuple[int, int]
    images: dict[str, int] = Field(description="Number of images in the splits train, selection and report.")
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
