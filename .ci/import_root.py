"""Make `build/root`, a folder in which the package lies as it is installed, for tools that read files and ask no
finder; then run a command in it: `import_root.py lint-imports --config ../../pyproject.toml`. It holds links only.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.import_root import link  # noqa: E402 - found from here on

BESIDE = ("benchmarks", "docs", "tests")


def main() -> None:
    """Replace what an earlier run made."""
    target = ROOT / "build" / "root"
    shutil.rmtree(target, ignore_errors=True)
    link(target)
    for name in BESIDE:
        (target / name).symlink_to(ROOT / name)
    if command := sys.argv[1:]:
        os.chdir(target)
        os.execv(Path(sys.executable).parent / command[0], command)  # noqa: S606 - no shell is what is wanted


if __name__ == "__main__":
    main()
