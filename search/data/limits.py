"""Limits on ingesting one dataset: archive size and machine resources."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

GIB = 1024**3
MIB = 1024**2


class IngestLimits(BaseModel):
    """An archive beyond these limits is rejected; an image beyond its own is listed as corrupt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_entries: int = Field(default=2_000_000, gt=0, description="Files and folders of an archive.")
    max_decompressed_bytes: int = Field(
        default=64 * GIB, gt=0, description="Decompressed bytes, counted while reading instead of as declared."
    )
    max_ratio: float = Field(
        default=100, ge=1, description="Maximum ratio of decompressed to compressed bytes of the whole archive."
    )
    ratio_floor_bytes: int = Field(
        default=64 * MIB, ge=0, description="Decompressed bytes that are allowed at any ratio."
    )
    max_file_bytes: int = Field(default=64 * MIB, gt=0, description="Bytes of one image file.")
    max_pixels: int = Field(default=64_000_000, gt=0, description="Pixels of one image, height x width.")
    max_corrupt_share: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Fraction of the image files; above it the archive is rejected as a whole.",
    )
    max_class_bytes: int = Field(
        default=512 * 1024,
        gt=0,
        description="Bytes of the class names as JSON, because every response about the dataset includes them.",
    )
    max_raw_bytes: int = Field(
        default=4 * GIB, ge=0, description="Maximum decoded bytes that are stored raw; larger datasets stay encoded."
    )
    max_memory_bytes: int = Field(
        default=4 * GIB,
        gt=0,
        description="Address space of the ingestion process in bytes, beyond the bare interpreter's.",
    )
    max_cpu_seconds: int = Field(default=6 * 3600, gt=0, description="CPU time of the ingestion process in seconds.")
