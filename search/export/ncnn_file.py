"""ncnn, through pnnx: a zip of `model.ncnn.param`, `model.ncnn.bin` and `metadata.json`."""

from __future__ import annotations

import json
import subprocess
import warnings
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import ncnn
import numpy as np
import pnnx
import torch
from torch.jit._trace import TracerWarning

from paretofit.search.export.formats import Precision
from paretofit.search.export.network import Array, Exportable

PARAM: Final = "model.ncnn.param"
BIN: Final = "model.ncnn.bin"
METADATA: Final = "metadata.json"
_INPUT: Final = "in0"
_OUTPUT: Final = "out0"
_CONVERTER: Final = Path(pnnx.__file__).with_name("pnnx")
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


def write(source: Exportable, path: Path, precision: Precision) -> None:
    """Convert the network for its input size. Raises RuntimeError with pnnx's output if it fails."""
    with TemporaryDirectory(dir=path.parent) as name:
        folder = Path(name)
        with warnings.catch_warnings():
            # pnnx reads TorchScript, and the file is for one input size.
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
            warnings.simplefilter("ignore", TracerWarning)
            traced = cast("Any", torch.jit).trace(source.network, source.example(1), check_trace=False)
            torch.jit.save(traced, folder / "model.pt")
        shape = ",".join(map(str, source.example(1).shape))
        half = int(precision == "float16")
        command = [str(_CONVERTER), "model.pt", f"inputshape=[{shape}]", f"fp16={half}"]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0 or not (folder / PARAM).is_file():
            raise RuntimeError(f"pnnx failed with status {done.returncode}: {done.stdout[-2000:]}")
        (folder / METADATA).write_text(json.dumps(source.record, sort_keys=True, indent=1))
        with zipfile.ZipFile(path, "w") as archive:
            for file in (PARAM, BIN, METADATA):
                archive.writestr(zipfile.ZipInfo(file, _EPOCH), (folder / file).read_bytes())


class NcnnSession:
    """A network in ncnn on the CPU in float32; it runs the images of a batch one by one."""

    def __init__(self, param: Path, weights: Path, threads: int) -> None:
        self._net = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
        if self._net.load_param(str(param)) != 0 or self._net.load_model(str(weights)) != 0:
            raise ValueError(f"{param.name} and {weights.name} are not an ncnn network: export the point again")

    def __call__(self, images: Array, /) -> Array:
        return np.stack([self._one(image) for image in images])

    def _one(self, image: Array) -> Array:
        extractor = self._net.create_extractor()
        extractor.input(_INPUT, ncnn.Mat(image))
        status, logits = extractor.extract(_OUTPUT)
        if status != 0:
            raise RuntimeError(f"ncnn could not run the network: status {status}")
        return np.array(logits, dtype=np.float32)


def open_file(path: Path, threads: int) -> NcnnSession:
    """The network of a zip that `write` wrote. Raises ValueError."""
    with TemporaryDirectory() as name, zipfile.ZipFile(path) as archive:
        folder = Path(name)
        for file in (PARAM, BIN):
            archive.extract(file, folder)
        return NcnnSession(folder / PARAM, folder / BIN, threads)
