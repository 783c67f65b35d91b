"""The momentum rule: its learned factor against autograd on the formula as it is printed."""

from __future__ import annotations

import copy
import json
import warnings

import pytest
import torch
from torch import Tensor, nn

import revode
import revode.backward
from revode import shear as primitive
from revode.backward import propagate
from revode.memory import saved_bytes
from revode.networks import Network
from revode.schemes import Momentum
from revode.shear import Shear
from revode.unwind import snapshot_positions

from .helpers import Branch, gradients, images, relative, stored_copy, worst

D = torch.float64
MANY = [0.95, 0.5, 0.8, 0.6]


def momentum(blocks: int = 4, c=0.9, start: str = "rest", learn: bool = True, h: float = 0.5, **kwargs) -> revode.Stage:
    made = [[Branch(8, **{"norm": False, "act": nn.Tanh} | kwargs)] for _ in range(blocks)]
    return revode.Stage(Momentum(h, c, start, learn=learn), made)


class Printed(nn.Module):
    """v <- c v + (1 - c) f(x);  x <- x + h v, as it stands in the paper, on the fields of a stage."""

    def __init__(self, stage: revode.Stage):
        super().__init__()
        self.stage = copy.deepcopy(stage)

    def forward(self, x: Tensor) -> Tensor:
        rule = self.stage.scheme
        c = torch.sigmoid(rule.r).expand(len(self.stage.blocks))
        v = torch.zeros_like(x)
        for j, (f,) in enumerate(self.stage.blocks):
            v = f(x) if j == 0 and rule.start_rule == "field" else c[j] * v + (1 - c[j]) * f(x)
            x = x + rule.h * v
        return x


def printed(stage: revode.Stage, x: Tensor) -> dict[str, Tensor]:
    return {n.removeprefix("stage."): t for n, t in gradients(Printed(stage), x).items()}


# --- the gradient of c ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("c", "start", "norm"), [(0.9, "rest", False), ([*MANY, 0.9] * 10, "field", True)])
def test_gradient_of_everything_at_50_blocks(c, start, norm):
    s, x = momentum(50, c, start, norm=norm), images()
    exact, plain = printed(copy.deepcopy(s).double(), x.double()), gradients(stored_copy(s), x)
    assert (exact["scheme.r"].abs() > 1e-3).sum() >= exact["scheme.r"].numel() - (start == "field")
    assert worst(gradients(copy.deepcopy(s).double(), x.double()), exact) < 1e-10
    found = gradients(s, x)
    size = {k: t.norm() for k, t in exact.items()}
    if exact["scheme.r"].numel() == 1:  # a sum over the blocks, which nearly cancels: errors are those of its terms
        layers = revode.Stage(Momentum(s.h, [c] * 50, start, learn=True), copy.deepcopy(s.blocks))
        each = printed(layers.double(), x.double())["scheme.r"]
        torch.testing.assert_close(each.sum(), exact["scheme.r"])
        size["scheme.r"] = each.abs().sum()
    for k in exact:
        ours, others = ((g[k] - exact[k]).norm() / size[k] for g in (found, plain))
        assert ours <= 10 * max(others, 1e-7), k


@pytest.mark.parametrize("c", [0.9, MANY])
def test_exact_arithmetic_has_the_gradient_of_the_float(c):
    s, x = momentum(c=c).double(), images(dtype=D)
    expected = printed(s, x)
    s.arithmetic = "exact"
    stored = stored_copy(s)
    assert worst(gradients(s, x), expected) < 1e-6  # the state is rounded to 27 digits
    assert worst(gradients(stored, x), expected) < 1e-6
    assert worst(gradients(s, x), gradients(stored, x)) < 1e-12
    start = s.encode(x)
    back = s.inverse_state(s.forward_state(start))
    assert all(torch.equal(a.ints, b.ints) for a, b in zip(back, start))


def test_compiled_in_one_graph():
    torch._dynamo.reset()
    for c, start in ((0.9, "field"), (MANY[:2], "rest")):
        s, x = momentum(2, c, start).double(), images(2, dtype=D)
        found = gradients(torch.compile(s, fullgraph=revode.backward.TRACEABLE, backend="aot_eager"), x)
        assert worst({n.replace("_orig_mod.", ""): t for n, t in found.items()}, printed(s, x)) < 1e-12


def test_only_c_learns():
    """Where neither input nor fields need gradient the first shear has to be undone as well."""
    s, x = momentum(c=MANY).double(), images(dtype=D)
    s.blocks.requires_grad_(False)
    p, state = Printed(s), (x, torch.randn_like(x))
    for memory in ("reversible", "stored"):
        s.memory = memory
        (found,) = torch.autograd.grad(s(x).square().sum(), s.scheme.r)
        (expected,) = torch.autograd.grad(p(x).square().sum(), p.stage.scheme.r)
        assert relative(found, expected) < 1e-12
    a, b = (torch.tensor(t, dtype=D, requires_grad=True) for t in (0.7, 0.3))
    x, v = propagate([Shear(1, 0, s.blocks[0][0], b, a)], state)
    found = torch.autograd.grad(v.square().sum(), (a, b))
    y = s.blocks[0][0](x)
    assert relative(found[0], (2 * v * state[1]).sum()) < 1e-12
    assert relative(found[1], (2 * v * y).sum()) < 1e-12


def test_a_step_size_learns_as_well():
    """One parameter as the factor of every shear, and among the weights of a field."""

    class Scaled(nn.Module):
        def __init__(self, h):
            super().__init__()
            self.h, self.f = h, Branch(8, norm=False, act=nn.Tanh)

        def forward(self, x):
            return self.h * self.f(x)

    h = nn.Parameter(torch.tensor(0.3, dtype=D))
    fields, x = [Scaled(h).double() for _ in range(4)], images(dtype=D)
    shears = [Shear(k % 2, 1 - k % 2, f, h) for k, f in enumerate(fields)]
    wanted = [h, x.requires_grad_(), *fields[0].f.parameters()]
    grads = []
    for memory in ("reversible", "stored"):
        y, z = propagate(shears, (x, x), memory=memory)
        grads.append(torch.autograd.grad(y.square().sum() + z.cos().sum(), wanted))
    assert max(map(relative, *grads)) < 1e-12


def test_double_backward_and_transforms_fall_back():
    revode.backward._warned.clear()
    s, x = momentum(2, [0.9, 0.6]).double(), images(1, dtype=D)
    p, found = Printed(s), []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for module in (s, p):
            (g,) = torch.autograd.grad(module(x).square().sum(), list(module.parameters())[:1], create_graph=True)
            g.square().sum().backward()
            found.append([q.grad for q in module.parameters()])
        assert max(map(relative, *found)) < 1e-10
        params = {n: q.detach() for n, q in s.named_parameters()}
        g = torch.func.grad(lambda p: torch.func.functional_call(s, p, (x,)).square().sum())(params)
    assert relative(g["scheme.r"], torch.autograd.grad(s(x).square().sum(), s.scheme.r)[0]) < 1e-12
    assert len([w for w in seen if "falls back to stored" in str(w.message)]) == 2


# --- what it costs -------------------------------------------------------------------------------------------------


def test_snapshots_follow_the_present_value():
    """c falls from 0.95 to 0.5: with the snapshots of 0.95 the error would have grown a millionfold."""
    s, x = momentum(32, 0.95), images(2)
    assert len(snapshot_positions(primitive.numbers(s.shears()))) == 0
    s.scheme.c = 0.5
    assert len(snapshot_positions(primitive.numbers(s.shears()))) == 7
    assert worst(gradients(s, x), printed(s, x)) < 1e-4
    unread = [Shear(1, 0, None, 1.0, torch.tensor(0.9)), Shear(0, 1, None)] * 3  # as in a compiled graph
    assert snapshot_positions(unread) == [0, 2, 4]


def test_values_are_read_once_for_a_stage(monkeypatch):
    reads = []
    for name in ("item", "tolist", "__bool__", "__float__"):
        original = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda t, name=name, original=original: (reads.append(name), original(t))[1])
    for c, learn, expected in ((MANY, True, ["tolist"]), (0.9, True, ["tolist"]), (0.9, False, [])):
        s, x = momentum(c=c, learn=learn), images(2)
        reads.clear()
        s(x).sum().backward()
        assert reads == expected


def test_memory_does_not_depend_on_depth_where_c_is_near_one():
    x = images(8, 8, 16).requires_grad_()
    low, high = (
        saved_bytes(lambda s=s: s(x), s.parameters()) for s in (momentum(n, 0.999, learn=True) for n in (4, 64))
    )
    assert high - low < 100 * 64 < x.nbytes  # the factors themselves


# --- a module like any other ---------------------------------------------------------------------------------------


def test_state_dict_of_a_fixed_c_has_no_new_key():
    fixed, learned = momentum(2, learn=False), momentum(2)
    assert set(learned.state_dict()) - set(fixed.state_dict()) == {"scheme.r"}
    assert not any(k.startswith("scheme") for k in fixed.state_dict())
    other = momentum(2, 0.5)
    other.load_state_dict(learned.state_dict())
    assert other.scheme.c == pytest.approx(0.9)
    x = images()
    assert torch.equal(other(x), learned(x))
    assert torch.equal(copy.deepcopy(other)(x), other(x))
    assert copy.deepcopy(other).scheme.r is not other.scheme.r
    assert momentum(2).double().scheme.r.dtype == D


def test_fixed_factors_per_layer():
    s = momentum(c=MANY, learn=False).double()
    learned = momentum(c=MANY).double()
    learned.load_state_dict(s.state_dict() | {"scheme.r": torch.special.logit(torch.tensor(MANY, dtype=D))})
    x = images(dtype=D)
    expected = gradients(learned, x)
    del expected["scheme.r"]
    assert worst(gradients(s, x), expected) < 1e-12
    start = s.scheme.start(x)
    assert max(map(relative, s.inverse_state(s.forward_state(start))[:1], start)) < 1e-13


def test_zero_is_the_residual_network_and_stored():
    s, x = momentum(c=0.0, learn=False, h=0.3).double(), images(dtype=D)
    plain = revode.Stage(revode.Euler(0.3), s.blocks)
    assert (s.memory, s.scheme.reversible) == ("stored", False)
    assert worst(gradients(s, x), gradients(plain, x)) < 1e-14
    s.scheme.c = 0.9
    assert s.memory == "reversible"


# --- whole networks ------------------------------------------------------------------------------------------------


def network(**options) -> Network:
    return Network("momentum", (2, 3), (4, 8), seed=0, **options).double()


@pytest.mark.parametrize("learn", ["no", "shared", "layer"])
def test_a_network_is_built_again_from_its_settings(learn):
    net = network(learn_c=learn, c=0.8, start="field", h=0.5)
    assert sum(n.endswith("scheme.r") for n, _ in net.named_parameters()) == {"no": 0, "shared": 1, "layer": 2}[learn]
    assert net.c == pytest.approx([0.8] * 4 if learn == "layer" else 0.8)
    for p in net.parameters():
        nn.init.normal_(p) if p.dim() == 1 else None
    settings = json.loads(json.dumps(net.settings))
    other = Network(**settings).double()
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 8, 8, dtype=D)
    assert torch.equal(other.eval()(x), net.eval()(x))
    assert other.settings == net.settings


def test_one_c_is_shared_by_all_stages():
    net, x = network(learn_c="shared"), torch.randn(2, 3, 8, 8, dtype=D)
    assert net.stages[0].scheme is net.stages[1].scheme
    assert worst(gradients(net, x), gradients(stored_copy(net), x)) < 1e-10
    assert copy.deepcopy(net).stages[0].scheme.r is not net.stages[0].scheme.r


def test_c_of_a_network_may_be_set():
    net, fixed = network(learn_c="layer"), network()
    for n in (net, fixed):
        n.c = MANY if n is net else 0.5
    assert net.c == pytest.approx(MANY)
    assert fixed.c == 0.5
    assert network(c=MANY).c == tuple(MANY)
    assert network(c=MANY).stages[1].scheme.c == tuple(MANY[2:])


def test_options_of_other_schemes_are_refused():
    for options, says in (({"c": 0.5}, "c = 0.5"), ({"learn_c": "layer"}, "learn_c"), ({"start": "rest"}, "start")):
        with pytest.raises(ValueError, match=f"{says}.*'midpoint' has no such option"):
            Network("midpoint", (2,), (4,), **options)
    with pytest.raises(ValueError, match="belongs to scheme 'momentum'"):
        Network("midpoint", (2,), (4,)).c = 0.5
    with pytest.raises(ValueError, match="c has 2 values, but the stages have 4 blocks"):
        network(c=[0.9, 0.8])
    with pytest.raises(ValueError, match="one number for learn_c = 'shared'"):
        network(c=MANY, learn_c="shared")
    with pytest.raises(ValueError, match="start = 'half-kick' must be one of"):
        network(start="half-kick")
    assert Network("leapfrog", (2,), (4,), start="half-kick").settings["start"] == "half-kick"


def test_repr_names_c():
    assert repr(Momentum(0.5)) == "Momentum(h=0.5, c=0.9)"
    assert repr(Momentum(c=0.9, learn=True)) == "Momentum(h=1, c=0.9, learned)"
    assert repr(Momentum(c=MANY)) == "Momentum(h=1, c=0.5 to 0.95)"


def test_refused():
    for c in (1.0, -0.1, float("nan"), [0.9, 1.5]):
        with pytest.raises(ValueError, match=r"c = .* must lie between 0 and 1"):
            Momentum(c=c)
    with pytest.raises(ValueError, match="nothing can be undone"):
        Momentum(c=0.0, learn=True)
    with pytest.raises(ValueError, match="start"):
        Momentum(start="kick")
    with pytest.raises(ValueError, match="c has 2 values"):
        momentum(3, [0.9, 0.8])(images())
    s = momentum()
    nn.init.constant_(s.scheme.r, float("nan"))
    with pytest.raises(ValueError, match="finite"):
        s(images())
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        primitive.check([Shear(1, 0, None, 1.0, torch.ones(2))], 2)
