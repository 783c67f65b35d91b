"""The schemes: each is its equation, has its declared order, its stability limit, and its inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import revode
from revode import Euler, Hamiltonian, Leapfrog, Midpoint, Momentum, RevNet
from revode.errors import ChannelError, NotInvertibleError, StepSizeError

from .helpers import ALL, REVERSIBLE, relative

D = torch.float64


class Field(nn.Module):
    """A residual function given by a formula."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def block(*functions):
    return nn.ModuleList(Field(f) for f in functions)


def run(scheme, functions, x, steps):
    b = block(*functions)
    state = scheme.start(x)
    for j in range(steps):
        state = scheme.step(state, b, j)
    return scheme.finish(state, steps), state


# --- each scheme is the equation of its paper -----------------------------------------------------------------------


def test_hamiltonian_is_verlet():
    f, g = torch.sin, torch.tanh
    y, z = torch.randn(3, 2, dtype=D), torch.randn(3, 2, dtype=D)
    out, _ = run(Hamiltonian(0.3), (f, g), torch.cat([y, z], 1), 1)
    y1 = y + 0.3 * f(z)
    torch.testing.assert_close(out, torch.cat([y1, z - 0.3 * g(y1)], 1))


def test_revnet_is_additive_coupling():
    f, g = torch.sin, torch.tanh
    y, z = torch.randn(3, 2, dtype=D), torch.randn(3, 2, dtype=D)
    out, _ = run(RevNet(1.0), (f, g), torch.cat([y, z], 1), 1)
    y1 = y + f(z)
    torch.testing.assert_close(out, torch.cat([y1, z + g(y1)], 1))


def test_midpoint_is_the_two_step_rule():
    h, f, y = 0.2, torch.sin, [torch.randn(3, 2, dtype=D)]
    y.append(y[0] + h * f(y[0]))
    for j in range(1, 6):
        y.append(y[j - 1] + 2 * h * f(y[j]))
    for steps in range(7):
        torch.testing.assert_close(run(Midpoint(h), (f,), y[0], steps)[0], y[steps])


@pytest.mark.parametrize("start", ["rest", "half-kick"])
def test_leapfrog_is_the_two_step_rule(start):
    h, f, y0 = 0.2, torch.sin, torch.randn(3, 2, dtype=D)
    first = {"rest": 1.0, "half-kick": 0.5}[start]
    y = [y0, y0 - first * h**2 * f(y0)]
    for j in range(1, 6):
        y.append(2 * y[j] - y[j - 1] - h**2 * f(y[j]))
    for steps in range(7):
        torch.testing.assert_close(run(Leapfrog(h, start), (f,), y0, steps)[0], y[steps])


@pytest.mark.parametrize("start", ["rest", "field"])
def test_momentum_is_the_rule_of_its_paper(start):
    h, c, f, x = 0.2, [0.9, 0.5, 0.7, 0.0, 0.8], torch.sin, torch.randn(3, 2, dtype=D)
    xs, v = [x], torch.zeros_like(x)
    for j in range(5):
        v = f(xs[j]) if j == 0 and start == "field" else c[j] * v + (1 - c[j]) * f(xs[j])
        xs.append(xs[j] + h * v)
    for steps in range(6):
        torch.testing.assert_close(run(Momentum(h, c, start), (f,), x, steps)[0], xs[steps])


def test_leapfrog_as_two_shears_rounds_less_than_the_two_step_form():
    h, n = 0.01, 2000

    def two_step(dtype):
        a = b = torch.ones(1, 16, dtype=dtype) * torch.linspace(0.5, 1.5, 16, dtype=dtype)
        for _ in range(n):
            a, b = b, 2 * b - a - h**2 * torch.sin(b)
        return b

    x = torch.linspace(0.5, 1.5, 16)[None]
    exact = two_step(D)
    shears = relative(run(Leapfrog(h), (torch.sin,), x, n)[0], exact)
    assert shears * 10 < relative(two_step(torch.float32), exact)


# --- order of accuracy by slope ------------------------------------------------------------------------------------


def slope(errors, steps):
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def pendulum(t):
    """q'' = -sin q from rest at q = 1, by Richardson-free brute force: leapfrog with a very small step."""
    q, p, n = np.float64(1.0), np.float64(0.0), 200_000
    h = t / n
    p -= 0.5 * h * math.sin(q)
    for _ in range(n):
        q += h * p
        p -= h * math.sin(q)
    return q, p + 0.5 * h * math.sin(q)


T = 2.0
STEPS = [40, 80, 160, 320]


@pytest.fixture(scope="module")
def exact():
    return pendulum(T)


def errors(make, functions, x, target):
    return [(run(make(T / n), functions, x, n)[0] - target).norm().item() for n in STEPS]


def test_order_of_hamiltonian_collocated_and_staggered(exact):
    """Y is the position, Z the velocity."""
    functions = (lambda z: z, torch.sin)
    x, target = torch.tensor([[1.0, 0.0]], dtype=D), torch.tensor([exact], dtype=D)
    collocated = slope(errors(Hamiltonian, functions, x, target), STEPS)
    assert abs(collocated - Hamiltonian.order) < 0.1
    found = []
    for n in STEPS:
        scheme, b = Hamiltonian(T / n), block(*functions)
        state = scheme.half_kick(scheme.start(x), b)
        for j in range(n):
            state = scheme.step(state, b, j)
        state = scheme.half_kick(state, b, sign=-1.0)
        found.append((torch.cat(state, 1) - target).norm().item())
    assert abs(slope(found, STEPS) - Hamiltonian.order_staggered) < 0.1


def test_order_of_midpoint_and_euler():
    a = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=D)
    x = torch.tensor([[1.0, 0.5]], dtype=D)
    target = x @ torch.linalg.matrix_exp(T * a).T
    for scheme in (Midpoint, Euler):
        assert abs(slope(errors(scheme, (lambda y: y @ a.T,), x, target), STEPS) - scheme.order) < 0.1


@pytest.mark.parametrize("start", ["rest", "half-kick"])
def test_order_of_leapfrog_by_starting_rule(start, exact):
    x, target = torch.tensor([[1.0]], dtype=D), torch.tensor([[exact[0]]], dtype=D)
    found = slope(errors(lambda h: Leapfrog(h, start), (torch.sin,), x, target), STEPS)
    assert abs(found - Leapfrog(0.1, start).order) < 0.1


def test_order_of_revnet():
    x = torch.tensor([[1.0, 0.0]], dtype=D)
    target = x @ torch.linalg.matrix_exp(T * torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=D)).T
    assert abs(slope(errors(RevNet, (lambda z: z, lambda y: -y), x, target), STEPS) - RevNet.order) < 0.1


ROTATION = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=D)


@pytest.mark.parametrize("start", ["rest", "field"])
def test_order_of_momentum_against_the_first_order_equation(start):
    """For a fixed c the steps tend to x' = f(x)."""
    x = torch.tensor([[1.0, 0.5]], dtype=D)
    target = x @ torch.linalg.matrix_exp(T * ROTATION).T
    found = errors(lambda h: Momentum(h, 0.6, start), (lambda y: y @ ROTATION.T,), x, target)
    assert abs(slope(found, STEPS) - Momentum.order) < 0.1


@pytest.mark.parametrize("start", ["rest", "field"])
def test_order_of_momentum_against_the_second_order_equation(start):
    """For 1 - c = h / eps the steps tend to eps x'' + x' = f(x)."""
    eps, x, zero, one = 0.5, torch.tensor([[1.0, 0.5]], dtype=D), torch.zeros(2, 2, dtype=D), torch.eye(2, dtype=D)
    matrix = torch.cat((torch.cat((zero, one), 1), torch.cat((ROTATION, -one), 1) / eps))
    begin = torch.cat((x, x @ ROTATION.T if start == "field" else 0 * x), 1)
    target = (begin @ torch.linalg.matrix_exp(T * matrix).T)[:, :2]
    found = errors(lambda h: Momentum(h, 1 - h / eps, start), (lambda y: y @ ROTATION.T,), x, target)
    assert abs(slope(found, STEPS) - 1) < 0.1
    with pytest.raises(AssertionError):  # and not to x' = f(x)
        torch.testing.assert_close(target, x @ torch.linalg.matrix_exp(T * ROTATION).T, rtol=0.01, atol=0.01)


# --- stability limit ------------------------------------------------------------------------------------------------


def growth(scheme, functions, x, steps=400):
    return run(scheme, functions, x, steps)[0].norm().item()


@pytest.mark.parametrize("omega", [0.5, 3.0])
def test_declared_stability_limit_is_sharp(omega):
    """Just below the limit nothing grows, just above it something explodes."""
    a = omega * torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=D)
    x = torch.tensor([[1.0, 0.3]], dtype=D)
    cases = {
        "hamiltonian": (lambda z: omega * z, lambda y: omega * y),
        "revnet": (lambda z: omega * z, lambda y: -omega * y),
        "midpoint": (lambda y: y @ a.T,),
        "leapfrog": (lambda y: omega**2 * y,),
    }
    for name, functions in cases.items():
        make = revode.SCHEMES[name]
        limit = make.stability_limit / omega
        assert growth(make(0.99 * limit), functions, x) < 100, name
        assert growth(make(1.01 * limit), functions, x) > 1e6, name


def test_euler_grows_on_every_oscillation():
    a = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=D)
    found = growth(Euler(0.1), (lambda y: y @ a.T,), torch.tensor([[1.0, 0.0]], dtype=D), 100)
    assert math.isclose(found, 1.01**50, rel_tol=1e-12)
    assert Euler.stability_limit == 0


@pytest.mark.parametrize("c", [0.3, 0.9, 0.99])
def test_momentum_grows_on_every_oscillation(c):
    """The larger root of r^2 - (1 + c + (1 - c) z) r + c, the rule on x' = z x / h, for z = i h omega."""
    for z in (1e-2, 0.1, 1.0):
        scheme, one = Momentum(z, c), torch.eye(4, dtype=D)
        matrix = torch.stack([torch.cat(scheme.step((e[None, :2], e[None, 2:]), block(lambda y: y @ ROTATION.T)), 1)[0]
                              for e in one])  # fmt: skip
        found = torch.linalg.eigvals(matrix).abs().max().item()
        expected = max(abs(np.roots([1, -(1 + c + (1 - c) * 1j * z), c])))
        assert found == pytest.approx(expected, abs=1e-12)
        assert found > 1 + 0.1 * z**2 * (1 - c)
    assert Momentum.stability_limit == 0


# --- structure ------------------------------------------------------------------------------------------------------


def test_hamiltonian_step_is_symplectic():
    k1, k2 = torch.randn(3, 3, dtype=D), torch.randn(3, 3, dtype=D)
    b = block(lambda z: torch.tanh(z @ k1.T) @ k1, lambda y: torch.tanh(y @ k2.T) @ k2)
    scheme = Hamiltonian(0.7)
    m = torch.func.jacrev(lambda v: torch.cat(scheme.step((v[:3], v[3:]), b)))(torch.randn(6, dtype=D))
    j = torch.zeros(6, 6, dtype=D)
    j[:3, 3:], j[3:, :3] = torch.eye(3), -torch.eye(3)
    torch.testing.assert_close(m.T @ j @ m, j, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_inverse_step(name):
    scheme = revode.SCHEMES[name](0.3)
    b = block(*[torch.sin, torch.tanh][: scheme.fields])
    state = scheme.start(torch.randn(4, 6, dtype=D))
    for j in range(5):
        new = scheme.step(state, b, j)
        back = scheme.inverse(new, b, j)
        assert max((p - q).abs().max().item() for p, q in zip(back, state)) < 1e-14
        state = new


def test_euler_says_that_it_cannot_be_undone():
    scheme, b = Euler(0.1), block(torch.sin)
    with pytest.raises(NotInvertibleError, match="not reversible"):
        scheme.inverse(scheme.start(torch.ones(1, 2)), b)
    assert not scheme.reversible


@pytest.mark.parametrize("name", ALL)
def test_every_scheme_declares_itself(name):
    scheme = revode.SCHEMES[name](0.1)
    assert scheme.order in (1, 2)
    assert scheme.stability_limit in (0, 1, 2)
    assert "arXiv" in scheme.source
    assert name == scheme.name


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "fast", None])
@pytest.mark.parametrize("name", ALL)
def test_step_size_must_be_finite(name, bad):
    with pytest.raises(StepSizeError, match="finite"):
        revode.SCHEMES[name](bad)
    scheme = revode.SCHEMES[name](0.1)
    with pytest.raises(StepSizeError, match="finite"):
        scheme.h = bad
    assert scheme.h == 0.1


@pytest.mark.parametrize("name", ["hamiltonian", "revnet"])
def test_odd_channels_are_refused(name):
    with pytest.raises(ChannelError, match=r"\(2, 7, 4, 4\).*even"):
        revode.SCHEMES[name](0.1).start(torch.zeros(2, 7, 4, 4))


def test_leapfrog_refuses_an_unknown_start():
    with pytest.raises(ValueError, match="half-kick"):
        Leapfrog(0.1, start="cold")
