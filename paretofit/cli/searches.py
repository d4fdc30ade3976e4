"""The commands that submit, list, show, cancel and delete searches."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

from paretofit.api.schemas.searches import Estimate, KnownLatency, Search
from paretofit.api.schemas.trials import Trial
from paretofit.cli import references, specs
from paretofit.cli.output import accuracy, error_text, facts, print_json, say, short, state, state_of, stdout, table
from paretofit.cli.session import LONG_RETRY_TIMEOUT, AsJson, SearchReference, client
from paretofit.cli.unmet import unmet
from paretofit.cli.watch import follow
from paretofit.client.numbers import format_quantity, format_seconds
from paretofit.client.search import SearchDetail
from paretofit.core.formatting import count


def submit(
    context: typer.Context,
    *,
    spec: Annotated[str, typer.Argument(help="YAML or JSON file; `-` reads stdin.")],
    watching: Annotated[bool, typer.Option("--watch", help="Follow the search until it ends.")] = False,
    estimating: Annotated[
        bool, typer.Option("--estimate", help="Print the number of candidates and the expected time; submit nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a search from a specification."""
    with client(context, retry_timeout=LONG_RETRY_TIMEOUT if watching else 3.0) as service:
        body = specs.resolve(service, specs.read(spec))
        if estimating:
            estimate = service.searches.estimate(body)
            print_json(estimate) if as_json else _describe_estimate(estimate)
            return
        search = service.searches.create(body)
        if watching:
            say(f"submitted {search.id}")
            follow(service, search.id, as_json=as_json)
        elif as_json:
            print_json(search)
        else:
            stdout().print(f"submitted {search.id}")
            say(f"to follow it: paretofit watch {short(search.id)}")


def list_(
    context: typer.Context,
    *,
    in_state: Annotated[str | None, typer.Option("--state", help="Only searches in this state.")] = None,
    method: Annotated[str | None, typer.Option(help="Only searches of this method.")] = None,
    as_json: AsJson = False,
) -> None:
    """List searches, newest first."""
    with client(context) as service:
        listed = list(service.searches.list(state=in_state, method=method))
    if as_json:
        print_json(listed)
        return
    rows = [
        (
            short(search.id),
            search.name,
            search.method,
            state_of(search),
            f"{search.progress.fraction:.0%}",
            _time_left(search),
            f"{search.created_at.astimezone():%Y-%m-%d %H:%M}",
        )
        for search in listed
    ]
    stdout().print(table(("id", "name", "method", "state", "#done", "time left", "submitted"), rows))


def show(context: typer.Context, *, search: SearchReference, as_json: AsJson = False) -> None:
    """Show a search: its state, its trials and a summary of its front."""
    with client(context) as service:
        detail = service.searches.get(references.search_id(service, search))
        trials = list(service.searches.trials(detail.id))
    if as_json:
        print_json({**detail.model_dump(mode="json"), "trials": [trial.model_dump(mode="json") for trial in trials]})
        return
    console = stdout()
    console.print(facts(_facts(detail)))
    console.print(table(("trial", "id", "state", "#done", "duration", "error"), [_trial(trial) for trial in trials]))


def logs(
    context: typer.Context,
    *,
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="Id of a trial, or SEARCH:NUMBER such as latest:0.")],
    as_json: AsJson = False,
) -> None:
    """Print the log of a trial."""
    with client(context) as service:
        lines = service.trials.logs(references.trial_id(service, trial))
        if as_json:
            print_json(list(lines))
        else:
            for line in lines:
                sys.stdout.write(f"{line.at.astimezone():%H:%M:%S} {line.line}\n")


def cancel(context: typer.Context, *, search: SearchReference, as_json: AsJson = False) -> None:
    """Cancel a search. Results found so far are kept."""
    with client(context) as service:
        updated = service.searches.cancel(references.search_id(service, search))
    if as_json:
        print_json(updated)
    else:
        stdout().print(f"{updated.id}: {updated.state if updated.state == 'cancelled' else 'cancelling'}")


def delete(context: typer.Context, *, search: SearchReference, as_json: AsJson = False) -> None:
    """Delete a finished search with its results."""
    with client(context) as service:
        search_id = references.search_id(service, search)
        service.searches.delete(search_id)
    if as_json:
        print_json({"id": search_id, "deleted": True})
    else:
        say(f"deleted {search_id}")


def _facts(search: SearchDetail) -> list[tuple[str, object]]:
    front = search.summary
    early = None if search.stop_reason == "completed" else search.stop_reason
    rows: list[tuple[str, object]] = [
        ("id", search.id),
        ("name", search.name),
        ("state", Text.assemble(state(search.state), "" if early is None else f" ({early})")),
        ("method", search.method),
        ("dataset", search.dataset_id),
        ("done", f"{search.progress.fraction:.0%}, {_time_left(search)} left"),
        ("device time", format_seconds(search.usage.device_seconds)),
    ]
    if search.error:
        rows.append(("error", error_text(search.error) or search.error))
    rows += [("warning", Text(warning.detail, "yellow")) for warning in search.warnings]
    if front.points and front.macs_min is not None and front.macs_max is not None:
        macs = f"{format_quantity(front.macs_min)} - {format_quantity(front.macs_max)} MACs"
        rows += [
            ("front", f"{count(front.points, 'point')}, {macs}"),
            (
                "best",
                f"{accuracy(front.best_top1)} top-1 ({accuracy(front.best_selection_top1)} on the selection split)",
            ),
        ]
    if front.majority_class is not None:
        shares = (
            f"{accuracy(front.majority_top1)} top-1 ({accuracy(front.majority_selection_top1)} on the selection split)"
        )
        rows.append(("majority class", f"{shares} by always predicting {front.majority_class!r}"))
    rows += [("unmet", constraint) for constraint in unmet(search)]
    if front.hypervolume is not None:
        rows.append(("hypervolume", f"{front.hypervolume:.4f}"))
    return rows


def _trial(trial: Trial) -> tuple[object, ...]:
    took = "-"
    if trial.started_at and trial.finished_at:
        took = format_seconds((trial.finished_at - trial.started_at).total_seconds())
    return trial.number, trial.id, state(trial.state), f"{trial.progress:.0%}", took, error_text(trial.error)


def _describe_estimate(estimate: Estimate) -> None:
    seconds = estimate.expected_seconds
    rows: list[tuple[str, object]] = [
        ("networks", f"{estimate.configurations}, {estimate.feasible} of which meet the constraints"),
        *(
            (metric, f"{format_quantity(cost.min)} - {format_quantity(cost.max)}")
            for metric, cost in estimate.cost.items()
        ),
        *((f"ms on {device}", _known(known)) for device, known in estimate.latency.items()),
        (
            "time",
            "unknown: no similar search has finished here yet"
            if seconds is None
            else f"{format_seconds(seconds)} on one device, based on {estimate.based_on} earlier searches",
        ),
    ]
    stdout().print(facts(rows))


def _known(latency: KnownLatency) -> str:
    if latency.min_ms is None or latency.max_ms is None:
        return "unknown: measured at the start of the search"
    return f"{latency.min_ms:.3g} - {latency.max_ms:.3g}, measured on {count(latency.measured, 'network')}"


def _time_left(search: Search) -> str:
    if search.finished_at is not None:
        return "none"
    eta = search.progress.eta_seconds
    return "unknown" if eta is None else format_seconds(eta)
