"""The reversible Runge-Kutta method: its formulas, its order, its inverse and its gradient."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from revode.analysis.continuous import ReversibleRK4, VanDerPol, compare
from revode.analysis.lyapunov import flow
from revode.errors import StepSizeError
from revode.memory import saved_bytes

F64 = torch.float64


def start(n: int = 3) -> Tensor:
    return 4 * torch.rand(n, 2, dtype=F64) - 2


def small_network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def test_a_step_is_that_of_the_formulas():
    f, h, l = VanDerPol(), 0.1, 0.9
    method = ReversibleRK4(f, h, l)
    y = z = start()
    found = method.start(y)
    for _ in range(3):
        found = method.advance(found, 1)
        y = l * y + (1 - l) * z + (flow(f, h)(z) - z)
        z = z - (flow(f, -h)(y) - y)
    torch.testing.assert_close(found, (y, z), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("l", [0.9, 0.999, 1.0])
def test_order_is_that_of_the_method_inside(l):
    f, y = VanDerPol(), start()
    exact = y
    for _ in range(4000):
        exact = flow(f, 1 / 4000)(exact)
    steps = (80, 160, 320)
    errors = [(ReversibleRK4(f, 1 / n, l)(y, n) - exact).norm().item() for n in steps]
    assert np.diff(np.log2(errors)) == pytest.approx([-4, -4], abs=0.2)


def test_it_comes_back_to_the_start():
    method, y = ReversibleRK4(VanDerPol(), 0.05), start()
    end = method.advance(method.start(y), 200)
    assert (end[0] - y).norm() > 0.1
    for back in method.back(end, 200):
        torch.testing.assert_close(back, y, rtol=1e-10, atol=1e-10)


def test_gradient_is_that_of_stored_values():
    f = small_network()
    method, y = ReversibleRK4(f, 0.05), start().requires_grad_()
    found, wanted = (
        torch.autograd.grad(method(y, 150, memory).square().sum(), [y, *f.parameters()])
        for memory in ("reversible", "stored")
    )
    for a, b in zip(found, wanted):
        assert ((a - b).norm() / b.norm()).item() < 1e-10


def test_memory_does_not_grow_with_the_steps():
    f, y = small_network(), start().requires_grad_()
    kept = {
        memory: [saved_bytes(lambda m=memory, n=n: ReversibleRK4(f, 0.05)(y, n, m), f.parameters()) for n in (10, 100)]
        for memory in ("reversible", "stored")
    }
    assert kept["reversible"][0] == kept["reversible"][1] < 1000
    assert kept["stored"][1] > 8 * kept["stored"][0]


def test_ways_to_the_gradient_learn_alike():
    rows = {row["way"]: row for row in compare(steps=48, parts=2, checkpoints=(12,), epochs=3)}
    assert list(rows) == ["stored", "reversible", "reversible, stored", "checkpoints 12"]
    loss = {way: row["loss"] for way, row in rows.items()}
    assert loss["checkpoints 12"] == pytest.approx(loss["stored"], rel=1e-12)
    assert loss["reversible"] == pytest.approx(loss["reversible, stored"], rel=1e-10)
    assert loss["reversible"] == pytest.approx(loss["stored"], rel=1e-2)
    assert loss["reversible"] != loss["stored"]
    assert rows["stored"]["ratio"] == 1
    assert rows["reversible"]["saved_bytes"] < rows["checkpoints 12"]["saved_bytes"] < rows["stored"]["saved_bytes"]


def test_what_is_no_method_is_refused():
    for l in (0, -0.5, 1.1, math.nan):
        with pytest.raises(ValueError, match="larger than 0 and at most 1"):
            ReversibleRK4(VanDerPol(), 0.1, l)
    for h in (0.0, math.inf):
        with pytest.raises(StepSizeError, match="finite number other than 0"):
            ReversibleRK4(VanDerPol(), h)
    with pytest.raises(TypeError, match="wrap the function"):
        ReversibleRK4(torch.sin, 0.1)
    for steps in (0, 1.5):
        with pytest.raises(ValueError, match="whole number, 1 or more"):
            ReversibleRK4(VanDerPol(), 0.1)(start(), steps)
    with pytest.raises(ValueError, match="multiple of parts"):
        compare(steps=5, parts=2)
