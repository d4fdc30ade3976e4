"""`sbom.py FILE`: write the installed packages of this environment as a CycloneDX document in JSON."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

OURS = "paretofit"


def main() -> int:
    installed = {distribution.name.lower(): distribution for distribution in distributions()}
    ours = _component(installed.pop(OURS), ComponentType.APPLICATION)
    bom = Bom(components=[_component(installed[name], ComponentType.LIBRARY) for name in sorted(installed)])
    bom.metadata.component = ours
    bom.register_dependency(ours, bom.components)
    written = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)
    Path(sys.argv[1]).write_text(written + "\n")
    return 0


def _component(distribution: Distribution, kind: ComponentType) -> Component:
    about = distribution.metadata
    url = PackageURL("pypi", name=distribution.name.lower(), version=distribution.version)
    expression, named = about.get("License-Expression"), (about.get("License") or "").strip()
    licenses: list[LicenseExpression | DisjunctiveLicense] = []
    if expression:
        licenses = [LicenseExpression(expression)]
    elif named and "\n" not in named:
        licenses = [DisjunctiveLicense(name=named)]
    return Component(
        name=distribution.name, version=distribution.version, type=kind, purl=url, bom_ref=str(url), licenses=licenses
    )


if __name__ == "__main__":
    sys.exit(main())
