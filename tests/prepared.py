"""Runs commands with slow imports many times, forked from a process that has imported them already."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

FORKS: Final = """
import importlib, json, os, sys
main = importlib.import_module(sys.argv[1]).main
for line in sys.stdin:
    call = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(call["cwd"])
        for number, path in ((1, call["stdout"]), (2, call["stderr"])):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = [sys.argv[1], *call["arguments"]]
        status = 1
        try:
            status = main() or 0
        except SystemExit as exit:
            status = exit.code if isinstance(exit.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    print(call["number"], os.waitstatus_to_exitcode(ended), flush=True)
"""


class Prepared:
    """Runs `main` of a module like `python -m MODULE ARGUMENTS...`, each time in a new process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._calls = 0

    def run(self, arguments: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the module with these arguments and wait for its exit."""
        files = {name: cwd / f".{name}" for name in ("stdout", "stderr")}
        self._calls += 1
        paths = {name: str(path) for name, path in files.items()}
        call = {"number": self._calls, "arguments": list(arguments), "cwd": str(cwd), **paths}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        number = status = 0
        while number != self._calls:
            # The result of an earlier call, whose test timed out, may come first.
            number, status = map(int, self._process.stdout.readline().split())
        stdout, stderr = (path.read_text() for path in files.values())
        for path in files.values():
            path.unlink()
        return subprocess.CompletedProcess(list(arguments), status, stdout, stderr)


@contextmanager
def prepared(module: str) -> Iterator[Prepared]:
    """A process that has imported the module and forks a child for each run."""
    command = [sys.executable, "-c", FORKS, module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Prepared(process)
        assert process.stdin is not None
        process.stdin.close()
