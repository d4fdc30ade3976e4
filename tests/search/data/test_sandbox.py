"""Restrictions of the process that reads untrusted files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import os, socket, subprocess, sys, threading
from pathlib import Path
from paretofit.search.data import landlock, sandbox
from paretofit.search.data.limits import IngestLimits

inside = []
waiting, done = threading.Event(), threading.Event()

def before():
    waiting.wait()
    inside.append(refused(socket.socket))
    done.set()

def refused(what):
    try:
        what()
    except PermissionError:
        return True
    return False

threading.Thread(target=before).start()
sandbox.limit(IngestLimits(max_memory_bytes=2**28, max_cpu_seconds=60))
folder = Path(sys.argv[1])
archive, out = folder / "archive", folder / "out"
sandbox.confine(written=out, read=archive)
assert refused(socket.socket)
assert refused(lambda: socket.create_connection(("127.0.0.1", 9)))
assert refused(lambda: subprocess.run(["true"]))
assert refused(lambda: os.execv("/bin/true", ["true"]))
assert refused(lambda: os.kill(os.getppid(), 0))
# Threads and needed files keep working, and threads started earlier are confined too.
waiting.set()
done.wait()
assert inside == [True]
open(os.devnull).close()
if landlock.version() > 0:
    assert archive.read_text() == "an archive"
    assert refused(lambda: archive.write_text("other"))
    (out / "made").write_text("x" * 10)
    (out / "made").write_text("y")
    (out / "made").rename(out / "moved")
    (out / "within").mkdir()
    assert [path.name for path in sorted(out.iterdir())] == ["moved", "within"]
    for other in (folder / "other", f"/proc/{os.getppid()}/environ", f"/proc/{os.getppid()}/mem"):
        assert refused(lambda: open(other).close()), other
    assert refused(lambda: os.listdir(folder))
    assert refused(lambda: open(folder / "new", "w").close())
    assert refused(lambda: os.unlink(folder / "other"))
    import xml.dom.minidom, PIL.WebPImagePlugin
    assert "xml" in Path(xml.dom.minidom.__file__).read_text()
try:
    bytearray(2**30)
except MemoryError:
    print("confined")
"""


def test_sandbox_blocks_network_programs_processes_files_and_memory(tmp_path: Path) -> None:
    (tmp_path / "archive").write_text("an archive")
    (tmp_path / "other").write_text("another tenant's")
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", CODE, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout == "confined\n"
