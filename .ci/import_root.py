"""Create `build/root`, a folder of links with the installed layout of the package, for tools that read files.

Then optionally run a command in it: `import_root.py lint-imports --config ../../pyproject.toml`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.import_root import link  # noqa: E402 - needs the path above

SIBLINGS = ("benchmarks", "docs", "tests")


def main() -> None:
    """Recreate the folder, then run the command in the arguments, if any."""
    target = ROOT / "build" / "root"
    shutil.rmtree(target, ignore_errors=True)
    link(target)
    for name in SIBLINGS:
        (target / name).symlink_to(ROOT / name)
    if command := sys.argv[1:]:
        os.chdir(target)
        os.execv(Path(sys.executable).parent / command[0], command)  # noqa: S606 - no shell needed


if __name__ == "__main__":
    main()
