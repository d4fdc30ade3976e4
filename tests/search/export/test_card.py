"""Contents of model cards."""

from __future__ import annotations

from typing import Any

from paretofit.search.export.card import Data, Made, render

RECORD: dict[str, Any] = {
    "key": "w0.5-r24",
    "architecture": {"family": "fd_mobilenet", "channels": 1},
    "input_size": [24, 20],
    "classes": ["cat", "dog"],
    "config": {"width": 0.5, "resolution": 24},
    "metrics": {"selection_top1": 0.75, "macs": 1234567.0, "params": 4321.0},
    "preprocessing": {
        "crop": [32, 30],
        "mean": [0.286],
        "std": [0.353],
        "resize": "bilinear",
        "align_corners": True,
        "antialias": False,
    },
    "evaluation": {"device": "cpu", "batch_size": 64, "dtype": "float32"},
    "provenance": {"torch": "2.13.0", "splits": {"selection": "ab"}},
    "role": "candidate",
}
SPEC: dict[str, Any] = {
    "method": {"kind": "mutualnet", "epochs": 3},
    "seed": 7,
    "dataset": {"classes": ["cat", "dog"], "images": {"train": 800, "report": 100}, "fingerprint": "f" * 8},
}


def card(data: Data, exports: tuple[Made, ...] = (), **preprocessing: Any) -> str:
    record = RECORD | {"preprocessing": RECORD["preprocessing"] | preprocessing}
    return render(record, point_id="pt_1", search_id="srch_1", spec=SPEC, data=data, formats=("onnx",), exports=exports)


def test_card_states_known_facts() -> None:
    text = card(Data("pets", {"kind": "upload"}, "CC BY 4.0"), (Made("w0.5-r24.onnx", "ab" * 32, 1.5e-6),))
    for message in (
        "# fd_mobilenet: w0.5-r24",
        "800 train, 100 report",
        "license: CC BY 4.0",
        "float32 [batch, 1, 24, 20]",
        "crop the center to 32 x 30",
        "subtract 0.286 and divide by 0.353",
        '"epochs": 3',
        "seed: 7",
        "| selection_top1 | 0.75 |",
        "| macs | 1,234,567 |",
        'onnxruntime.InferenceSession("w0.5-r24.onnx")',
        f"| w0.5-r24.onnx | 1.5e-06 | `{'ab' * 32}` |",
        "- point: pt_1",
        "- torch: 2.13.0",
    ):
        assert message in text, message
    assert "| top1 |" not in text


def test_preprocessing_steps_cover_small_images() -> None:
    """`test_evaluation_follows_the_model_card_steps` applies them."""
    data = Data("pets", {"kind": "upload"}, None)
    old = card(data)
    assert "rows from floor((image height - 32) / 2), columns from floor((image width - 30) / 2)" in old
    assert "a smaller image is surrounded by black (0 in every channel)" in old
    assert card(data, frame="zeros") == old
    enlarged = card(data, frame="resize")
    assert "less than 32 high or 30 wide, instead take its largest centered box" in enlarged
    assert "enlarge it to 32 x 30, bilinear with half-pixel centers" in enlarged
    assert "black" not in enlarged
    assert "2. divide by 255;" in enlarged


def test_license_statements() -> None:
    builtin = {"kind": "builtin", "name": "fashion_mnist"}
    assert "license: MIT" in card(Data("clothes", builtin, None))
    assert "license: CC0" in card(Data("clothes", builtin, "CC0"))
    assert "license: not stated" in card(Data("mine", {"kind": "upload"}, None))


def test_origin_statements() -> None:
    signed = {"kind": "url", "url": "https://data.example/pets.zip?signature=secret"}
    text = card(Data("pets", signed, None))
    assert "dataset: pets (fetched from data.example)" in text
    assert "secret" not in text
    assert "(read from s3://bucket/pets.zip)" in card(Data("pets", {"kind": "s3", "url": "s3://bucket/pets.zip"}, None))
