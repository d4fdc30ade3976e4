"""The metrics of trials."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from paretofit.db import metrics
from paretofit.db.engine import transaction
from paretofit.db.tables import MetricRow
from tests.db import rows

pytestmark = pytest.mark.usefixtures("scripted")


def test_metric_names_are_listed_by_trial(engine: Engine) -> None:
    [first, second, third] = [rows.plan(engine, rows.add_search(engine))[0] for _ in range(3)]
    with transaction(engine) as session:
        for trial, names in ((first, ("top1", "loss", "Loss")), (second, ("loss",))):
            session.add_all(
                MetricRow(trial_id=trial, name=name, step=step, value=0.5) for name in names for step in range(3)
            )
    with transaction(engine) as session:
        names_by_trial = metrics.names(session, [first, third])
        assert {trial: set(names) for trial, names in names_by_trial.items()} == {first: {"loss", "Loss", "top1"}}
        assert metrics.names(session, []) == {}
