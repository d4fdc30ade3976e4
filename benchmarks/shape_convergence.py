"""Whether the learned shape depends on the initial one: VGG-16s with an eighth of the channels, 32 pixels.

Four and six adaptors, each initialized so that the last map has 4, 8 or 16 pixels, all learned without a target on
Fashion-MNIST with the default recipe. A shape is described by the side of the map before each of the 13 convolutions.
The spread of shapes is the standard deviation of the binary logarithm of that side over the networks, averaged over
the convolutions.

- `spread_over_initial`: the spread of the learned shapes over that of the initial shapes. Goal: 0.5.
- `deep_over_shallow`: mean factor of the deeper half of the adaptors over that of the shallower half. The paper finds
  that shallow layers keep their size. Goal: 1.

An interrupted run is resumed (`benchmarks.searches`).
"""

from __future__ import annotations

import json
import math
from statistics import mean, pstdev
from typing import Any, Final

from benchmarks.harness import Claim, Report, run
from benchmarks.searches import SearchRun, cached_searches
from paretofit.models.families.shapes import HIGH, LOW, Shape, shaped
from paretofit.search.contracts.dataset import DatasetSpec
from paretofit.search.contracts.spec import ResolvedSpec
from paretofit.search.methods.shape_adaptor.params import ShapeAdaptorParams

DATASET: Final = DatasetSpec.model_validate(
    {"name": "shapes", "source": {"kind": "builtin", "name": "fashion_mnist", "subset": 2000}, "image_size": 32}
)
METHOD: Final[dict[str, Any]] = {
    "kind": "shape_adaptor",
    "families": ["vgg16"],
    "base_width": 0.125,
    "adaptors": [4, 6],
    "last_sides": [4, 8, 16],
    "targets": [0.0],
    "trials": 6,
    "human": False,
    "settle": 1.0,
    "alpha_interval": 2,
    "alpha_learning_rate": 1.0,
    "epochs": 8,
}


def main() -> Report:
    searches, search_run = cached_searches("shape-convergence", DATASET, METHOD), SearchRun(METHOD, 0)
    searches.run({"search": search_run})
    trials = json.loads((searches.search("search", search_run).out / "search.json").read_text())["trials"]
    found = [(each["new"]["params"]["config"], each["outputs"]["shape"]) for each in trials]
    return _report(searches.resolve(search_run), found)


def _report(spec: ResolvedSpec, found: list[tuple[dict[str, Any], str]]) -> Report:
    params = spec.params(ShapeAdaptorParams)
    sides: dict[str, list[list[int]]] = {"initial": [], "learned": []}
    factors: dict[str, list[float]] = {"deep": [], "shallow": []}
    for config, line in found:
        space = params.space(spec.dataset, config)
        rule = space.rule
        initial, learned = rule.shape([space.alpha] * rule.count), Shape.from_line(line)
        for name, shape in (("initial", initial), ("learned", learned)):
            layers = shaped(rule.network, shape).layers(rule.size)
            sides[name].append([layer.input.height for layer in layers if layer.op == "conv"])
        half = rule.count // 2
        each = [LOW + (HIGH - LOW) * blend for blend in learned.blends]
        factors["shallow"] += each[:half]
        factors["deep"] += each[-half:]
    spread = {name: _spread(each) for name, each in sides.items()}
    claims = (
        Claim("spread_over_initial", spread["learned"] / spread["initial"], 0.5, "lower"),
        Claim("deep_over_shallow", mean(factors["deep"]) / mean(factors["shallow"]), 1.0, "lower"),
    )
    return Report("shape_convergence", claims, {"spread": spread, "sides": sides})


def _spread(shapes: list[list[int]]) -> float:
    """The spread of shapes, in doublings of a side."""
    return mean(pstdev(map(math.log2, at)) for at in zip(*shapes, strict=True))


if __name__ == "__main__":
    run(main)
