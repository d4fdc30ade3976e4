"""The warm process of a train worker: `python -m paretofit.workers.forkserver FD PARENT` imports the methods once and
forks trainers.

FD is a Unix socket (SOCK_SEQPACKET) to the supervisor, process PARENT. It says "ready"; then each request is the path
of an order with the trainer's descriptors (leash, stdout, stderr, report), and each answer the trainer's process id.

A trainer is forked twice, so that it loses its parent and becomes the child of the supervisor, which adopts orphans
(`paretofit.workers.prctl`): whatever becomes of this process, trainers go on and their ends are known.

Imports only: no tensor operation is run and no device touched here. OpenMP hangs in a process that was forked from one
with a parallel region behind it, and a CUDA context does not survive a fork.
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
    # Not before: until now this process could outlive its supervisor, and the import takes its time.
    from paretofit.workers import trainer

    _warm()
    channel.send(READY)
    arguments = _serve(channel)
    return 0 if arguments is None else trainer.main(arguments)


def _warm() -> None:
    """Import what trainers import. What fails here will fail in the trainer, where somebody is told."""
    from paretofit.search import registry

    registry.setup()
    for method in registry.methods().values():
        try:
            method.load("run", "run")
        except ImportError:
            traceback.print_exc()
    if "torch" in sys.modules:
        # The first optimizer imports it: more than all the rest takes.
        import_module("torch._dynamo")
    # What is there now is never garbage; collections in the trainers need not touch, and so copy, its pages.
    gc.collect()
    gc.freeze()


def _serve(channel: socket.socket) -> list[str] | None:
    """Returns a trainer's arguments in each trainer, and None here when the supervisor is gone."""
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
    """Fork a process that leads a session of its own and is the supervisor's child; its id, None in that process.

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
    # Only with its end is the trainer given to the supervisor.
    os.waitpid(between, 0)
    if not pid:
        raise OSError("the second fork failed")
    return int(pid)


def _become_trainer(order: Path, descriptors: list[int]) -> list[str]:
    """Take the descriptors and the folder that a trainer has if it is started as a command."""
    *standard, report = descriptors
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(order.parent)
    return [str(order), "--report", str(report)]


if __name__ == "__main__":
    sys.exit(main())
