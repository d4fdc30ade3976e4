"""The warm process of a train worker: `python -m paretofit.workers.forkserver FD PARENT` imports the methods once and
forks trainers.

FD is a Unix socket (SOCK_SEQPACKET) to the supervisor, process PARENT. The first message is "ready". Then each request
is the path of an order file with the trainer's descriptors (stdin, stdout, stderr, report), and each response is the
trainer's process id.

A trainer is forked twice, so that it is orphaned and becomes a child of the supervisor, which adopts orphans
(`paretofit.workers.prctl`). If this process dies, trainers keep running and the supervisor still gets their exit
status.

This process only imports: it runs no tensor operation and touches no device. OpenMP hangs in a process that was forked
after a parallel region, and a CUDA context does not survive a fork.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Final

from paretofit.workers import prctl

READY: Final = b"ready"
FAILED: Final = b"failed"
LONGEST: Final = 1 << 16


def main() -> int:
    channel = socket.socket(fileno=int(sys.argv[1]))
    prctl.die_with(int(sys.argv[2]))
    # Imported only now: the import is slow, and until here this process could have outlived its supervisor.
    from paretofit.workers import trainer

    _warm()
    channel.send(READY)
    arguments = _serve(channel)
    return 0 if arguments is None else trainer.main(arguments)


def _warm() -> None:
    """Import what trainers import. An import that fails here fails in the trainer too, which reports it."""
    from paretofit.search import registry

    registry.setup()
    for method in registry.methods().values():
        try:
            method.load("run", "run")
        except ImportError:
            traceback.print_exc()
    if "torch" in sys.modules:
        # The first optimizer imports it, and that takes longer than everything else.
        import_module("torch._dynamo")
    # Nothing imported so far becomes garbage. Freezing it keeps collections in the trainers from copying its pages.
    gc.collect()
    gc.freeze()


def _serve(channel: socket.socket) -> list[str] | None:
    """Returns the arguments in each forked trainer, and None in this process when the supervisor has exited."""
    while True:
        order, descriptors, _, _ = socket.recv_fds(channel, LONGEST, 4, socket.MSG_CMSG_CLOEXEC)
        if not order:
            return None
        try:
            pid = _fork()
        except OSError:
            traceback.print_exc()
            channel.send(FAILED)
        else:
            if pid is None:
                channel.close()
                return _become_trainer(Path(os.fsdecode(order)), descriptors)
            channel.send(str(pid).encode())
        for descriptor in descriptors:
            os.close(descriptor)


def _fork() -> int | None:
    """Fork a session leader that becomes the supervisor's child; returns its id here and None in that process.

    Raises OSError.
    """
    receive, send = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            if os.fork() != 0:
                os._exit(0)
        except OSError:
            traceback.print_exc()
            os._exit(1)
        os.close(receive)
        os.setsid()
        os.write(send, str(os.getpid()).encode())
        os.close(send)
        return None
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        pid = pipe.read()
    # The trainer is reparented to the supervisor only when its parent has ended.
    os.waitpid(between, 0)
    if not pid:
        raise OSError("the second fork failed")
    return int(pid)


def _become_trainer(order: Path, descriptors: list[int]) -> list[str]:
    """Set up the descriptors and the working directory as for a trainer that is started as a command."""
    *standard, report = descriptors
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order.parent)
    return [str(order), "--report", str(report)]


if __name__ == "__main__":
    sys.exit(main())
