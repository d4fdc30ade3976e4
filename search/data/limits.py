"""What ingesting one dataset may take: of its archive, of the machine."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

GIB = 1024**3
MIB = 1024**2


class IngestLimits(BaseModel):
    """Beyond these an archive is rejected; an image beyond its own is listed as corrupt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_entries: int = Field(default=2_000_000, gt=0, description="Of an archive, files and folders.")
    max_decompressed_bytes: int = Field(default=64 * GIB, gt=0, description="Counted as they come, not as declared.")
    max_ratio: float = Field(default=100, ge=1, description="Decompressed to compressed bytes of the whole archive.")
    ratio_floor_bytes: int = Field(default=64 * MIB, ge=0, description="Decompressed bytes that need no good ratio.")
    max_file_bytes: int = Field(default=64 * MIB, gt=0, description="Of one image file.")
    max_pixels: int = Field(default=64_000_000, gt=0, description="Of one image, height x width.")
    max_corrupt_share: float = Field(
        default=0.05, ge=0, lt=1, description="Of the image files; above it the archive is rejected as a whole."
    )
    max_class_bytes: int = Field(
        default=512 * 1024, gt=0, description="Of the classes' names as JSON; every answer about the dataset has them."
    )
    max_raw_bytes: int = Field(
        default=4 * GIB, ge=0, description="Decoded bytes that are stored as they are; above it images stay encoded."
    )
    max_memory_bytes: int = Field(
        default=4 * GIB, gt=0, description="Address space of the ingesting process, beyond the bare interpreter's."
    )
    max_cpu_seconds: int = Field(default=6 * 3600, gt=0, description="CPU time of the ingesting process.")
