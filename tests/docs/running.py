"""Runs the blocks of a page like a reader: against a service, next to the files that the page mentions."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from paretofit import Client
from paretofit.launch.process import GuardedProcess
from tests.docs.blocks import ROOT, Block
from tests.launch.service import FAST

BIN: Final = Path(sys.executable).parent
_SERVED: Final = re.compile(r"(http://)?(localhost|127\.0\.0\.1):8000")
_START_SECONDS: Final = 180.0
# A block may train a network in parallel with other tests; only a hang takes longer.
_BLOCK_SECONDS: Final = 600.0


class Reader:
    """Follows a page in a folder; `url` is the service that it has started."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._root = folder
        self._services: list[GuardedProcess] = []
        self._removals: list[str] = []
        self.url = ""
        tools = folder / "bin"
        tools.mkdir()
        # Readers run `make` in the clone.
        (tools / "make").write_text(f'#!/bin/sh\nexec "$(PATH=/usr/bin:/bin command -v make)" -C {ROOT} "$@"\n')
        (tools / "make").chmod(0o755)
        # Arguments of `make test` must not reach the `make` in a page.
        own = {name: value for name, value in os.environ.items() if name not in {"ARGS", "MAKEFLAGS", "MAKEOVERRIDES"}}
        self._environment = own | FAST | {"PATH": f"{tools}:{BIN}:{os.environ['PATH']}"} | environment
        self._environment["PARETOFIT_HOME"] = str(folder / "home")

    def folder(self, page: str) -> Path:
        """The folder in which the blocks of a page run, with an archive of photos."""
        folder = self._root / page.replace("/", "-")
        if not folder.exists():
            folder.mkdir()
            _write_photos(folder / "photos.tar")
        return folder

    def follow(self, block: Block) -> str:
        """Run a block. Returns an error with the output, or an empty string."""
        folder = self.folder(block.page)
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(exist_ok=True)
            path.write_text(block.text)
            return ""
        if block.starts_a_service:
            return self.start(block.command, folder)
        text = self._fill_in(block.text)
        command = (
            ["bash", "-eu", "-o", "pipefail", "-c", text] if block.language == "sh" else [sys.executable, "-c", text]
        )
        done = subprocess.run(
            command,
            cwd=folder,
            env=self._environment | {"PARETOFIT_URL": self.url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_BLOCK_SECONDS,
        )
        return "" if done.returncode == 0 else f"exit status {done.returncode}\n{done.stdout[-4000:]}"

    def stop(self) -> None:
        """Stop everything that was started, in reverse order."""
        for process in reversed(self._services):
            process.stop()
        for command in self._removals:
            subprocess.run(["bash", "-c", command], cwd=ROOT, env=self._environment, check=True)

    def start(self, command: str, folder: Path | None = None) -> str:
        """Start a service if none is running. Returns an error, or an empty string."""
        if self.url:
            return ""
        description = Path(self._environment["PARETOFIT_HOME"]) / "service.json"
        process = self._spawn(command.partition("#")[0], "service", self._environment, folder)
        deadline = time.monotonic() + _START_SECONDS
        while not description.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                return f"the service did not start\n{process.output()}"
            time.sleep(0.05)
        self.url = json.loads(description.read_text())["url"]
        return ""

    def work(self, command: str, shared: Iterable[str]) -> GuardedProcess:
        """Start a worker that shares the database, Redis and blob store with the service."""
        home = Path(self._environment["PARETOFIT_HOME"])
        description = json.loads((home / "service.json").read_text())
        urls = {
            "DATABASE_URL": description["database_url"],
            "REDIS_URL": description["redis_url"],
            "PARETOFIT_BLOB_URL": (home / "blobs").as_uri(),
        }
        environment = self._environment | {name: urls[name] for name in shared}
        environment["PARETOFIT_HOME"] = str(self._root / "other")
        return self._spawn(command, "worker", environment)

    def compose(self, command: str) -> GuardedProcess:
        """Start containers from the clone. At the end they and their volumes are removed; their images stay."""
        self._environment["PARETOFIT_BOOTSTRAP_KEY"] = "for docker-compose.yml to be read"
        self._removals.append("docker compose down --volumes")
        return self._spawn(command, "compose", self._environment, directory=ROOT)

    def _spawn(
        self, command: str, name: str, environment: Mapping[str, str], directory: Path | None = None
    ) -> GuardedProcess:
        words = ["bash", "-c", f"exec env {command.strip()}"]
        log = self._root / f"{name}.txt"
        process = GuardedProcess(words, log=log, environment=environment, grace=_START_SECONDS, directory=directory)
        self._services.append(process)
        return process

    def _fill_in(self, text: str) -> str:
        """The text with the address of this service, and with ids for names in capitals."""
        text = _SERVED.sub(lambda match: self.url if match[1] else self.url.removeprefix("http://"), text)
        if not re.search(r"\b[A-Z]+_ID\b", text):
            return text
        with Client(self.url, self._environment.get("PARETOFIT_KEY")) as client:
            if re.search(r"\bKEY_ID\b", text):
                return text.replace("KEY_ID", next(client.keys.list()).id)
            search = next(client.searches.list())
            ids = {"SEARCH_ID": search.id, "DATASET_ID": search.dataset_id}
            succeeded = next(client.searches.list(state="succeeded"))
            ids["POINT_ID"] = succeeded.front().points[-1].id
            # The exported point may belong to a search that has continued since.
            points = [point for each in client.searches.list() for point in each.front().points]
            exports = [export for point in points for export in client.points.exports(point.id)]
            if exports:
                ids["EXPORT_ID"] = client.points.wait(exports[-1].id).id
        for name, value in ids.items():
            text = text.replace(name, value)
        return text


def _write_photos(path: Path) -> None:
    """Write colored noise, 16 images of each of three classes; the README searches them with default parameters."""
    noise = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for name, color in {"brick": (200, 90, 70), "grass": (70, 170, 70), "water": (60, 90, 200)}.items():
            for number in range(16):
                pixels = noise.normal(color, 25, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "PNG")
                member = tarfile.TarInfo(f"{name}/{number}.png")
                member.size = len(content.getvalue())
                content.seek(0)
                archive.addfile(member, content)
