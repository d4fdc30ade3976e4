"""Device slots by name."""

from __future__ import annotations

import pytest

from paretofit.core.cpus import available_cpus
from paretofit.launch.devices import Slot, slots
from paretofit.launch.process import LaunchError


def test_cpu_is_one_slot_with_all_cores_but_one() -> None:
    assert slots("cpu") == [Slot("cpu-0", "cpu", max(1, available_cpus() - 1))]


def test_none_has_no_slots() -> None:
    assert slots("none") == []


def test_cpu_slots_share_the_cores() -> None:
    shared = slots(f"cpu:{available_cpus()}")
    assert len(shared) == available_cpus()
    assert len({slot.name for slot in shared}) == available_cpus()
    assert {(slot.device, slot.threads) for slot in shared} == {("cpu", 1)}


def test_more_slots_than_cores_have_a_thread_each() -> None:
    assert {slot.threads for slot in slots(f"cpu:{2 * available_cpus()}")} == {1}


@pytest.mark.parametrize("devices", ["", "gpu", "cpu:0", "cpu:-1", "cpu:two", "cuda", "cuda:", "cuda:0,", "auto,cpu"])
def test_invalid_devices_are_rejected_with_the_valid_forms(devices: str) -> None:
    with pytest.raises(LaunchError, match=r"auto, cpu, cpu:N .*, cuda:i,j .* or none"):
        slots(devices)


def test_missing_device_is_rejected_with_the_available_ones() -> None:
    with pytest.raises(LaunchError, match=r"torch sees \d+ CUDA devices"):
        slots("cuda:999")


@pytest.mark.gpu
def test_cuda_devices_have_a_slot_each() -> None:
    assert slots("cuda:0")[0].device == "cuda:0"
    assert slots("auto")[0].device == "cuda:0"
