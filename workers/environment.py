"""The environment of trainers and helper processes: no credentials, the slot's device and its share of the CPU."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

_PRIVATE: Final = re.compile(
    r"DATABASE|REDIS|CELERY|BROKER|^PG|^AWS_|^AZURE_|^GOOGLE_|BLOB_URL|_KEY\b|OTLP|SECRET|TOKEN|PASSWORD|CREDENTIAL",
    re.IGNORECASE,
)


def scrubbed(environment: Mapping[str, str], *, device: str, threads: int) -> dict[str, str]:
    """`environment` without credentials.

    A `cuda:i` slot sees only the i-th of the devices that are visible here; a `cpu` slot sees none.
    """
    kept = {name: value for name, value in environment.items() if not _PRIVATE.search(name)}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        kept[name] = str(threads)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    kind, _, index = device.partition(":")
    if kind == "cuda":
        listed = visible.split(",") if visible else None
        kept["CUDA_VISIBLE_DEVICES"] = listed[int(index or 0)].strip() if listed else index or "0"
    else:
        kept["CUDA_VISIBLE_DEVICES"] = ""
    # Checking for CUDA must not create a context: a process with one cannot fork trainers.
    kept["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    kept["PYTHONUNBUFFERED"] = "1"
    return kept


def here(*, device: str, threads: int) -> dict[str, str]:
    """This process's environment, scrubbed."""
    return scrubbed(os.environ, device=device, threads=threads)
