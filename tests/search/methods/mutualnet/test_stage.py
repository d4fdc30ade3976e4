"""A search with one width per stage, from training to the front."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paretofit.models import checkpoint
from paretofit.models.architecture import Architecture
from paretofit.search.contracts.spec import Constraint, ResolvedSpec, SearchSpec
from paretofit.search.contracts.trial import Stop
from paretofit.search.data.store import Dataset
from paretofit.search.evaluation import reevaluate
from paretofit.search.local import LocalSearch
from paretofit.search.methods.mutualnet.params import SlimmableParams
from paretofit.search.methods.mutualnet.space import width_of


def test_complete_search_over_stage_widths(stripes: Path, method: dict[str, Any], tmp_path: Path) -> None:
    stage_method = {**method, "granularity": "stage", "sweep": {"mode": "adaptive"}}
    body = {"name": "stages", "dataset_id": "local", "method": stage_method}
    unbounded = SearchSpec.model_validate(body).resolve(Dataset.open(stripes).profile)
    macs = [candidate.cost["macs"] for candidate in unbounded.candidates()]
    bound = Constraint(metric="macs", value=(min(macs) + max(macs)) / 2)
    spec: ResolvedSpec = unbounded.model_copy(update={"constraints": (bound,)})
    front = LocalSearch(spec, stripes, tmp_path).run(lambda: Stop.NO, lambda trial, fraction: None)
    assert front.finished
    assert front.points
    data = Dataset.open(stripes)
    for point in front.points:
        assert bound.holds(point.metrics)
        path = tmp_path / "points" / f"{point.key}.safetensors"
        widths = width_of(checkpoint.read_record(path)["config"])
        assert isinstance(widths, tuple)
        assert len(widths) == 3
        assert spec.params(SlimmableParams).architecture(spec.dataset, widths) == Architecture.from_json(
            point.architecture
        )
        assert reevaluate(path, data).equal
