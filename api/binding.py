"""The listening socket. Without a key the service binds to loopback only."""

from __future__ import annotations

import ipaddress
import socket

from paretofit.core.settings import Settings

BACKLOG = 1024


def is_loopback(host: str) -> bool:
    """Whether an address is a loopback address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_key_beyond_loopback(settings: Settings) -> None:
    """Raises ValueError if the service is reachable over the network without a key."""
    if settings.bootstrap_key is None and not is_loopback(settings.host):
        raise ValueError(
            f"PARETOFIT_HOST={settings.host} can be reached from other machines, and no API key is set: "
            "set PARETOFIT_BOOTSTRAP_KEY to a long random value, or bind 127.0.0.1"
        )


def listen(settings: Settings) -> socket.socket:
    """A listening socket. Raises ValueError if the address requires a key, OSError if it cannot be bound."""
    require_key_beyond_loopback(settings)
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise OSError(
            f"cannot bind {settings.host}:{settings.port} ({error.strerror}): "
            "choose another PARETOFIT_HOST or PARETOFIT_PORT"
        ) from error
    listener.listen(BACKLOG)
    return listener


def url(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    address, port = listener.getsockname()[:2]
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"
