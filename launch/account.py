"""The user that runs PostgreSQL: it refuses to run as root, so root starts it as a system user that owns nothing else
of the service."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paretofit.launch.process import LaunchError

USERS = ("postgres", "nobody")
# Numbers from capabilities(7), the weaker capability first.
CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a server runs as; None: this process's own user."""

    user: pwd.struct_passwd | None

    @classmethod
    def owning(cls, data: Path) -> Account:
        """The owner of an existing data folder, else the first of `USERS` that exists. Without root: the current
        user."""
        if os.geteuid() != 0:
            return cls(None)
        if data.exists() and data.stat().st_uid != 0:
            return cls(pwd.getpwuid(data.stat().st_uid))
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        for name in USERS:
            if name in known:
                return cls(known[name])
        raise LaunchError(
            f"PostgreSQL cannot run as root, and there is no system user {' or '.join(USERS)}: "
            "run `useradd --system postgres`, start Paretofit as an ordinary user, or set DATABASE_URL"
        )

    def own(self, path: Path) -> None:
        """Make the account the owner of a file or folder."""
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def command(self, arguments: Sequence[str], folders: Sequence[Path]) -> list[str]:
        """A command that runs `arguments` as this account, with access to `folders` even below closed ones."""
        if self.user is None:
            return list(arguments)
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise LaunchError(
                "PostgreSQL cannot run as root, and `setpriv` is not installed to change the user: install util-linux, "
                "start Paretofit as an ordinary user, or set DATABASE_URL"
            )
        change = [setpriv, f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups"]
        closed = next((found for folder in folders if (found := self._closed(folder)) is not None), None)
        if closed is not None:
            capability = _capability(closed, self.user.pw_name)
            # Without the last option, access(2) would ignore it, and PostgreSQL uses that to find its own files.
            change += [
                f"--inh-caps=+{capability}",
                f"--ambient-caps=+{capability}",
                "--securebits=+no_setuid_fixup",
            ]
        return [*change, "--pdeathsig=INT", "--", *arguments]

    def _closed(self, folder: Path) -> Path | None:
        """The first folder on the path that the account may not enter."""
        assert self.user is not None
        for parent in reversed((folder, *folder.parents)):
            entry = parent.stat()
            if entry.st_uid == self.user.pw_uid:
                allowed = entry.st_mode & stat.S_IXUSR
            elif entry.st_gid == self.user.pw_gid:
                allowed = entry.st_mode & stat.S_IXGRP
            else:
                allowed = entry.st_mode & stat.S_IXOTH
            if not allowed:
                return parent
        return None


def _capability(closed: Path, user: str) -> str:
    """A capability of this process that gives the user access to closed folders."""
    status = Path("/proc/self/status").read_text().splitlines()
    held = int(next(line for line in status if line.startswith("CapEff:")).split()[1], 16)
    for name, number in CAPABILITIES.items():
        if held >> number & 1:
            return name
    raise LaunchError(
        f"PostgreSQL runs as the user {user!r}, which may not enter {closed}: run `chmod o+x {closed}`, "
        "set PARETOFIT_HOME to another folder, or set DATABASE_URL"
    )
