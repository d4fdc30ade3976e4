"""Stage 2: from the seed network to one structure for each budget, and each of the baselines' allocations. No training."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from models.families.structures import Structure, written
from search.methods.scalenet import budget, importance, seed
from search.methods.scalenet.allocation import Allocation, InfeasibleAllocationError, ladder
from search.methods.scalenet.params import ScaleNetParams
from search.methods.scalenet.plan import SEED_NETWORK
from search.reporter import Reporter, Trial

FILE: Final = "allocation.json"


def run(trial: Trial, reporter: Reporter) -> dict[str, Any]:
    """Return the configurations of the `networks` to train, those of learned structures first, and report them with the importance of every
    channel as the artifact `FILE`."""
    params: ScaleNetParams = trial.spec.method
    architecture, tensors = seed.read(trial.inputs[SEED_NETWORK])
    sites = importance.sites(params, trial.spec.dataset, architecture, tensors)
    networks: list[dict[str, Any]] = []
    allocations: tuple[Allocation, ...] = ("learned", *params.baselines)
    for allocation in allocations:
        steps = ladder(allocation, sites, seed=trial.spec.seed)
        found: dict[Structure, dict[str, Any]] = {}
        for target in budget.targets(trial.spec):
            try:
                allocated = params.allocate(trial.spec.dataset, steps, budget.bounds(trial.spec, target))
            except InfeasibleAllocationError as error:
                sys.stderr.write(f"{allocation}, {params.budget_metric} <= {target:g}: {error}\n")
                continue
            config = {"budget": target, "allocation": allocation, "structure": written(allocated.structure)}
            # Of two budgets that a constraint makes equal, the lower.
            found.setdefault(allocated.structure, config)
        networks += found.values()
    path = trial.work / FILE
    scores = [[list(scale) for scale in site.scores] for site in sites]
    path.write_text(json.dumps({"networks": networks, "importance": scores}))
    reporter.artifact(FILE, path)
    return {"networks": networks}
