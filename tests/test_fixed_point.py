"""Exact reversibility: additions modulo 2^32, and multiplications whose remainder is kept."""

from __future__ import annotations

import copy
import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import revode
from revode import errors, shear
from revode.backward import propagate
from revode.fixed_point import FixedPoint, Scale, checksum, fraction
from revode.shear import Shear

from .helpers import REVERSIBLE, Branch, gradients, images, relative, stage, stored_copy, worst

INT32 = 2**31


class Random(nn.Module):
    """s(W x), a random layer that a seed draws."""

    def __init__(self, width: int, seed: int, gain: float = 1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(gain * torch.randn(width, width, generator=generator) / width**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ self.weight)


class Constant(nn.Module):
    """The same value whatever the input."""

    def __init__(self, value: torch.Tensor):
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value.to(x.device)


def same(a, b) -> bool:
    return all(torch.equal(p.ints, q.ints) and p.bits == q.bits for p, q in zip(a, b, strict=True))


def exact(name: str = "hamiltonian", blocks: int = 4, **kwargs) -> revode.Stage:
    s = stage(name, blocks, **kwargs)
    s.arithmetic = "exact"
    return s


def momentum(depth: int, c: float, width: int = 16) -> list[Shear]:
    """v <- c v + (1 - |c|) f(x);  x <- x + v."""
    fields = [Random(width, k) for k in range(depth)]
    return [s for f in fields for s in (Shear(1, 0, f, 1 - abs(c), c), Shear(0, 1, None))]


# --- the round trip ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_a_stage_is_undone_bit_for_bit(name, norm, training):
    s = exact(name, 10, norm=norm).train(training)
    start = s.encode(images())
    end = s.forward_state(start)
    assert not any(torch.equal(a.ints, b.ints) for a, b in zip(start, end))
    assert same(s.inverse_state(end), start)


@pytest.mark.parametrize(("depth", "h"), [(10, 0.5), (100, 0.5), (1000, 0.1), (1000, 0.5), (10000, 0.5)])
def test_no_depth_and_no_step_size_leaves_an_error(depth, h):
    """At h = 0.5 the floating-point inverse is lost at depth 100, and the forward pass overflows before 1000."""
    f = [Random(8, k, 2.0) for k in range(20)]
    shears = [s for j in range(depth) for s in (Shear(0, 1, f[j % 20], h), Shear(1, 0, f[-j % 20], h))]
    x = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    scale = Scale((20, 20))
    with torch.no_grad():
        start = scale.enter(tuple(x))
        assert same(shear.inverse(shears, shear.forward(shears, start)), start)
        if depth == 1000:
            back = shear.inverse(shears, shear.forward(shears, tuple(x)))
            assert relative(torch.cat(back), torch.cat(tuple(x))) > 0


@given(
    depth=st.integers(1, 12),
    bits=st.integers(0, 30),
    seed=st.integers(0, 10**6),
    scales=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=4),
    factors=st.lists(st.sampled_from([1.0, -1.0, 0.9, 0.5, -0.99, 1 / 3, 0.001]), min_size=1, max_size=4),
)
@settings(max_examples=80, deadline=None)
def test_any_row_of_shears_is_undone_bit_for_bit(depth, bits, seed, scales, factors):
    """Whatever wraps: increments up to 10^6 at 30 binary digits are reduced modulo 2^32."""
    shears = [
        Shear(k % 3, (k + 1) % 3, Random(5, seed + k), scales[k % len(scales)], factors[k % len(factors)])
        for k in range(depth)
    ]
    x = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    with torch.no_grad():
        start = tuple(FixedPoint.of(part, bits) for part in x)
        end = shear.forward(shears, start)
        back = shear.inverse(shears, end)
    assert same(back, start)
    assert all(p.remainder is None for p in back)


# --- what is added ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1.0, 2.0**20, 2.0**31, 2.0**40, 1e25])
def test_increments_are_those_of_whole_numbers_modulo_two_to_the_32(size, dtype):
    """Against Python's integers, which have no range; ties go to even; the scale is a power of two and h is 0.75."""
    rng = np.random.default_rng(0)
    v = torch.from_numpy(np.concatenate([rng.uniform(-size, size, 300), [0.5, 1.5, -2.5, 2.0**31 - 0.5]])).to(dtype)
    a = torch.from_numpy(rng.integers(-INT32, INT32, len(v))).int()
    part = FixedPoint(a, 3, dtype, INT32)
    plus, minus = part.plus(0.75, v), part.minus(0.75, v)
    q = [round(y) for y in (v * 6).tolist()]
    wrap = lambda n: (n + INT32) % 2**32 - INT32  # noqa: E731
    assert plus.ints.tolist() == [wrap(x + y) for x, y in zip(a.tolist(), q)]
    assert minus.ints.tolist() == [wrap(x - y) for x, y in zip(a.tolist(), q)]
    assert plus.wrapped == sum(not -INT32 <= x + wrap(y) < INT32 for x, y in zip(a.tolist(), q))


def test_a_float_increment_beyond_its_type_is_computed_in_float64():
    part = FixedPoint.of(torch.zeros(1), 100)
    v = torch.tensor([3e38])
    assert part.plus(1.0, v).ints.item() == (int(v.item()) * 2**100 + INT32) % 2**32 - INT32


def test_the_forward_is_as_good_as_that_of_float32():
    for depth in (10, 100, 1000):
        s = stage("hamiltonian", depth, h=0.02, norm=False)
        x = images(2)
        with torch.no_grad():
            truth = copy.deepcopy(s).double()(x.double())
            rounding = relative(s(x), truth)
            s.arithmetic = "exact"
            assert relative(s(x), truth) < 4 * rounding


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_refused_and_its_block_named(value):
    s = exact("hamiltonian", 5, norm=False)
    x = images()
    s(x)
    with torch.no_grad():
        s.blocks[3][1].conv2.bias[0] = value
    with pytest.raises(errors.NonFiniteIncrementError, match=r"block 3 of 5: .* h"):
        s(x)
    with pytest.raises(errors.NonFiniteIncrementError, match="the state"):
        s(torch.full_like(x, value))


def test_what_leaves_the_range_is_counted_and_stops_training():
    s = exact("hamiltonian", 3, norm=False)
    s.calibrate(images())
    x = images()
    with torch.no_grad():
        for p in s.parameters():
            p.mul_(30)
        start = s.encode(x)
        end = s.forward_state(start)
    assert sum(p.wrapped for p in end) > 0
    assert same(s.inverse_state(end), start)
    with pytest.raises(errors.FixedPointRangeError, match=r"\d+ entries left the range .*Stage.calibrate"):
        s(x)
    with pytest.raises(errors.FixedPointRangeError, match="digits after the point"):
        s.encode(x * 1e4)
    s.h = 1e-6
    s.calibrate(x)
    s(x)


# --- gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_rebuilt_and_stored_activations_give_the_same_bits(name, dtype):
    """No rounding stands between the two: they see the same states."""
    s = exact(name, 12, norm=False).to(dtype)
    x = images(dtype=dtype)
    s(x)  # chooses the scale
    ours, theirs = gradients(s, x), gradients(stored_copy(s), x)
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_the_gradient_is_that_of_the_floating_point_network(name):
    s = exact(name, 12, norm=False)
    x = images()
    truth = copy.deepcopy(s).double()
    truth.arithmetic, truth.memory = "float", "stored"
    expected = gradients(truth, x.double())
    plain = copy.deepcopy(s)
    plain.arithmetic, plain.memory = "float", "stored"
    assert worst(gradients(s, x), expected) < 10 * worst(gradients(plain, x), expected)


def test_statistics_once_and_dropout_replayed():
    s = exact("revnet", 6, dropout=0.5)
    x = images(8)
    s(x)
    other = stored_copy(s)
    torch.manual_seed(3)
    ours = gradients(s, x)
    torch.manual_seed(3)
    theirs = gradients(other, x)
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    for (n, a), b in zip(s.named_buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b), n


def test_the_last_blocks_may_be_stored():
    s = exact("hamiltonian", 6, norm=False, store_last=2)
    x = images()
    s(x)
    assert worst(gradients(s, x), gradients(stored_copy(s), x)) < 1e-6


@pytest.mark.parametrize("c", [0.9, -0.5, 1.0])
def test_gradients_of_the_momentum_rule(c):
    shears = momentum(40, c)
    x = torch.randn(8, 16)
    scale = Scale((22, 22))

    def run(memory, scale=None, dtype=torch.float32):
        xs = x.to(dtype, copy=True).requires_grad_()
        for s in shears:
            if s.g:
                s.g.to(dtype).zero_grad(set_to_none=True)
        propagate(shears, (xs, torch.zeros_like(xs)), memory=memory, scale=scale)[0].square().sum().backward()
        return [xs.grad, *(s.g.weight.grad for s in shears if s.g)]

    ours, theirs = run("reversible", scale), run("stored", scale)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
    assert max(relative(a, b) for a, b in zip(ours, run("stored", dtype=torch.float64))) < 1e-4


def test_mixed_precision_keeps_the_state_exact():
    s = exact("hamiltonian", 8, norm=False)
    x = images()
    with torch.autocast("cpu", torch.bfloat16):
        s(x)
        ours, theirs = gradients(s, x), gradients(stored_copy(s), x)
        assert all(torch.equal(ours[n], theirs[n]) for n in ours)
        start = s.encode(x)
        assert same(s.inverse_state(s.forward_state(start)), start)


def test_under_func_transforms_floats_are_used():
    s = exact("hamiltonian", 3, norm=False).double()
    x = images(1, dtype=torch.float64)
    s(x)
    t = torch.randn_like(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = torch.func.jvp(s, (x,), (t,))[1]
    s.arithmetic = "float"
    assert relative(ours, torch.func.jvp(stored_copy(s), (x,), (t,))[1]) < 1e-12


# --- multiplication ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.5, 0.9, 0.99, -0.9])
def test_a_thousand_multiplications_are_undone(c):
    """Both states in fixed point, negative values among them, where floating point divides by c^1000."""
    rng = torch.Generator().manual_seed(0)
    x, v = torch.randn(2, 32, 16, generator=rng)
    assert (v < 0).any()
    shears, start = momentum(1000, c), (FixedPoint.of(x, 24), FixedPoint.of(v, 24))
    with torch.no_grad():
        end = shear.forward(shears, start)
        back = shear.inverse(shears, end)
    assert same(back, start)
    assert back[1].remainder is None
    # Information theory wants log2(1/c) bits for each entry and multiplication; words of 64 bits take less than
    # three times that, the unfinished word aside.
    needed = 1000 * math.log2(1 / abs(c))
    assert needed <= 63 * end[1].remainder.words
    assert 64 * (end[1].remainder.words - 1) < 3 * needed


@given(
    a=st.lists(st.integers(-INT32, INT32 - 1), min_size=1, max_size=20),
    c=st.fractions(Fraction(1, 1000), Fraction(999, 1000), max_denominator=2**20),
    times=st.integers(1, 80),
)
@settings(max_examples=30, deadline=None)
def test_products_are_rounded_and_come_back(a, c, times):
    """Against fractions: each product is the nearest whole number, and the remainder gives back what it came from."""
    part = FixedPoint(torch.tensor(a, dtype=torch.int32), 0, torch.float32, INT32)
    there, expected = part, a
    for _ in range(times):
        there = there._times(c)
        expected = [math.floor(n * c + Fraction(1, 2)) for n in expected]
        assert there.ints.tolist() == expected
    for _ in range(times):
        there = there._over(c)
    assert there.ints.tolist() == a
    assert there.remainder is None


def test_a_product_by_more_than_one_needs_no_remainder_but_room():
    part = FixedPoint.of(torch.tensor([-3.0, 0.0, 1.0, 1000.0]), 16)
    there = part._times(Fraction(11, 10))
    assert there.remainder is None
    assert torch.equal(there._over(Fraction(11, 10)).ints, part.ints)
    with pytest.raises(errors.FixedPointRangeError, match="calibrate"):
        FixedPoint.of(torch.tensor([30000.0]), 16)._times(Fraction(11, 10))


def test_what_was_never_multiplied_cannot_be_divided():
    part = FixedPoint.of(torch.ones(3), 16)
    for c in (0.9, 0.0):
        with pytest.raises(errors.NotInvertibleError, match=f"c = {c:g}"):
            shear.subtract(Shear(0, 1, Random(3, 0), c=c), part, torch.ones(3))


@pytest.mark.parametrize(("c", "expected"), [(0.9, Fraction(9, 10)), (-0.5, Fraction(-1, 2)), (1.0, Fraction(1))])
def test_factors_are_fractions(c, expected):
    assert fraction(c) == expected
    assert abs(fraction(math.pi / 4) - math.pi / 4) < 1e-11


# --- the second evaluation --------------------------------------------------------------------------------------


class Drifting(Branch):
    """A branch whose value changes a little with every call, as with kernels that are not deterministic."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x) + 1e-3 * self.calls


def test_verify_finds_a_recomputation_that_differs():
    x = images()
    s = exact("hamiltonian", 3, make=Drifting, norm=False)
    s(x).sum().backward()  # unnoticed
    s.scale.verify = True
    out = s(x)
    with pytest.raises(errors.RecomputationError, match="deterministic"):
        out.sum().backward()
    right = exact("hamiltonian", 3, norm=False)
    right.scale.verify = True
    out = right(x)
    out.sum().backward(retain_graph=True)
    out.sum().backward()


def test_verify_names_the_block():
    s = exact("hamiltonian", 4, norm=False)
    s.scale.verify = True
    end = s.forward_state(s.encode(images()))
    with torch.no_grad():
        s.blocks[2][0].conv1.bias[0] += 1
    with pytest.raises(errors.RecomputationError, match="block 2 of 4"):
        s.inverse_state(end)


def test_checksums_see_a_changed_entry_and_a_changed_order():
    q = torch.randint(-INT32, INT32, (4, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.int64).int()
    other = q.clone()
    other[1, 2, 3] ^= 1
    assert len({checksum(q), checksum(other), checksum(q.flip(0)), checksum(q[:2]), checksum(torch.zeros_like(q))}) == 5


# --- the scale --------------------------------------------------------------------------------------------------


def test_the_scale_is_chosen_from_the_largest_values_over_the_depth():
    s = exact("leapfrog", 10, norm=False)
    x = images()
    parts = list(s.scheme.start(x))
    peaks = [p.abs().max().item() for p in parts]
    with torch.no_grad():
        for step in s.shears():
            parts[step.target] = shear.add(step, parts[step.target], shear.increment(step, parts, {}))
            peaks[step.target] = max(peaks[step.target], parts[step.target].abs().max().item())
    bits = s.calibrate(x)
    assert bits[1] > bits[0]  # the velocity is smaller
    for peak, b in zip(peaks, bits, strict=True):
        assert 2.0**26 <= peak * 2.0**b < 2.0**27  # 4 of 31 bits are left free


def test_choosing_the_scale_leaves_no_trace():
    s = exact("revnet", 3, dropout=0.5)
    x = images()
    before = {n: b.clone() for n, b in s.named_buffers()}
    state = torch.get_rng_state()
    s.calibrate(x)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(b, before[n]) for n, b in s.named_buffers())


def test_a_scale_that_becomes_tight_is_coarser_next_time():
    s = exact("hamiltonian", 6, norm=False)
    x = images()
    bits = s.calibrate(x)
    s(4 * x)
    assert s.scale.bits == bits
    s(12 * x)
    assert all(a < b for a, b in zip(s.scale.bits, bits, strict=True))
    bits = s.scale.bits
    s(12 * x)
    assert s.scale.bits == bits


def test_the_scale_is_in_state_dict_and_either_arithmetic_reads_the_other():
    net = revode.build("hamiltonian-74", arithmetic="exact", seed=0)
    net.eval()(torch.randn(2, 3, 32, 32))
    saved = net.state_dict()
    bits = [s.scale.bits for s in net.stages]
    assert {k: tuple(v.tolist()) for k, v in saved.items() if "fraction_bits" in k} == {
        f"stages.{i}.fraction_bits": b for i, b in enumerate(bits)
    }
    other = revode.build(**net.settings)
    other.load_state_dict(saved)
    assert [s.scale.bits for s in other.stages] == bits
    plain = revode.build("hamiltonian-74", seed=1)
    plain.load_state_dict(saved)
    assert "stages.0.fraction_bits" not in plain.state_dict()
    other.load_state_dict(plain.state_dict())
    assert [s.scale.bits for s in other.stages] == [None, None, None]


def test_a_plain_residual_network_has_no_exact_arithmetic():
    s = stage("euler", 2)
    s.arithmetic = "exact"
    assert s.arithmetic == "float"
    with pytest.raises(errors.NotInvertibleError, match="euler"):
        s.encode(images())
    with pytest.raises(ValueError, match="arithmetic = 'rough'"):
        s.arithmetic = "rough"


# --- memory -----------------------------------------------------------------------------------------------------


def saved_bytes(run) -> int:
    seen: dict[int, int] = {}

    def pack(t):
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out = run()
    del out
    return sum(seen.values())


def test_memory_does_not_grow_with_depth():
    used = []
    for blocks in (2, 12):
        s = exact("hamiltonian", blocks, norm=False)
        x = images(32)
        s(x)
        own = sum(p.numel() * p.element_size() for p in s.parameters())
        used.append(saved_bytes(lambda s=s, x=x: s(x)) - own)
    assert used[0] == used[1]


def test_momentum_keeps_its_remainder_only():
    """Floating-point snapshots of both parts every 32 blocks take 2 bits an entry and block at c = 0.9."""
    x = torch.randn(16, 16)
    used = [
        saved_bytes(lambda d=d, scale=scale: propagate(momentum(d, 0.9), (x, torch.zeros_like(x)), scale=scale)[0])
        - d * 16 * 16 * 4
        for d in (10, 160)
        for scale in (Scale((22, 22)), None)
    ]
    exact_, snapshots = used[2] - used[0], used[3] - used[1]
    assert exact_ <= 8 * x.numel()
    assert exact_ < snapshots / 4


# --- the known implementation -----------------------------------------------------------------------------------


def test_a_known_implementation_does_not_give_negative_values_back():
    """It divides by truncation and takes the remainder of the floor, so products of negative numbers are not undone."""
    theirs = pytest.importorskip(
        "momentumnet.exact_rep_pytorch", reason="momentumnet is not installed, see benchmarks/"
    )
    x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    other = theirs.TorchExactRep(x)
    before = other.intrep.clone()
    for _ in range(100):
        other.mul(0.9)
    for _ in range(100):
        other.div(0.9)
    back = other.intrep == before
    assert back[x > 0].all()
    assert not back[x < 0].any()
    part = there = FixedPoint.of(x, 26)
    for _ in range(100):
        there = there._times(fraction(0.9))
    for _ in range(100):
        there = there._over(fraction(0.9))
    assert torch.equal(there.ints, part.ints)
