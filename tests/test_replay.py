"""What the second evaluation repeats, seen from inside: batch statistics are taken once and used twice."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from revode import replay
from revode.backward import propagate
from revode.shear import Shear

from .helpers import REVERSIBLE, Branch, gradients, images, relative, stage, stored_copy, worst

D = torch.float64


class Summing(TorchDispatchMode):
    """Counts the batch normalizations that sum up over the batch, and those that use given statistics."""

    def __init__(self):
        super().__init__()
        self.sums = self.uses = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.native_batch_norm.default:
            self.sums, self.uses = self.sums + args[5], self.uses + (not args[5])
        return func(*args, **(kwargs or {}))


def backward_of(s, x):
    y = s(x)
    with Summing() as counted:
        y.square().sum().backward()
    return counted


@pytest.mark.parametrize("name", REVERSIBLE)
def test_statistics_are_summed_up_once(name):
    s = stage(name, blocks=3)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in s.modules())
    counted = backward_of(s, images())
    assert (counted.sums, counted.uses) == (0, norms)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_known_statistics_give_the_same_bits_and_the_same_gradient(dtype, affine, layout):
    norm = nn.BatchNorm2d(6, affine=affine, dtype=dtype)
    if affine:
        nn.init.normal_(norm.weight, 1, 0.5)
        nn.init.normal_(norm.bias)
    values = (images(8, 6, 9, dtype=dtype) * 3 + 1).contiguous(memory_format=layout)
    w = torch.randn_like(values)
    statistics = replay.Statistics([norm])
    statistics.evaluation(0)
    found = []
    for context in (statistics.taken, statistics.given):
        x = values.clone().requires_grad_()
        with context():
            y = norm(x)
        found.append([y, *torch.autograd.grad(y, [x, *norm.parameters()], w)])
    assert norm.num_batches_tracked == 1
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
        assert a.stride() == b.stride()


def check(s, x, *, sums, uses):
    plain = stored_copy(s)
    counted = backward_of(s, x)
    backward_of(plain, x)
    assert (counted.sums, counted.uses) == (sums, uses)
    for p, q in zip(s.parameters(), plain.parameters(), strict=True):
        assert (p.grad is None and q.grad is None) or relative(p.grad, q.grad) < 1e-12
    for b, c in zip(s.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(b, c)


def test_a_norm_at_several_depths_sums_up_again_where_it_must():
    g = Branch(4).double()
    shears = [Shear(k % 2, 1 - k % 2, g, 0.1) for k in range(4)]

    class Shared(nn.Module):
        def __init__(self, g):
            super().__init__()
            self.g = g
            self.memory = "reversible"

        def forward(self, x):
            steps = [s._replace(g=self.g) for s in shears]
            return torch.cat(propagate(steps, x.chunk(2, 1), memory=self.memory), 1)

    s, x = Shared(g), images(dtype=D)
    counted = backward_of(s, x)
    assert (counted.sums, counted.uses) == (3, 1)
    plain = Shared(Branch(4).double())
    plain.load_state_dict(s.state_dict())
    plain.memory = "stored"
    backward_of(plain, x)
    assert max(relative(p.grad, q.grad) for p, q in zip(s.parameters(), plain.parameters())) < 1e-12


class Twice(nn.Module):
    """One norm three times in one evaluation."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x):
        return self.norm(torch.tanh(self.norm(self.conv(torch.tanh(self.norm(x))))))


def test_a_norm_several_times_in_one_evaluation():
    check(stage(make=Twice, blocks=2).double(), images(dtype=D), sums=12, uses=0)


def test_the_second_forward_takes_over_and_the_first_sums_up_again():
    s, x = stage(blocks=2).double(), images(dtype=D)
    norms = 4
    first = s(x)
    plain = stored_copy(s)
    assert backward_of(s, 2 * x).uses == norms
    s.zero_grad()
    with Summing() as counted:
        first.square().sum().backward()
    assert (counted.sums, counted.uses) == (norms, 0)
    backward_of(plain, x)
    assert max(relative(p.grad, q.grad) for p, q in zip(s.parameters(), plain.parameters())) < 1e-12


def frozen(s):
    for m in s.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.requires_grad_(False)
    return s


def cumulative(s):
    for m in s.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = None
    return s


def without_running(s):
    for m in s.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.track_running_stats, m.running_mean, m.running_var, m.num_batches_tracked = False, None, None, None
    return s


@pytest.mark.parametrize(("change", "uses"), [(frozen, 4), (cumulative, 0), (without_running, 4)])
def test_unusual_norms(change, uses):
    check(change(stage(blocks=2).double()), images(dtype=D), sums=4 - uses, uses=uses)


def test_few_values_are_summed_up_again():
    s = stage(blocks=2)
    assert backward_of(s, images(3)).uses == 0
    assert backward_of(s, images(4)).uses == 4  # 256 values a channel


def test_half_precision_norms_run_as_always():
    s = stage(blocks=2).bfloat16()
    assert backward_of(s, images(dtype=torch.bfloat16)).uses == 0


def test_modules_are_left_as_they_were():
    s, x = stage(blocks=2), images()
    s(x).sum().backward()
    assert not any("forward" in m.__dict__ for m in s.modules())

    def stumble(m, args):
        raise RuntimeError("stumbled")

    handle = s.blocks[1][0].register_forward_pre_hook(stumble)
    with pytest.raises(RuntimeError, match="stumbled"):
        s(x)
    handle.remove()
    y = s(x)
    handle = s.blocks[0][0].register_forward_pre_hook(stumble)
    weight = s.blocks[0][0].conv1.weight
    with pytest.raises(RuntimeError, match="stumbled"):
        y.sum().backward()
    assert not any("forward" in m.__dict__ for m in s.modules())
    assert s.blocks[0][0].conv1.weight is weight
    handle.remove()
    plain = stored_copy(s)
    s.zero_grad()
    plain.zero_grad()
    assert worst(gradients(s, x), gradients(plain, x)) < 1e-3


def test_parameters_replaced_before_the_backward_pass():
    s, x = stage(blocks=2).double(), images(dtype=D)
    plain = stored_copy(s)
    old, new = s.blocks[0][0].conv1.weight, nn.Parameter(torch.zeros(4, 4, 3, 3, dtype=D))
    y = s(x)
    s.blocks[0][0].conv1.weight = new
    y.square().sum().backward()
    plain(x).square().sum().backward()
    assert relative(old.grad, plain.blocks[0][0].conv1.weight.grad) < 1e-12
    assert new.grad is None
    assert s.blocks[0][0].conv1.weight is new
