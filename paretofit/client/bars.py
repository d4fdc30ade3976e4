"""Progress bars on stderr, by default only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paretofit.api.schemas.searches import Search
from paretofit.client.download import Progress
from paretofit.client.numbers import format_seconds


@contextmanager
def transfer(description: str, size: int, *, shown: bool | None = None) -> Iterator[Progress | None]:
    """A progress bar for `size` bytes. Yields its callback, or None if no bar is shown."""
    if not (sys.stderr.isatty() if shown is None else shown):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(description), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=size)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def search(*, shown: bool | None = None) -> Iterator[Callable[[Search], None]]:
    """A progress bar for a search. Yields a callback that takes the updated search."""
    if not (sys.stderr.isatty() if shown is None else shown):
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=1.0, left="")

        def show(updated: Search) -> None:
            eta = updated.progress.eta_seconds
            left = "" if eta is None else f"{format_seconds(eta)} left"
            bar.update(
                task, completed=updated.progress.fraction, description=f"{updated.name}: {updated.state}", left=left
            )

        yield show
