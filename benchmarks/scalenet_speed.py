"""Speed of the fast form of ScaleNet-50 at 224 pixels, against its published form and ResNeXt-50 (32x4d).

One thread on one image, and all threads on 8; in torch with both memory formats and in ONNX Runtime. All cases of a
setting are interleaved in one run. ResNeXt-50 takes 4.23 GMACs, ScaleNet-50 3.82.

- `nchw_speedup_*`, `channels_last_speedup_*`: the fast form over the published one, both with images in that format.
  Goals: 1.2 and 1.1.
- `resnext_*`: the fast form over ResNeXt-50 with folded normalization, with images in the same format. Goals: 1.1 on
  one thread, 1.25 on all. The paper has 147 against 93 ms on one GPU (Li et al., arXiv 1904.09460, table 5).
- `onnx_speedup_*`, `resnext_onnx_*`: the same in ONNX Runtime, whose graph optimizer folds the normalization of all.
  There each block has the form that ONNX Runtime runs fastest.

In the details, `*_resnext` is ResNeXt-50 as trained, without folding.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn.utils import convert_conv2d_weight_memory_format

from benchmarks.harness import Claim, Report, interleaved, medians, run
from paretofit.core.cpus import available_cpus
from paretofit.models.build import Network, build
from paretofit.models.cost import cost, fast_macs
from paretofit.models.families.registry import architecture
from paretofit.models.layers.fast_scale_aggregation import fast
from paretofit.search.export.fold import folded

SIZE: Final = (224, 224)
REPEATS: Final = 21
SCALENET: Final = "scalenet50"
RESNEXT: Final = "resnext50_32x4d"
LAYOUTS: Final = {"nchw": torch.contiguous_format, "channels_last": torch.channels_last}


class Setting(NamedTuple):
    name: str
    threads: int
    batch: int
    resnext_goal: float


def settings() -> tuple[Setting, Setting]:
    return Setting("one_thread", 1, 1, 1.1), Setting("all_threads", available_cpus(), 8, 1.25)


def network(family: str) -> Network:
    """A network with random batch norm statistics, like a trained one."""
    torch.manual_seed(0)
    found = build(architecture(family)).eval()
    for norm in found.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    return found


def torch_cases(setting: Setting) -> dict[str, Callable[[], object]]:
    """The forward passes in torch by name."""
    images = torch.randn(setting.batch, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    cases: dict[str, Callable[[], object]] = {}
    scalenet, resnext = network(SCALENET), network(RESNEXT)
    for layout, memory_format in LAYOUTS.items():
        inputs = images.contiguous(memory_format=memory_format)
        forms = {
            "published": copy.deepcopy(scalenet),
            "resnext": copy.deepcopy(resnext),
            "resnext_folded": folded(resnext),
        }
        for each in forms.values():
            convert_conv2d_weight_memory_format(each, memory_format)
        forms["fast"] = fast(scalenet, inputs)
        _check(forms["fast"], forms["published"], inputs)
        for name, each in forms.items():
            cases[f"{layout}_{name}"] = _Pass(each, inputs)
    return cases


class _Pass:
    """A forward pass in torch."""

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        self._network = network
        self._images = images

    @torch.inference_mode()
    def __call__(self) -> None:
        self._network(self._images)


def onnx_cases(setting: Setting, folder: Path) -> dict[str, Callable[[], object]]:
    """The forward passes in ONNX Runtime by name."""
    images = torch.randn(setting.batch, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    scalenet = network(SCALENET)

    def measure(modules: Sequence[nn.Module], x: Tensor) -> list[float]:
        passes = {str(i): session(module, x, setting.threads, folder) for i, module in enumerate(modules)}
        return [min(seconds) for seconds in interleaved(passes, repeats=7).values()]

    return {
        "onnx_published": session(scalenet, images, setting.threads, folder),
        "onnx_fast": session(fast(scalenet, images, measure), images, setting.threads, folder),
        "onnx_resnext": session(network(RESNEXT), images, setting.threads, folder),
    }


def session(module: nn.Module, images: Tensor, threads: int, folder: Path) -> Callable[[], object]:
    """A forward pass of a module in ONNX Runtime on the CPU."""
    path = folder / "module.onnx"
    images = images.contiguous()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (images,), path, input_names=["image"], dynamo=True, external_data=False, verbose=False
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {"image": images.numpy()}
    return partial(made.run, None, inputs)


def measure(setting: Setting) -> tuple[list[Claim], dict[str, Any]]:
    torch.set_num_threads(setting.threads)
    with tempfile.TemporaryDirectory() as folder:
        cases = torch_cases(setting) | onnx_cases(setting, Path(folder))
        seconds = medians(interleaved(cases, repeats=REPEATS, warmup=2))
    claims = []
    for runtime, goal in {"nchw": 1.2, "channels_last": 1.1, "onnx": 1.0}.items():
        quick = seconds[f"{runtime}_fast"]
        # Both with folded normalization; ONNX Runtime folds by itself.
        rival = f"{runtime}_resnext" if runtime == "onnx" else f"{runtime}_resnext_folded"
        over_published, over_resnext = seconds[f"{runtime}_published"] / quick, seconds[rival] / quick
        claims += [
            Claim(f"{runtime}_speedup_{setting.name}", over_published, goal, "higher"),
            Claim(f"resnext_{runtime}_{setting.name}", over_resnext, setting.resnext_goal, "higher"),
        ]
    milliseconds = {name: round(1000 * taken / setting.batch, 2) for name, taken in seconds.items()}
    return claims, {"milliseconds_per_image": milliseconds, "threads": setting.threads, "batch": setting.batch}


def main() -> Report:
    claims: list[Claim] = []
    details: dict[str, Any] = {"macs": {name: cost(architecture(name), SIZE).macs for name in (SCALENET, RESNEXT)}}
    details["macs"]["scalenet50_fast"] = fast_macs(architecture(SCALENET), SIZE)
    for setting in settings():
        found, described = measure(setting)
        claims += found
        details[setting.name] = described
    return Report("scalenet_speed", tuple(claims), details)


@torch.inference_mode()
def _check(one: nn.Module, other: nn.Module, images: Tensor) -> None:
    found, expected = one(images), other(images)
    difference = float((found - expected).abs().max() / expected.abs().max())
    if difference > 1e-5:
        raise RuntimeError(f"fast and published forms differ by {difference:.1e} of the largest logit")


if __name__ == "__main__":
    run(main)
