"""Exported files run in their target runtimes with the same outputs as PyTorch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from paretofit.models import checkpoint
from paretofit.models.architecture import ArchitectureError
from paretofit.models.finite import NonFiniteError
from paretofit.search.contracts.point import ALL_FORMATS, Format
from paretofit.search.export.__main__ import ExportRequest, export
from paretofit.search.export.fold import folded
from paretofit.search.export.formats import FORMS, TOLERANCE, Precision, file_name
from paretofit.search.export.network import Array, Exportable, exportable
from paretofit.search.export.parity import ParityError, compare
from paretofit.search.export.session import open_session
from paretofit.search.export.write import write
from tests.search.export.networks import DISTINCT, SIDE, network

pytestmark = pytest.mark.integration


def first_fast_rest_slow(values: Sequence[str], *first: str) -> list[Any]:
    """All values; those not in `first` are marked as slow."""
    return [pytest.param(each, marks=() if each in first else pytest.mark.slow) for each in values]


EVERY = [(name, precision) for name in ALL_FORMATS for precision in FORMS[name].precisions]


def written(source: Exportable, name: Format, folder: Path, precision: Precision = "float32") -> Path:
    path = folder / file_name("net", FORMS[name], precision)
    write(source, name, path, precision)
    return path


@pytest.fixture(scope="module")
def small() -> Exportable:
    """A network of the family with the fewest blocks, for any batch size."""
    plain = network("wrn_D_K")
    record = {
        "architecture": plain.architecture.to_json(),
        "classes": list("abcdefghij"),
        "preprocessing": {"mean": [0.3]},
    }
    return exportable(plain, (SIDE, SIDE), record)


@pytest.fixture(scope="module")
def files(small: Exportable, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Returns `small` exported to a format; each file is written once."""
    folder = tmp_path_factory.mktemp("files")
    once = cache(lambda name, precision: written(small, name, folder, precision))
    return lambda name, precision="float32": once(name, precision)


@pytest.mark.parametrize("family", first_fast_rest_slow(sorted(DISTINCT.values()), "shufflenet_v1", "mobilenet_v2"))
def test_every_family_exports_to_every_format(family: str, tmp_path: Path) -> None:
    source = exportable(network(family), (SIDE, SIDE), batch=2)
    for name in ALL_FORMATS:
        parity = compare(source, open_session(written(source, name, tmp_path), name))
        assert parity.max_abs_diff <= TOLERANCE["float32"] * parity.max_abs_logit, name


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_exports_support_any_batch_and_precision(
    small: Exportable, files: Callable[..., Path], name: Format, precision: Precision
) -> None:
    path = files(name, precision)
    assert [other for other in path.parent.iterdir() if other.name.startswith(path.name)] == [path]
    parity = compare(small, open_session(path, name), precision)
    assert len(set(parity.batches)) > 1
    assert parity.max_abs_logit > 0


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_documented_loading_code_works(
    small: Exportable, files: Callable[..., Path], name: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(files(name), tmp_path))
    monkeypatch.chdir(tmp_path)
    snippet = FORMS[name].snippet(path.name)
    assert len(snippet.splitlines()) == 2
    scope: dict[str, Any] = {}
    exec(snippet, scope)
    images = small.example(3)
    with torch.inference_mode():
        expected = small.network(images)
    match name:
        case "safetensors" | "torch_export":
            with torch.inference_mode():
                assert torch.equal(scope["network"](images), expected)
        case "onnx":
            (logits,) = scope["session"].run(None, {"image": images.numpy()})
            assert np.allclose(logits, expected, atol=1e-5)
        case "ncnn":
            assert scope["net"].input_names() == ["in0"]


def test_onnx_file_has_metadata_and_named_tensors(small: Exportable, files: Callable[..., Path]) -> None:
    path = files("onnx")
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert metadata["paretofit.preprocessing"] == {"mean": [0.3]}
    assert metadata["paretofit.architecture"] == small.network.architecture.to_json()
    [model_input], [model_output] = model.graph.input, model.graph.output
    assert (model_input.name, model_output.name) == ("image", "logits")
    assert [d.dim_param or d.dim_value for d in model_input.type.tensor_type.shape.dim] == ["batch", 1, SIDE, SIDE]
    modules = {name for name, _ in small.network.named_modules()}
    for node in model.graph.node:
        assert node.name.rpartition("/")[0] in modules | {"network"}, node.name
    assert b".venv" not in path.read_bytes()
    assert str(Path(__file__).parents[3]).encode() not in path.read_bytes()


def test_float16_halves_the_file_size(files: Callable[..., Path]) -> None:
    for name in ("onnx", "ncnn"):
        sizes = [files(name, precision).stat().st_size for precision in FORMS[name].precisions]
        assert sizes[1] < 0.7 * sizes[0], name


def test_other_input_sizes_are_supported(small: Exportable, tmp_path: Path) -> None:
    wide = exportable(small.network, (24, 40))
    compare(wide, open_session(written(wide, "ncnn", tmp_path), "ncnn"))


def test_unsupported_precision_is_rejected(small: Exportable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="float16 is not available for torch_export; use float32"):
        write(small, "torch_export", tmp_path / "net", "float16")


def test_too_small_input_is_rejected() -> None:
    with pytest.raises(ArchitectureError, match="too small"):
        exportable(network("wrn_D_K"), (0, SIDE))


def test_non_finite_weights_are_rejected() -> None:
    diverged = network("wrn_D_K")
    diverged.state_dict()["blocks.0.conv.weight"][0, 0, 0, 0] = float("inf")
    with pytest.raises(NonFiniteError, match=r"conv\.weight has infinite or NaN values, because its training diverged"):
        exportable(diverged, (SIDE, SIDE))


def test_stored_non_finite_checkpoint_fails(tmp_path: Path) -> None:
    """Such checkpoints may have been written before saving rejected them."""
    diverged = network("wrn_D_K")
    tensors = diverged.state_dict()
    tensors[next(name for name in tensors if name.endswith("running_var"))][0] = float("inf")
    record = {"architecture": diverged.architecture.to_json()}
    weights, out = tmp_path / "old.safetensors", tmp_path / "out.safetensors"
    checkpoint.write(weights, tensors, record)
    request = ExportRequest(
        weights=weights,
        from_supernet=False,
        method="mutualnet",
        record=record,
        format="safetensors",
        precision="float32",
        size=(SIDE, SIDE),
    )
    result = export(request, out)
    assert (result["state"], result["error"]["code"]) == ("failed", "source")
    assert "running_var has infinite or NaN values" in result["error"]["detail"]
    assert not out.exists()


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_damaged_file_is_rejected(files: Callable[..., Path], name: Format, tmp_path: Path) -> None:
    path = Path(shutil.copy(files(name), tmp_path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Exception, match=r"(?i)header|zip|protobuf|damaged|incomplete|cut short|archive"):
        open_session(path, name)


@pytest.mark.parametrize("error", [1e-3, float("nan"), float("inf")])
def test_different_outputs_fail_the_verification(small: Exportable, files: Callable[..., Path], error: float) -> None:
    session = open_session(files("safetensors"), "safetensors")

    def wrong(images: Array) -> Array:
        logits = session(images).copy()
        if len(images) == 2:
            logits[0, 0] += error
        return logits

    with pytest.raises(ParityError) as raised:
        compare(small, wrong)
    assert not raised.value.parity.max_abs_diff <= raised.value.parity.tolerance


def test_folding_keeps_the_outputs(small: Exportable) -> None:
    for source in (small, exportable(network("resnet18"), (SIDE, SIDE))):
        images = source.example(2)
        with torch.inference_mode():
            assert torch.allclose(folded(source.network)(images), source.network(images), atol=1e-5)
