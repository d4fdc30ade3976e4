"""The commands of README and documentation work as described."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import typer
import yaml

from paretofit import Client
from paretofit.cli.main import app
from paretofit.launch.ports import free_port
from paretofit.search.contracts.spec import Constraint, Objective
from paretofit.search.registry import methods
from tests.docs.blocks import LANGUAGES, Block, blocks, pages
from tests.docs.running import Reader
from tests.launch.processes import eventually

pytestmark = pytest.mark.integration

ALL = [block for page in pages() for block in blocks(page)]
RUN = [block for block in ALL if block.language in {"sh", "python"} and block.is_run]
_INLINE = re.compile(r"`paretofit ([^`]+)`")


def ids(block: Block) -> str:
    return str(block)


def test_every_block_has_a_known_language() -> None:
    assert [str(block) for block in ALL if block.language not in LANGUAGES] == []
    for page in pages():
        assert page.read_text().count("```") == 2 * len(blocks(page)), f"{page}: unclosed or indented fence"


@pytest.mark.parametrize("block", [each for each in ALL if each.language == "sh"], ids=ids)
def test_shell_is_valid(block: Block) -> None:
    subprocess.run(["bash", "-n", "-c", block.text], check=True)


@pytest.mark.parametrize("block", [each for each in ALL if each.language == "python"], ids=ids)
def test_python_is_valid(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", [each for each in ALL if each.language == "yaml"], ids=ids)
def test_specifications_are_valid(block: Block) -> None:
    spec = yaml.safe_load(block.text)
    if "method" in spec:
        methods()[spec["method"]["kind"]].params.model_validate(spec["method"])
    for bound in spec.get("constraints", ()):
        Constraint.model_validate(bound)
    for goal in spec.get("objectives", ()):
        Objective.model_validate(goal)


def commands() -> Iterator[tuple[str, str]]:
    """Calls of `paretofit` in the text of the pages."""
    for page in pages():
        text = page.read_text()
        for match in _INLINE.finditer(text):
            yield f"{page.name}:{text.count(chr(10), 0, match.start()) + 1}", match[1]


def test_commands_in_the_text_exist_with_their_options() -> None:
    group = typer.main.get_command(app)
    unknown = [f"{position}: paretofit {call}" for position, call in commands() if not _exists(group, call.split())]
    assert unknown == []


def _exists(command: Any, words: list[str]) -> bool:
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for index, word in enumerate(words):
        if word.startswith("-"):
            if word.partition("=")[0] not in options | {"--help"}:
                return False
        elif hasattr(command, "commands"):
            following = command.commands.get(word)
            return following is not None and _exists(following, words[index + 1 :])
    return True


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.stop()


@pytest.mark.timeout(900)
def test_every_command_of_the_pages_succeeds(reader: Reader) -> None:
    run = [block for block in RUN if block.marker is None]
    assert len({block.page for block in run}) > 4
    failures = []
    for block in run:
        if failure := reader.follow(block):
            failures.append(f"{block}: {failure}")
            assert reader.url, failure
    assert not failures, "\n\n".join(failures)


def marked(marker: str) -> list[Block]:
    return [block for block in RUN if block.marker == marker]


@pytest.mark.parametrize("page", sorted({block.page for block in marked("a service of its own")}))
def test_blocks_with_their_own_service_succeed(page: str, tmp_path: Path) -> None:
    key = "a-key-of-the-tests-alone"
    reader = Reader(tmp_path, PARETOFIT_BOOTSTRAP_KEY=key, PARETOFIT_KEY=key)
    followed = [block for block in RUN if block.page == page and (block.marker == "a service of its own" or block.file)]
    try:
        if not any(block.starts_a_service for block in followed):
            assert not reader.start("paretofit up")
        assert [failure for block in followed if (failure := reader.follow(block))] == []
        if page == "docs/writing_a_method.md":
            assert not reader.follow(Block(page, 0, "sh", "paretofit methods | grep every_width"))
    finally:
        reader.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", marked("on another machine"), ids=ids)
def test_worker_on_another_machine_runs_a_search(block: Block, tmp_path: Path) -> None:
    # The settings that the page lists in the block before the command.
    *_, settings = [
        each for each in ALL if each.page == block.page and each.line < block.line and each.language == "ini"
    ]
    shared = re.findall(r"^(\w+)=", settings.text, re.MULTILINE)
    assert len(shared) == 3
    reader = Reader(tmp_path)
    try:
        assert not reader.start("paretofit up --devices none")
        worker = reader.work(block.command, shared)
        with Client(reader.url) as client:
            assert not reader.follow(Block(block.page, 0, "sh", "paretofit datasets add photos.tar --name photos"))
            dataset = client.datasets.wait(next(client.datasets.list()).id, timeout=120)
            tiny = methods()["mutualnet"].params.tiny
            search = client.searches.create(
                name="elsewhere", dataset_id=dataset.id, method={"kind": "mutualnet", **tiny, "batch_size": 16}
            )
            finished = client.searches.wait(search.id, timeout=400)
            assert (finished.state, finished.progress.trials) == ("succeeded", {"completed": 2}), worker.output()
            assert sorted(each.queue for each in client.workers()) == ["light", "train"]
    finally:
        reader.stop()


@pytest.mark.docker
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", marked("with Docker"), ids=ids)
def test_containers_become_ready(block: Block, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    reader = Reader(tmp_path, COMPOSE_PROJECT_NAME=f"paretofit-{uuid4().hex}", PARETOFIT_PUBLISH=address)
    try:
        process = reader.compose(block.command)
        ready = f"http://{address}/readyz"
        assert eventually(lambda: process.poll() is not None or _answers(ready), within=1500), process.output()
        assert _answers(ready), process.output()
    finally:
        reader.stop()


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url).is_success
    return False
