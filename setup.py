"""Where the packages of `paretofit` lie: its parts are folders at the top level of the repository (docs/adr/0007)."""

from __future__ import annotations

import tomllib
from pathlib import Path

from setuptools import find_packages, setup

PARTS = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["paretofit"]["subpackages"]


def packages(folder: str, name: str) -> list[str]:
    """A folder's packages under their import names."""
    return [name, *(f"{name}.{package}" for package in find_packages(folder))]


setup(
    packages=packages("paretofit", "paretofit") + [p for part in PARTS for p in packages(part, f"paretofit.{part}")],
    package_dir={"paretofit": "paretofit", **{f"paretofit.{part}": part for part in PARTS}},
)
