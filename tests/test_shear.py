"""The primitive: forward, inverse, and what is refused at the door."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from revode import shear
from revode.errors import FieldDtypeError, FieldModifiedInputError, FieldShapeError, NotInvertibleError
from revode.shear import Shear

from .helpers import relative


class Tanh(nn.Module):
    def __init__(self, n=6):
        super().__init__()
        self.linear = nn.Linear(n, n)

    def forward(self, x):
        return torch.tanh(self.linear(x))


def state(dtype=torch.float64):
    return torch.randn(5, 6, dtype=dtype), torch.randn(5, 6, dtype=dtype)


def test_shear_is_its_equation():
    g = Tanh().double()
    a, b = state()
    new, same = shear.forward([Shear(0, 1, g, scale=-0.3, c=0.9)], (a, b))
    torch.testing.assert_close(new, 0.9 * a - 0.3 * g(b), rtol=1e-15, atol=1e-15)
    assert same is b


def test_identity_shear():
    a, b = state()
    torch.testing.assert_close(shear.forward([Shear(1, 0, None, 0.5)], (a, b))[1], b + 0.5 * a)


@pytest.mark.parametrize("c", [1.0, 0.9, -1.0, 1.5])
def test_inverse_undoes_forward(c):
    shears = [Shear(k % 2, 1 - k % 2, Tanh().double(), 0.2, c) for k in range(10)]
    x = state()
    back = shear.inverse(shears, shear.forward(shears, x))
    assert max(relative(p, q) for p, q in zip(back, x)) < 1e-13


def test_the_given_state_is_left_alone():
    x = state()
    copies = [t.clone() for t in x]
    shears = [Shear(0, 1, Tanh().double()), Shear(1, 0, Tanh().double())]
    shear.inverse(shears, shear.forward(shears, x))
    assert all(torch.equal(p, q) for p, q in zip(x, copies))


def test_log_determinant_of_a_shear_is_that_of_c():
    """A shear with c = 1 keeps volume, whatever g is."""
    shears = [Shear(0, 1, Tanh(2).double(), 0.7), Shear(1, 0, Tanh(2).double(), -0.4, 0.8)]

    def flat(v):
        return torch.cat(shear.forward(shears, (v[:2], v[2:])))

    jacobian = torch.func.jacrev(flat)(torch.randn(4, dtype=torch.float64))
    assert math.isclose(torch.linalg.det(jacobian).item(), 0.8**2, rel_tol=1e-12)


def test_forgetting_shear_cannot_be_undone():
    s = [Shear(0, 1, Tanh().double(), c=0.0)]
    out = shear.forward(s, state())
    with pytest.raises(NotInvertibleError, match="c = 0"):
        shear.inverse(s, out)


class Function(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


@pytest.mark.parametrize(
    ("f", "error", "message"),
    [
        (lambda x: x[:, :3], FieldShapeError, r"shape \(5, 3\).*\(5, 6\)"),
        (lambda x: x > 0, FieldDtypeError, "bool"),
        (lambda x: (x, x), FieldDtypeError, "tuple"),
        (lambda x: x.relu_(), FieldModifiedInputError, "inplace=False"),
    ],
)
def test_bad_fields_are_refused(f, error, message):
    with pytest.raises(error, match=message):
        shear.forward([Shear(0, 1, Function(f))], state())


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (Shear(0, 0, None), ValueError, "two different parts"),
        (Shear(2, 0, None), ValueError, "target = 2"),
        (Shear(0, 1, torch.tanh), TypeError, "torch.nn.Module"),
        (Shear(0, 1, None, math.nan), ValueError, "finite"),
        (Shear(0, 1, None, 1.0, math.inf), ValueError, "finite"),
    ],
)
def test_malformed_shears_are_refused(bad, error, message):
    with pytest.raises(error, match=message):
        shear.check([Shear(0, 1, None), bad], 2)
