"""What the process that reads strangers' files cannot do any more."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, socket, subprocess, threading
from search.data import sandbox
from search.data.limits import IngestLimits

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
sandbox.confine()
assert refused(socket.socket)
assert refused(lambda: socket.create_connection(("127.0.0.1", 9)))
assert refused(lambda: subprocess.run(["true"]))
assert refused(lambda: os.execv("/bin/true", ["true"]))
assert refused(lambda: os.kill(os.getppid(), 0))
# What it needs goes on: threads and files; and what was started before is confined too.
waiting.set()
done.wait()
assert inside == [True]
open(os.devnull).close()
try:
    bytearray(2**30)
except MemoryError:
    print("confined")
"""


def test_no_network_no_programs_no_other_processes_and_little_memory() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "confined\n"
