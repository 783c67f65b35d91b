"""The two measures of memory against cases where the answer is known, and what a stage needs by them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from revode.memory import peak_bytes, saved_bytes

from .helpers import REVERSIBLE, images, stage

KIB = 1024


def filled(kib: int) -> torch.Tensor:
    return torch.ones(kib * KIB // 4)


def test_peak_counts_what_lives_at_the_same_time():
    def call():
        a = filled(100)
        b = a + 1  # 200 KiB
        del a
        c = b + 1  # 200 again
        d = c + 1  # 300
        return b, c, d

    assert peak_bytes(call) == pytest.approx(300 * KIB, abs=KIB)


def test_peak_leaves_out_what_was_there_before_and_what_is_freed():
    a = filled(500)

    def call():
        for _ in range(5):
            a.mul_(2)
            filled(10)

    assert peak_bytes(call) == pytest.approx(10 * KIB, abs=KIB)


def test_peak_of_a_call_that_frees_more_than_it_takes_is_not_negative():
    held = [filled(100)]
    assert peak_bytes(held.clear) == 0


def test_peak_sees_inside_an_operation():
    """The temporary of a matrix product with a transposed copy is counted though no Python object holds it."""
    a = torch.ones(64, KIB)

    def call():
        return (a.expand(2, 64, KIB).contiguous() * 2).sum()

    assert peak_bytes(call) >= 2 * a.nbytes


@pytest.mark.needs_cuda
def test_peak_on_a_cuda_device():
    assert peak_bytes(lambda: torch.ones(KIB * KIB, device="cuda") + 1, "cuda") == pytest.approx(8 * KIB * KIB, abs=KIB)


def test_the_profiler_is_quiet():
    """A chapter that writes to stderr fails the build of the book."""
    code = "from revode.memory import peak_bytes; import torch; print(peak_bytes(lambda: torch.ones(256)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout == "1024\n"


def test_saved_counts_each_storage_once_and_no_excluded_one():
    x = filled(100).requires_grad_()
    w = filled(100).requires_grad_()
    assert saved_bytes(lambda: x * w) == 200 * KIB
    assert saved_bytes(lambda: x * w, exclude=[w]) == 100 * KIB
    assert saved_bytes(lambda: x * x + x.view(-1) * x.view(2, -1).view(-1)) == 100 * KIB
    assert saved_bytes(lambda: x + w) == 0


def test_saved_of_a_chain_is_one_tensor_a_link():
    x = filled(10).requires_grad_()

    def chain(n):
        y = x
        for _ in range(n):
            y = torch.tanh(y)
        return y

    assert saved_bytes(lambda: chain(7)) == 7 * 10 * KIB


@pytest.mark.parametrize("name", REVERSIBLE)
def test_both_measures_agree_that_depth_costs_nothing(name):
    """Slope 0: the saved bytes are equal, the peak grows by the parameters' gradients and a few small aliases."""
    x = images(8, 8, 16).requires_grad_()
    saved, peaks, gradients = [], [], []
    for blocks in (3, 9):
        s = stage(name, blocks)
        s(x).sum().backward()  # warm up
        s.zero_grad(set_to_none=True)
        saved.append(saved_bytes(lambda s=s: s(x), s.parameters()))
        peaks.append(peak_bytes(lambda s=s: s(x).sum().backward()))
        gradients.append(sum(p.nbytes for p in s.parameters()))
    assert saved[0] == saved[1]
    grown = peaks[1] - peaks[0] - (gradients[1] - gradients[0])
    assert grown < 0.1 * x.nbytes


def test_the_measures_see_stored_activations_grow():
    """What is counted would show a stage that keeps its activations: the tests above can fail."""
    x = images(8, 8, 16).requires_grad_()

    def measured(blocks):
        s = stage("hamiltonian", blocks, memory="stored")
        s(x).sum().backward()
        return saved_bytes(lambda: s(x), s.parameters()), peak_bytes(lambda: s(x).sum().backward())

    (saved, peak), (more_saved, more_peak) = measured(3), measured(9)
    assert more_saved - saved > 6 * x.nbytes
    assert more_peak - peak > 6 * x.nbytes


def test_a_forward_alone_keeps_two_states():
    """Input and final state; nn.Identity would be a field that keeps nothing by itself."""
    s = stage("revnet", 5, make=lambda c: nn.Conv2d(c, c, 1))
    x = images(8, 8, 16).requires_grad_()
    assert saved_bytes(lambda: s(x), s.parameters()) <= 2 * x.nbytes + KIB
