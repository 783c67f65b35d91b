"""The reversible backward pass against ordinary autograd, in every situation a user can bring it into."""

from __future__ import annotations

import copy
import gc
import io
import math
import warnings
import weakref

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import revode
from revode import backward
from revode.backward import propagate
from revode.errors import NotInvertibleError
from revode.memory import peak_bytes, saved_bytes
from revode.shear import Shear
from revode.unwind import snapshot_positions

from .helpers import REVERSIBLE, Branch, gradients, images, relative, stage, stored_copy, worst

D = torch.float64


def both(module, x, **kwargs):
    """Worst relative difference of output and gradients, reversible against stored, and the stored module."""
    plain = stored_copy(module)
    state = torch.get_rng_state()
    found = gradients(module, x, **kwargs)
    torch.set_rng_state(state)
    return worst(found, gradients(plain, x, **kwargs)), plain


# --- the same gradient ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("act", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_gradient_of_everything_at_50_blocks(name, act, norm):
    s = stage(name, blocks=50, h=0.1, act=act, norm=norm)
    reference = stage(name, blocks=50, h=0.1, act=act, norm=norm, memory="stored").double()
    reference.load_state_dict(s.state_dict())
    x = images()
    exact = gradients(reference, x.double())
    plain = gradients(stored_copy(s), x)
    assert worst(gradients(copy.deepcopy(s).double(), x.double()), exact) < 1e-10
    found = gradients(s, x)
    for k in exact:
        assert relative(found[k], exact[k]) <= 10 * max(relative(plain[k], exact[k]), 1e-7), k


@pytest.mark.parametrize("name", REVERSIBLE)
def test_buffers_are_those_of_ordinary_training(name):
    s = stage(name, blocks=3)
    _, plain = both(s, images())
    for (n, b), (_, p) in zip(s.named_buffers(), plain.named_buffers()):
        torch.testing.assert_close(b, p, msg=n)
    assert all(b.item() == 1 for n, b in s.named_buffers() if n.endswith("num_batches_tracked"))


class Counting(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.calls = nn.Conv2d(channels, channels, 3, padding=1), 0

    def forward(self, x):
        self.calls += 1
        return torch.tanh(self.conv(x))


@pytest.mark.parametrize("name", REVERSIBLE)
def test_each_field_is_evaluated_once_forward_and_once_backward(name):
    s = stage(name, blocks=3, make=Counting)
    fields = [m for m in s.modules() if isinstance(m, Counting)]
    y = s(images().requires_grad_())
    assert [f.calls for f in fields] == [1] * len(fields)
    y.sum().backward()
    assert [f.calls for f in fields] == [2] * len(fields)


# --- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_saved_memory_does_not_depend_on_depth(name, norm):
    x = images(8, 8, 16).requires_grad_()

    def saved(blocks, memory):
        s = stage(name, blocks, norm=norm, memory=memory)
        return saved_bytes(lambda: s(x), s.parameters())

    assert saved(4, "reversible") == saved(16, "reversible") <= 6 * x.nbytes
    assert saved(16, "stored") > 3 * saved(4, "stored")  # the measure sees what grows


def test_peak_memory_of_a_step_grows_by_the_parameter_gradients_only():
    x = images(8, 8, 16)

    def peak(blocks):
        s = stage(blocks=blocks)
        s(x).sum().backward()  # warm up
        s.zero_grad(set_to_none=True)
        return peak_bytes(lambda: s(x).sum().backward()), sum(p.nbytes for p in s.parameters())

    (low, p_low), (high, p_high) = peak(4), peak(20)
    slack = 16 * 2 * 8 * 64  # a few scalars and aliases a field, nothing of the size of an activation
    assert high - low <= p_high - p_low + slack
    assert slack < x.nbytes


def test_store_last_trades_memory_for_recomputation():
    x = images()
    counts, saved = [], []
    for k in (0, 2, 4, 99):
        s = stage(blocks=4, make=Counting, store_last=k)
        y = s(x.requires_grad_())
        y.sum().backward()
        counts.append(sum(m.calls for m in s.modules() if isinstance(m, Counting)))
        saved.append(saved_bytes(lambda s=s: s(x), s.parameters()))
    assert counts == [16, 12, 8, 8]
    assert saved[0] < saved[1] < saved[2] == saved[3]


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_store_last_has_the_same_gradient(name, k):
    assert both(stage(name, 4, store_last=k).double(), images(dtype=D))[0] < 1e-12


def test_a_forward_without_backward_leaves_nothing():
    """Reference counts alone free everything: there are no cycles for the garbage collector."""
    gc.disable()
    try:
        y = stage()(images().requires_grad_())
        node = y.grad_fn
        while "Reversible" not in node.name():
            node = node.next_functions[0][0]
        held = [weakref.ref(node), weakref.ref(node.plan), weakref.ref(node.plan.modules)]
        del y, node
        assert [r() for r in held] == [None] * 3
    finally:
        gc.enable()


def test_no_growth_from_step_to_step():
    s, x = stage(), images()

    def step():
        s.zero_grad(set_to_none=True)
        s(x).sum().backward()
        gc.collect()
        return sum(o.nbytes for o in gc.get_objects() if type(o) is torch.Tensor)

    step()
    assert step() == step() == step()


# --- modules that do more than compute -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", REVERSIBLE)
def test_dropout_is_replayed(name):
    s = stage(name, dropout=0.5).double()
    assert both(s, images(dtype=D))[0] < 1e-12


def test_dropout_leaves_the_generator_where_ordinary_training_does():
    s, x = stage(dropout=0.5), images()
    ends = []
    for module in (s, stored_copy(s)):
        torch.manual_seed(3)
        module(x).sum().backward()
        ends.append(torch.rand(4))
    assert torch.equal(*ends)


@pytest.mark.parametrize("blocks", [4, 32])
@pytest.mark.parametrize("name", REVERSIBLE)
def test_autocast(name, blocks):
    """The state stays float32; the recompute runs under the forward's autocast, so it repeats the forward."""
    s, x = stage(name, blocks), images()
    exact = gradients(stored_copy(s).double(), x.double())
    seen = []
    s.blocks[0][0].conv1.register_forward_pre_hook(lambda m, a: seen.append(torch.is_autocast_enabled("cpu")))

    def under(module):
        x_ = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x_)
            assert y.dtype == torch.float32
        (y * torch.ones_like(y).cumsum(1)).sum().backward()
        return {"input": x_.grad, **{n: p.grad for n, p in module.named_parameters()}}

    found, plain = under(s), under(stored_copy(s))
    assert seen[:2] == [True, True]
    assert worst(found, plain) < (0.02 if blocks == 4 else 0.2)
    assert exact  # bfloat16 noise is compared with plain bfloat16, not with float64


def test_meta_device():
    """Shapes without data, as tools that count operations use them."""
    s = stage().to("meta")
    y = s(torch.empty(2, 8, 4, 4, device="meta", requires_grad=True))
    y.sum().backward()
    assert next(s.parameters()).grad.shape == next(s.parameters()).shape


def test_autocast_takes_a_half_precision_input():
    with torch.autocast("cpu", torch.bfloat16):
        assert stage()(images().bfloat16()).dtype == torch.float32


def test_bfloat16_weights_and_state():
    s, x = stage(blocks=4).bfloat16(), images(dtype=torch.bfloat16)
    reference = stored_copy(s).double()
    exact = gradients(reference, x.double())
    plain, found = gradients(stored_copy(s), x), gradients(s, x)
    assert found["output"].dtype == torch.bfloat16
    for k in exact:
        assert relative(found[k], exact[k]) <= 2 * relative(plain[k], exact[k]) + 0.02, k


def test_spectral_norm_and_other_buffers_see_what_the_forward_saw():
    """Power iteration moves a buffer in every forward: the recompute begins where the forward began."""

    def make(channels):
        g = Branch(channels, norm=False)
        spectral_norm(g.conv1)
        return g

    s = stage(make=make, blocks=3).double()
    error, plain = both(s, images(dtype=D))
    assert error < 1e-12
    for b, p in zip(s.buffers(), plain.buffers()):
        torch.testing.assert_close(b, p)


class Lazy(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.unused = nn.Conv2d(channels, channels, 1), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return torch.tanh(self.conv(x))


def test_unused_parameter_has_no_gradient():
    s = stage(make=Lazy).double()
    assert both(s, images(dtype=D))[0] < 1e-12
    assert s.blocks[0][0].unused.grad is None


class Conditioned(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x, *, shift, times=1, options=None):
        for _ in range(times):
            x = torch.tanh(self.conv(x) + shift + (options["bias"] if options else 0))
        return x


def test_keyword_arguments_reach_the_fields_and_their_tensors_get_gradients():
    s = stage(make=Conditioned).double()
    plain = stored_copy(s)
    grads = []
    for module in (s, plain):
        shift = torch.full((4, 1, 1), 0.3, dtype=D, requires_grad=True)
        bias = torch.full((), 0.1, dtype=D, requires_grad=True)
        torch.manual_seed(1)
        found = gradients(module, images(dtype=D), shift=shift, times=2, options={"bias": bias})
        grads.append(found | {"shift": shift.grad, "bias": bias.grad})
    assert worst(*grads) < 1e-12


def test_training_flags_are_those_of_the_forward():
    s, x = stage().double(), images(dtype=D)
    plain = stored_copy(s)
    for module in (s, plain):
        y = module(x)
        module.eval()
        y.sum().backward()
        assert not any(m.training for m in module.modules())
    assert max(relative(p.grad, q.grad) for p, q in zip(s.parameters(), plain.parameters())) < 1e-12


def test_eval_mode_step():
    s = stage().double()
    s(images(dtype=D))
    s.eval()
    assert both(s, images(dtype=D))[0] < 1e-12


def test_changed_running_statistics_are_noticed_in_eval_mode():
    s = stage().eval()
    y = s(images().requires_grad_())
    s.train()(images())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_changed_weights_are_noticed():
    s = stage()
    y = s(images())
    with torch.no_grad():
        next(s.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


# --- hooks ----------------------------------------------------------------------------------------------------------


def test_forward_hooks_of_a_field_fire_once_per_forward():
    s, fired = stage(blocks=1), []
    s.blocks[0][0].register_forward_hook(lambda m, a, y: fired.append("field"))
    s.blocks[0][0].conv1.register_forward_hook(lambda m, a, k, y: fired.append("conv"), with_kwargs=True)
    s(images()).sum().backward()
    assert fired == ["conv", "field"]
    s(images()).sum().backward()
    assert fired == ["conv", "field"] * 2


def test_forward_hooks_that_change_the_value_count_in_the_gradient():
    s = stage().double()
    s.blocks[1][0].conv1.register_forward_hook(lambda m, a, y: 3 * y)
    assert both(s, images(dtype=D))[0] < 1e-12


def test_backward_hooks_of_a_field_fire_once():
    s, fired = stage(blocks=1), []
    s.blocks[0][0].conv1.register_full_backward_hook(lambda m, gi, go: fired.append(1))
    s(images().requires_grad_()).sum().backward()
    assert fired == [1]


def test_parameter_hooks_fire_once():
    s, fired = stage(blocks=2), []
    for p in s.parameters():
        p.register_hook(lambda g: fired.append(1))
        p.register_post_accumulate_grad_hook(lambda p: fired.append(2))
    s(images()).sum().backward()
    count = len(list(s.parameters()))
    assert sorted(fired) == [1] * count + [2] * count


# --- what autograd can be asked ------------------------------------------------------------------------------------


def test_frozen_parameters():
    s = stage().double()
    for p in s.blocks[1].parameters():
        p.requires_grad_(False)
    assert both(s, images(dtype=D))[0] < 1e-12
    assert all(p.grad is None for p in s.blocks[1].parameters())


def test_all_parameters_frozen():
    s = stage().double().requires_grad_(False)
    assert both(s, images(dtype=D))[0] < 1e-12


def test_input_without_gradient():
    s, x = stage().double(), images(dtype=D)
    plain = stored_copy(s)
    s(x).square().sum().backward()
    plain(x).square().sum().backward()
    assert max(relative(p.grad, q.grad) for p, q in zip(s.parameters(), plain.parameters())) < 1e-12


def test_nothing_is_computed_again_before_the_first_block_that_learns():
    s = stage(blocks=4, make=Counting)
    for block in s.blocks[:3]:
        block.requires_grad_(False)
    s(images()).sum().backward()
    assert [f.calls for b in s.blocks for f in b] == [1] * 6 + [2] * 2


def test_nothing_needs_gradient():
    s = stage().requires_grad_(False)
    assert s(images()).grad_fn is None
    with torch.no_grad():
        assert stage()(images()).grad_fn is None
    with torch.inference_mode():
        assert stage()(images()).grad_fn is None


def test_backward_twice():
    s, x = stage().double(), images(dtype=D)
    y = s(x).square().sum()
    y.backward(retain_graph=True)
    once = [p.grad.clone() for p in s.parameters()]
    y.backward()
    assert all(torch.equal(p.grad, 2 * g) for p, g in zip(s.parameters(), once))


def test_autograd_grad():
    s, x = stage().double(), images(dtype=D).requires_grad_()
    plain = stored_copy(s)
    found = torch.autograd.grad(s(x).square().sum(), [x, *s.parameters()])
    expected = torch.autograd.grad(plain(x).square().sum(), [x, *plain.parameters()])
    assert max(map(relative, found, expected)) < 1e-12
    assert all(p.grad is None for p in s.parameters())


def test_two_forwards_before_one_backward():
    s, x, z = stage().double(), images(dtype=D), images(dtype=D)
    plain = stored_copy(s)
    for module in (s, plain):
        (module(x).square().sum() + module(z).cos().sum()).backward()
    assert max(relative(p.grad, q.grad) for p, q in zip(s.parameters(), plain.parameters())) < 1e-12


def test_one_block_shared_by_all_depths():
    block = nn.ModuleList([Branch(4), Branch(4)])
    s = revode.Stage(revode.Hamiltonian(0.1), [block] * 6).double()
    assert len(list(s.parameters())) == len(list(block.parameters()))
    assert both(s, images(dtype=D))[0] < 1e-12


def test_tied_parameters_in_different_fields():
    s = stage(norm=False).double()
    for block in s.blocks[1:]:
        block[0].conv1.weight = s.blocks[0][0].conv1.weight
    assert both(s, images(dtype=D))[0] < 1e-12


@pytest.mark.parametrize("name", REVERSIBLE)
def test_in_place_operation_after_the_stage(name):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage = stage(name)

        def forward(self, x):
            return torch.relu_(self.stage(x))

    assert both(Net().double(), images(dtype=D))[0] < 1e-12


def test_relu_before_the_stage():
    net = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True), stage()).double()
    assert both(net, images(dtype=D))[0] < 1e-12


def test_loss_on_a_part_of_the_output():
    s, x = stage().double(), images(dtype=D)
    weights = torch.zeros(4, 8, 8, 8, dtype=D)
    weights[:, :3] = 1
    plain = stored_copy(s)
    assert worst(gradients(s, x, weights), gradients(plain, x, weights)) < 1e-12


@pytest.mark.parametrize("name", REVERSIBLE)
def test_the_input_is_left_alone(name):
    x = images().requires_grad_()
    copy_ = x.detach().clone()
    stage(name)(x).sum().backward()
    assert torch.equal(x.detach(), copy_)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_channels_last_is_kept(name):
    x = images().contiguous(memory_format=torch.channels_last).requires_grad_()
    seen = []
    s = stage(name).to(memory_format=torch.channels_last)
    for b in s.blocks:
        b[0].conv1.register_forward_pre_hook(
            lambda m, a: seen.append(a[0].is_contiguous(memory_format=torch.channels_last))
        )
    y = s(x)
    y.sum().backward()
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert len(seen) == 8
    assert all(seen)


def test_deepcopy_and_save_after_a_step():
    s, x = stage(), images()
    s(x).sum().backward()
    file = io.BytesIO()
    torch.save(s, file)
    file.seek(0)
    s.eval()
    for other in (copy.deepcopy(s), torch.load(file, weights_only=False).eval()):
        assert torch.equal(other(x), s(x))


def test_state_dict_is_the_same_in_both_modes():
    a, b = stage(memory="reversible"), stage(memory="stored")
    assert list(a.state_dict()) == list(b.state_dict())
    b.load_state_dict(a.state_dict())
    x = images()
    assert torch.equal(a.eval()(x), b.eval()(x))


@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_inverse_of_a_stage(dtype):
    s, x = stage("hamiltonian", blocks=10).to(dtype), images(dtype=dtype)
    y = s(x).detach()
    before = [b.clone() for b in s.buffers()]
    assert relative(s.inverse(y), x) < 1e3 * torch.finfo(dtype).eps
    assert all(torch.equal(a, b) for a, b in zip(before, s.buffers()))


@pytest.mark.parametrize("name", REVERSIBLE)
def test_inverse_of_the_state(name):
    s, x = stage(name, blocks=7, norm=False).double(), images(dtype=D)
    start = s.scheme.start(x)
    back = s.inverse_state(s.forward_state(start))
    assert max(relative(p, q) if q.any() else p.abs().max().item() for p, q in zip(back, start)) < 1e-13


def test_midpoint_output_alone_does_not_determine_the_state():
    for name in ("midpoint", "leapfrog"):
        with pytest.raises(NotInvertibleError, match="inverse_state"):
            stage(name).inverse(images())


# --- where it falls back to stored activations, with one warning ---------------------------------------------------


@pytest.fixture(autouse=True)
def _fresh_warnings():
    backward._warned.clear()


def test_double_backward_is_right_and_warns_once():
    s, x = stage(norm=False, act=nn.Tanh).double(), images(2, dtype=D)
    plain = stored_copy(s)
    results = []
    for module in (s, plain):
        module.zero_grad(set_to_none=True)
        z = x.clone().requires_grad_()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in range(2):
                (g,) = torch.autograd.grad(module(z).square().sum(), z, create_graph=True)
            g.square().sum().backward()
        results.append({"input": z.grad, **{n: p.grad for n, p in module.named_parameters()}})
        assert len([w for w in seen if "falls back to stored" in str(w.message)]) == (module is s)
    assert worst(*results) < 1e-10


def test_gradgradcheck():
    s = stage(norm=False, act=nn.Tanh, blocks=2, channels=2).double()
    x = images(1, 2, 3, dtype=D).requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.autograd.gradcheck(s, x)
        assert torch.autograd.gradgradcheck(s, x)


def test_torch_func_transforms_are_right_and_warn_once():
    s, x = stage(norm=False).double(), images(3, dtype=D)
    plain = stored_copy(s)
    tangent = torch.randn_like(x)

    def loss(module, params, x):
        return torch.func.functional_call(module, params, (x,)).square().sum()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        params = {n: p.detach() for n, p in s.named_parameters()}
        found = torch.func.grad(loss, argnums=1)(s, params, x)
        expected = torch.func.grad(loss, argnums=1)(plain, params, x)
        assert max(relative(found[n], expected[n]) for n in params) < 1e-12
        _, found = torch.func.jvp(s, (x,), (tangent,))
        _, expected = torch.func.jvp(plain, (x,), (tangent,))
        assert relative(found, expected) < 1e-12
        rows = torch.func.vmap(lambda row: s(row[None])[0])(x)
        assert relative(rows, s(x)) < 1e-12
    assert len([w for w in seen if "torch.func" in str(w.message)]) == 1


def test_forward_mode():
    s, x = stage(norm=False).double(), images(dtype=D)
    tangent = torch.randn_like(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.autograd.forward_ad.dual_level():
            y = s(torch.autograd.forward_ad.make_dual(x, tangent))
            found = torch.autograd.forward_ad.unpack_dual(y).tangent
        _, expected = torch.func.jvp(stored_copy(s), (x,), (tangent,))
    assert relative(found, expected) < 1e-12


# --- c other than 1: the momentum rule needs nothing new -----------------------------------------------------------


class Momentum(nn.Module):
    """v <- c v + (1 - c) f(x);  x <- x + v  (Sander et al. 2021), straight from the primitive."""

    def __init__(self, blocks, channels=8, c=0.9, memory="reversible"):
        super().__init__()
        self.fields = nn.ModuleList(Branch(channels, norm=False, act=nn.Tanh) for _ in range(blocks))
        self.c, self.memory = c, memory

    def forward(self, x):
        shears = [s for f in self.fields for s in (Shear(1, 0, f, 1 - self.c, self.c), Shear(0, 1, None))]
        return propagate(shears, (x, torch.zeros_like(x)), memory=self.memory)[0]


@pytest.mark.parametrize("c", [0.5, 0.9, 0.99])
def test_momentum_gradient_in_float32_at_256_blocks(c):
    net, x = Momentum(256, c=c), images(2)
    plain = copy.deepcopy(net)
    plain.memory = "stored"
    assert worst(gradients(net, x), gradients(plain, x)) < 1e-4


def test_without_snapshots_the_momentum_gradient_is_wrong(monkeypatch):
    monkeypatch.setattr(backward, "snapshot_positions", lambda shears, exact: [])
    net, x = Momentum(128), images(2)
    plain = copy.deepcopy(net)
    plain.memory = "stored"
    assert worst(gradients(net, x), gradients(plain, x)) > 1e-2


@pytest.mark.parametrize(("c", "every"), [(0.5, 4), (0.9, 32), (-0.9, 32)])
def test_snapshots_stand_where_rounding_has_grown_thirtyfold(c, every):
    shears = [s for _ in range(200) for s in (Shear(1, 0, None, 1 - c, c), Shear(0, 1, None))]
    positions = snapshot_positions(shears)
    assert positions[0] // 2 == every == math.floor(math.log(30) / -math.log(abs(c)))
    assert len(positions) == 200 // every - (200 % every == 0)


def test_no_snapshot_where_c_is_one_or_grows():
    assert snapshot_positions([Shear(k % 2, 1 - k % 2, None) for k in range(1000)]) == []
    assert snapshot_positions([Shear(k % 2, 1 - k % 2, None, 1.0, 2.0) for k in range(100)]) == []


def test_forgetting_shear_is_fine_stored_and_without_gradient_only():
    x = images()
    plain = Momentum(2, c=0.0, memory="stored")
    gradients(plain, x)
    net = Momentum(2, c=0.0)
    with torch.no_grad():
        assert torch.equal(net(x), Momentum.forward(net, x))
    with pytest.raises(NotInvertibleError, match="memory='stored'"):
        net(x.requires_grad_())


# --- refused at the door -------------------------------------------------------------------------------------------


def test_unknown_memory_mode_is_refused():
    with pytest.raises(ValueError, match="'reversible'"):
        stage(memory="magic")
    with pytest.raises(ValueError, match="'stored'"):
        propagate([], (torch.zeros(1), torch.zeros(1)), memory="magic")


@pytest.mark.parametrize("k", [-1, 1.5, "2"])
def test_store_last_must_be_a_count(k):
    with pytest.raises(ValueError, match="store_last"):
        stage(store_last=k)


def test_wrong_number_of_fields_is_refused():
    with pytest.raises(ValueError, match=r"block 0 holds 1.*needs 2"):
        revode.Stage(revode.Hamiltonian(0.1), [[Branch(4)]])


def test_step_size_can_be_changed_on_a_built_stage():
    s, x = stage(h=0.1).double(), images(dtype=D)
    fresh = stored_copy(s)
    s.h = fresh.h = 0.25
    assert both(s, x)[0] < 1e-12
    assert relative(s(x), fresh(x)) < 1e-14
    assert "h=0.25" in repr(s)


def test_plain_resnet_is_stored_and_says_so():
    s = stage("euler")
    assert s.memory == "stored"
    assert "memory='stored'" in repr(s)
    s.memory = "reversible"
    assert s.memory == "stored"
