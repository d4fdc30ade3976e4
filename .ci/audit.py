"""Check the pinned packages for known vulnerabilities with pip-audit and OSV.

Exits with 1 if there are any, and with 0 without a network.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

HOST = "api.osv.dev"
ROOT = Path(__file__).parents[1]
TIMEOUT_SECONDS = 120


def main() -> int:
    try:
        socket.create_connection((HOST, 443), timeout=3).close()
    except OSError:
        sys.stderr.write(f"vulnerabilities not checked: {HOST} is unreachable\n")
        return 0
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--requirement",
        str(ROOT / "constraints.txt"),
        "--no-deps",
        "--disable-pip",
    ]
    command += ["--vulnerability-service", "osv", "--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        sys.stderr.write(f"vulnerabilities not checked: {HOST} did not respond within {TIMEOUT_SECONDS} s\n")
        return 0
    # Findings are printed to stdout; if there are none, the check itself failed.
    if done.returncode != 0 and not done.stdout.strip():
        sys.stderr.write(f"vulnerabilities not checked:\n{done.stderr[-2000:]}\n")
        return 0
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
