"""Named sources from a local server: downloaded once, verified, converted, cached."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from paretofit.core.http import Outbound
from paretofit.models import checkpoint
from paretofit.models.build import build
from paretofit.models.pretrained import sources
from paretofit.models.pretrained.fetch import fetch, fetch_source, identify
from paretofit.models.pretrained.record import PretrainedError, WeightsRecord
from paretofit.models.pretrained.sources import SOURCES, PackageFile, PublishedFile, Source
from paretofit.models.pretrained.start import start_of
from paretofit.models.pretrained.transfer import transfer
from tests.models.pretrained.graphs import graph, mobilenet_v1

HERE = Outbound.to(["127.0.0.0/8"], timeout=5)
NETWORK = "TEST_PACKAGE_INDEX"


class Server(ThreadingHTTPServer):
    """Serves the files of a folder and counts requests."""

    def __init__(self, folder: Path) -> None:
        self.requests = 0
        counting = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def do_GET(self) -> None:
                counting.requests += 1
                super().do_GET()

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "published"
    folder.mkdir()
    instance = Server(folder)
    thread = Thread(target=instance.serve_forever, daemon=True)
    thread.start()
    yield instance
    instance.shutdown()
    instance.server_close()
    thread.join()


def publish(server: Server, **changes: Any) -> Source:
    """Publish a file whose name ends in its digest; return the source that refers to it."""
    record = WeightsRecord(
        family="mobilenet_v1",
        width=0.25,
        classes=10,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        layout="test",
        source="a test",
        sha256="0" * 64,
        licence="CC0-1.0",
    )
    torch.manual_seed(0)
    tensors = build(record.architecture()).state_dict()
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    path = server.folder / "weights"
    checkpoint.write(path, kept, record.model_dump(mode="json"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(path.with_name(f"small-{digest[:8]}.safetensors"))
    source = Source(
        name="small",
        title="a small network",
        family="mobilenet_v1",
        width=0.25,
        origin=PublishedFile(url=f"{server.url}/{path.name}"),
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        licence="Apache-2.0",
    )
    return replace(source, **changes)


def test_published_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    source, cache, target = publish(server), tmp_path / "cache", tmp_path / "w.safetensors"
    record = fetch_source(source, target, cache=cache, outbound=HERE)
    assert (record.family, record.width, record.classes) == ("mobilenet_v1", 0.25, 10)
    assert (record.mean, record.std, record.licence) == (source.mean, source.std, "Apache-2.0")
    assert record.source == "small: a small network"
    (cached,) = cache.iterdir()
    assert record.sha256 == hashlib.sha256(cached.read_bytes()).hexdigest()
    assert start_of(target).weights == record
    assert identify(cached) is None
    first = target.read_bytes()
    assert fetch_source(source, target, cache=cache, outbound=HERE) == record
    assert (server.requests, target.read_bytes()) == (1, first)


def test_damaged_cache_file_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    source, cache, target = publish(server), tmp_path / "cache", tmp_path / "w.safetensors"
    fetch_source(source, target, cache=cache, outbound=HERE)
    (cached,) = cache.iterdir()
    original = cached.read_bytes()
    cached.write_bytes(original[:-1])
    fetch_source(source, target, cache=cache, outbound=HERE)
    assert (server.requests, cached.read_bytes()) == (2, original)


def test_failed_downloads_suggest_manual_download_and_command(server: Server, tmp_path: Path) -> None:
    source, cache, target = publish(server), tmp_path / "cache", tmp_path / "w.safetensors"
    origin = source.origin
    assert isinstance(origin, PublishedFile)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        unreachable = f"http://127.0.0.1:{closed.getsockname()[1]}/{origin.file}"
        served = server.folder / origin.file
        (server.folder / "other-00000000.safetensors").write_bytes(served.read_bytes())
        for url, outbound, message in (
            (unreachable, HERE, "refused"),
            (f"{server.url}/gone-00000000.safetensors", HERE, "the server answered with status 404"),
            (
                f"{server.url}/other-00000000.safetensors",
                HERE,
                "the SHA-256 of the download does not begin with 00000000",
            ),
            (origin.url, None, "only https://"),
        ):
            with pytest.raises(PretrainedError) as error:
                fetch_source(replace(source, origin=PublishedFile(url=url)), target, cache=cache, outbound=outbound)
            file = url.rpartition("/")[2]
            for each in (message, f"download {url}", f"`paretofit weights add {file} --source small`"):
                assert each in str(error.value)
    assert not target.exists()
    assert not list(cache.iterdir())


def test_manually_downloaded_file_is_verified(server: Server, tmp_path: Path) -> None:
    source, cache, target = publish(server), tmp_path / "cache", tmp_path / "w.safetensors"
    by_hand = tmp_path / "renamed"
    by_hand.write_bytes((server.folder / source.origin.file).read_bytes())
    record = fetch_source(source, target, cache=cache, file=by_hand)
    assert record.licence == "Apache-2.0"
    assert server.requests == 0
    by_hand.write_bytes(b"other")
    with pytest.raises(PretrainedError, match=r"which is not that of small-.*\.safetensors: download it again"):
        fetch_source(source, target, cache=cache, file=by_hand)


def test_source_with_wrong_architecture_writes_no_file(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "w.safetensors"
    with pytest.raises(PretrainedError, match=r"contains mobilenet_v1 x 0.25 instead of mobilenet_v1 x 0.5"):
        fetch_source(publish(server, width=0.5), target, cache=tmp_path / "cache", outbound=HERE)
    assert not target.exists()


def test_non_commercial_weights_are_not_downloaded(server: Server, tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match="non-commercial"):
        fetch_source(publish(server, licence="CC-BY-NC-4.0"), tmp_path / "w", cache=tmp_path / "c", outbound=HERE)
    assert server.requests == 0


def test_unknown_source_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(PretrainedError, match="unknown source"):
        fetch("resnet19", tmp_path / "w", cache=tmp_path / "c")


def build_package(folder: Path) -> tuple[Path, PackageFile]:
    """A frozen graph of MobileNetV1 x 0.25 in a source distribution."""
    content = graph(mobilenet_v1(0.25))
    path, member = folder / "sample-1.0.tar.gz", "sample-1.0/graph.pb"
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return path, PackageFile(
        requirement="sample==1.0",
        kind="sdist",
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member=member,
        member_sha256=hashlib.sha256(content).hexdigest(),
    )


def build_shared_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Build a package shared by two sources, and make these the only known sources."""
    path, origin = build_package(folder)
    two = {name: replace(SOURCES[name], width=0.25, origin=origin) for name in ("mobilenet_v1", "fd_mobilenet")}
    monkeypatch.setattr(sources, "SOURCES", two)
    return path


def test_package_shared_by_two_sources_needs_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build_shared_package(tmp_path, monkeypatch)
    with pytest.raises(
        PretrainedError, match=r"sample-1\.0\.tar\.gz: mobilenet_v1 and fd_mobilenet are both made from"
    ):
        identify(path)
    source = identify(path, "fd_mobilenet")
    assert source is not None
    assert fetch(source.name, tmp_path / "w", cache=tmp_path / "c", file=path).family == "fd_mobilenet"


def test_mobilenet_v1_graph_equals_tensorflow(tmp_path: Path) -> None:
    """On a mirrored image with one row: only columns are mirrored, and one row is padded alike by both rules."""
    path, origin = build_package(tmp_path)
    source = replace(SOURCES["mobilenet_v1"], width=0.25, origin=origin)
    target = tmp_path / "w.safetensors"
    record = fetch_source(source, target, cache=tmp_path / "cache", file=path)
    assert record.sha256 == origin.member_sha256
    assert (record.classes, record.mean) == (1001, (0.5, 0.5, 0.5))
    start = start_of(target)
    network = build(start.architecture)
    transfer(start, start.architecture, same_classes=True).load(network)
    image = torch.randn(2, 3, 1, 64, dtype=torch.float64)
    with torch.no_grad():
        logits, expected = network.double().eval()(image.flip(3)), tensorflow_logits(image)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=1e-3, atol=1e-3)


def tensorflow_logits(x: Tensor) -> Tensor:
    """Logits of the graph, computed from the definitions of its operations."""
    constants = {name: torch.from_numpy(array.astype("f8")) for name, array in mobilenet_v1(0.25).items()}

    def unit(x: Tensor, scope: str, kernel: str, stride: int = 1) -> Tensor:
        weight = constants[f"MobilenetV1/{scope}/{kernel}"]
        depthwise = kernel == "depthwise_weights"
        weight = weight.permute(2, 3, 0, 1) if depthwise else weight.permute(3, 2, 0, 1)
        padding = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // stride) - 1) * stride + weight.shape[2] - side, 0)
            padding += [total // 2, total - total // 2]
        x = F.conv2d(F.pad(x, padding), weight, stride=stride, groups=x.shape[1] if depthwise else 1)
        beta, gamma, mean, variance = (
            constants[f"MobilenetV1/{scope}/BatchNorm/{leaf}"].view(1, -1, 1, 1)
            for leaf in ("beta", "gamma", "moving_mean", "moving_variance")
        )
        return ((x - mean) / (variance + 0.001).sqrt() * gamma + beta).clamp(0, 6)

    x = unit(x, "Conv2d_0", "weights", stride=2)
    for i in range(1, 14):
        x = unit(x, f"Conv2d_{i}_depthwise", "depthwise_weights", stride=2 if i in (2, 4, 6, 12) else 1)
        x = unit(x, f"Conv2d_{i}_pointwise", "weights")
    head = "MobilenetV1/Logits/Conv2d_1c_1x1"
    return x.mean((2, 3)) @ constants[f"{head}/weights"][0, 0] + constants[f"{head}/biases"]


def test_fd_mobilenet_is_built_from_mobilenet_v1_blocks(tmp_path: Path) -> None:
    path, origin = build_package(tmp_path)
    starts = {}
    for name in ("mobilenet_v1", "fd_mobilenet"):
        target = tmp_path / f"{name}.safetensors"
        source = replace(SOURCES[name], width=0.25, origin=origin)
        record = fetch_source(source, target, cache=tmp_path / "cache", file=path)
        starts[name] = start_of(target)
    assert (record.family, record.classes) == ("fd_mobilenet", None)
    assert "Made of blocks 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12 of mobilenet_v1" in record.notes[-1]
    assert not any("classifier" in note for note in record.notes)
    assert {name.split(".")[1] for name in record.dropped} <= {"11", "13", "14"}
    # Ten tensors of each of two blocks, and the classifier.
    assert (len(record.dropped), record.dropped_count) == (20, 22)
    source_tensors = starts["mobilenet_v1"].tensors
    for name, tensor in starts["fd_mobilenet"].tensors.items():
        assert torch.equal(tensor, source_tensors[name.replace("blocks.11.", "blocks.12.")])


@pytest.mark.skipif(NETWORK not in os.environ, reason=f"needs a package index: set {NETWORK}=1")
@pytest.mark.parametrize(("name", "tensors"), [("mobilenet_v2", 260), ("mobilenet_v1", 137), ("fd_mobilenet", 115)])
def test_package_sources_are_downloaded_and_converted(name: str, tensors: int, tmp_path: Path) -> None:
    record = fetch(name, tmp_path / "w.safetensors", cache=tmp_path / "cache")
    start = start_of(tmp_path / "w.safetensors")
    assert len(start.tensors) == tensors
    assert transfer(start, record.architecture(), same_classes=False).state
