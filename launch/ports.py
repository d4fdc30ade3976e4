"""Finds free ports."""

from __future__ import annotations

import random
import socket

# Below the ephemeral port range of Linux and macOS, so that a server that restarts finds its port free.
RANGE = range(18_000, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """A free TCP port. Raises OSError if none is found."""
    for port in random.SystemRandom().sample(RANGE, 200):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise OSError(f"no free TCP port from {RANGE.start} to {RANGE.stop} on {host}: stop processes that listen there")
