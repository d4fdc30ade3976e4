"""Draws and losses of the sandwich rule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from paretofit.search.methods.mutualnet.train import Draw, draw
from paretofit.search.training.step import sandwich_loss_backward

RESOLUTIONS = (32, 28, 24, 20)


def draws(step: int, *, seed: int = 0, random_widths: int = 2) -> list[Draw]:
    return draw(seed, step, widths=(0.25, 1.0), resolutions=RESOLUTIONS, random_widths=random_widths)


def test_smallest_width_is_first_then_the_requested_number_of_random_widths() -> None:
    for count in (0, 2, 5):
        drawn = draws(7, random_widths=count)
        assert len(drawn) == 1 + count
        assert drawn[0].width == 0.25


def test_draws_depend_only_on_seed_and_step() -> None:
    assert draws(3) == draws(3)
    assert draws(3) != draws(4)
    assert draws(3) != draws(3, seed=1)


def test_each_stage_draws_its_own_width() -> None:
    def stage_draws(step: int) -> list[Draw]:
        return draw(1, step, widths=(0.25, 1.0), resolutions=RESOLUTIONS, random_widths=2, stages=3)

    assert stage_draws(5) == stage_draws(5)
    samples = [stage_draws(step) for step in range(2000)]
    assert all(step[0].width == (0.25, 0.25, 0.25) for step in samples)
    widths = torch.tensor([sub.width for step in samples for sub in step[1:]])
    assert widths.shape == (4000, 3)
    assert widths.mean(dim=0).tolist() == pytest.approx([0.625] * 3, abs=0.02)
    assert torch.corrcoef(widths.T).fill_diagonal_(0).abs().max() < 0.05
    assert {sub.resolution for step in samples for sub in step} == set(RESOLUTIONS)


def test_widths_and_resolutions_are_uniform_and_independent() -> None:
    samples = [draws(step) for step in range(4000)]
    widths = torch.tensor([sub.width for step in samples for sub in step[1:]])
    assert widths.min() >= 0.25
    assert widths.max() <= 1.0
    shares = torch.histc(widths, 6, 0.25, 1.0) / len(widths)
    assert shares.tolist() == pytest.approx([1 / 6] * 6, abs=0.02)
    for place in range(3):  # Including the smallest width, whose resolution is also drawn.
        sides = [step[place].resolution for step in samples]
        assert [sides.count(side) / len(sides) for side in RESOLUTIONS] == pytest.approx([0.25] * 4, abs=0.03)
    equal_share = sum(step[0].resolution == step[1].resolution for step in samples) / len(samples)
    assert equal_share == pytest.approx(0.25, abs=0.03)


def test_students_learn_only_from_the_detached_teacher() -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(8, 5, dtype=torch.float64), torch.arange(8) % 3
    teacher, student = (nn.Linear(5, 3, dtype=torch.float64) for _ in range(2))
    losses = sandwich_loss_backward(lambda: teacher(x), [lambda: student(x), lambda: student(2 * x)], labels)

    log_p, p = teacher(x).log_softmax(1), teacher(x).softmax(1).detach()
    cross_entropy = -log_p[torch.arange(8), labels].mean()
    soft: Tensor = sum(
        (-(p * student(scaled).log_softmax(1)).sum(1).mean() for scaled in (x, 2 * x)), torch.zeros((), dtype=x.dtype)
    )
    entropy = -(p * p.log()).sum(1).mean()
    assert losses.teacher.item() == pytest.approx(cross_entropy.item())
    assert losses.students.item() == pytest.approx((soft - 2 * entropy).item())
    (expected_teacher,) = torch.autograd.grad(cross_entropy, [teacher.weight])
    (expected_student,) = torch.autograd.grad(soft, [student.weight])
    torch.testing.assert_close(teacher.weight.grad, expected_teacher)
    torch.testing.assert_close(student.weight.grad, expected_student)


def test_label_smoothing_and_gradient_scaling() -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(8, 5, dtype=torch.float64), torch.arange(8) % 3
    teacher, student = (nn.Linear(5, 3, dtype=torch.float64) for _ in range(2))
    losses = sandwich_loss_backward(
        lambda: teacher(x), [lambda: student(x)], labels, label_smoothing=0.3, scale=lambda loss: 4 * loss
    )
    log_p = teacher(x).log_softmax(1)
    expected = -0.7 * log_p[torch.arange(8), labels].mean() - 0.3 * log_p.mean()
    assert losses.teacher.item() == pytest.approx(expected.item())
    torch.testing.assert_close(teacher.weight.grad, 4 * torch.autograd.grad(expected, [teacher.weight])[0])
    plain = nn.Linear(5, 3, dtype=torch.float64)
    plain.load_state_dict(student.state_dict())
    sandwich_loss_backward(lambda: teacher(x), [lambda: plain(x)], labels)
    assert plain.weight.grad is not None
    torch.testing.assert_close(student.weight.grad, 4 * plain.weight.grad)
