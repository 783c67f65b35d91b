"""Networks: layout between units, step size, memory modes, weight smoothness, and what is refused."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch

from revode.errors import ChannelError, ImageError, RevodeError, StepSizeError
from revode.networks import Downsample, Network, frequency, stable_step
from revode.schemes import Leapfrog

from .helpers import ALL, REVERSIBLE, gradients, relative, worst

D = torch.float64


def network(scheme="hamiltonian", units=(2, 2, 2), widths=(4, 8, 12), seed=0, **kwargs):
    return Network(scheme, units, widths, seed=seed, **kwargs)


def pictures(n=3, size=8, dtype=torch.float32):
    return torch.randn(n, 3, size, size, dtype=dtype)


@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_shapes(scheme, normalization):
    net = network(scheme, num_classes=7, normalization=normalization, in_channels=2)
    assert net(torch.randn(3, 2, 8, 12)).shape == (3, 7)


@pytest.mark.parametrize("scheme", ["hamiltonian", "midpoint", "leapfrog"])
def test_the_first_block_of_a_unit_has_the_old_shape(scheme):
    net = network(scheme, (4, 5, 6, 7), (4, 8, 12, 16))
    assert [len(s.blocks) for s in net.stages] == [5, 5, 6, 6]
    parts = net.scheme.fields
    for stage, width in zip(net.stages, (4, 8, 12, 16), strict=True):
        assert {f.weight.shape[0] for b in stage.blocks for f in b} == {width // parts}


@pytest.mark.parametrize("scheme", ["revnet", "euler", "momentum"])
def test_strided_blocks_lie_between_stages(scheme):
    net = network(scheme, (4, 5, 6), (4, 8, 12))
    assert [len(s.blocks) for s in net.stages] == [4, 4, 5]
    assert [m.f.weight.shape[0] * net.scheme.fields for m in net.transitions] == [8, 12]


@pytest.mark.parametrize("scheme", ALL)
def test_only_the_very_first_function_has_no_norm_before_its_kernel(scheme):
    bare = [n for n, m in network(scheme).named_modules() if n.endswith("norm1") and isinstance(m, torch.nn.Identity)]
    assert bare == ["stages.0.blocks.0.0.norm1"]


def test_downsample_pads_each_half_on_both_sides():
    x = torch.randn(2, 8, 4, 6)
    y = Downsample(8, 16, parts=2)(x)
    mean = x.reshape(2, 8, 2, 2, 3, 2).mean((3, 5))
    assert y.shape == (2, 16, 2, 3)
    for k in range(2):
        half = y[:, 8 * k : 8 * k + 8]
        torch.testing.assert_close(half[:, 2:6], mean[:, 4 * k : 4 * k + 4])
        assert not half[:, :2].any()
        assert not half[:, 6:].any()


@pytest.mark.parametrize("scheme", ["hamiltonian", "midpoint", "leapfrog"])
def test_networks_pad_each_half_where_the_state_has_halves(scheme):
    y = network(scheme, (1, 1), (4, 8)).transitions[0](torch.ones(1, 4, 2, 2)).flatten().bool().tolist()
    half = [False, True, True, False]
    assert y == (2 * half if scheme == "hamiltonian" else [False, False, True, True, True, True, False, False])


def test_downsample_keeps_channels_last():
    x = torch.randn(2, 8, 4, 4).to(memory_format=torch.channels_last)
    assert Downsample(8, 16, parts=2)(x).is_contiguous(memory_format=torch.channels_last)


def test_strided_blocks_follow_their_equations():
    x = torch.randn(2, 4, 4, 4)
    for scheme in ("revnet", "euler"):
        m = network(scheme, (1, 1), (4, 8), h=0.3, normalization="none").transitions[0]
        if scheme == "euler":
            expected = m.shortcut(x) + 0.3 * m.f(x)
        else:
            y = m.shortcut(x[:, :2]) + 0.3 * m.f(x[:, 2:])
            expected = torch.cat((y, m.shortcut(x[:, 2:]) + 0.3 * m.g(y)), dim=1)
        torch.testing.assert_close(m(x), expected)


@pytest.mark.parametrize("scheme", ALL)
def test_a_network_is_stem_stages_and_head(scheme):
    net = network(scheme)
    x = pictures()
    y = torch.relu(net.stem_norm(net.stem(x)))
    y = net.stages[0](y)
    for transition, stage in zip(net.transitions, net.stages[1:], strict=True):
        y = stage(transition(y))
    torch.testing.assert_close(net(x), net.fc(torch.relu(net.norm(y)).mean((2, 3))))


@pytest.mark.parametrize("scheme", REVERSIBLE)
@pytest.mark.parametrize("normalization", ["batch", "none"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_do_not_depend_on_the_memory_mode(scheme, normalization, activation):
    net = network(scheme, normalization=normalization, activation=activation).to(D)
    stored = copy.deepcopy(net)
    stored.memory = "stored"
    x = pictures(dtype=D)
    assert worst(gradients(net, x), gradients(stored, x)) < 1e-10
    for (n, a), b in zip(net.named_buffers(), stored.buffers(), strict=True):
        assert a.dtype == torch.int64 or relative(a, b) < 1e-12, n


@pytest.mark.parametrize("scheme", ALL)
def test_state_dict_is_the_same_in_both_memory_modes_and_round_trips(scheme):
    a, b = network(scheme, memory="reversible", seed=1), network(scheme, memory="stored", seed=2)
    x = pictures()
    a(x)
    assert list(a.state_dict()) == list(b.state_dict())
    b.load_state_dict(a.state_dict())
    torch.testing.assert_close(a.eval()(x), b.eval()(x))


@pytest.mark.parametrize("scheme", ALL)
def test_h_can_be_set_at_any_time(scheme):
    a, b = network(scheme, h=0.2), network(scheme, h=0.7)
    b.load_state_dict(a.state_dict())
    x = pictures()
    assert not torch.allclose(a(x), b(x))
    a.h = 0.7
    assert a.h == 0.7
    torch.testing.assert_close(a(x), b(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(StepSizeError, match="h = nan"):
        a.h = math.nan
    assert a.h == 0.7


def test_a_small_step_leaves_the_stem_alone():
    net = network(h=0.0)
    y = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(net.stages[0](y), y)


def test_memory_can_be_set_at_any_time():
    net = network()
    assert net.memory == "reversible"
    net.memory = "stored"
    assert {s.memory for s in net.stages} == {"stored"}
    with pytest.raises(ValueError, match="memory = 'none'"):
        net.memory = "none"


def test_a_plain_resnet_is_always_stored_and_says_so():
    net = network("euler", memory="reversible")
    assert net.memory == "stored"
    assert "always: the scheme is not reversible" in repr(net)
    assert "always" not in repr(network())


@pytest.mark.parametrize(
    ("scheme", "k", "expected"),
    [
        ("hamiltonian", 0, [0, 0, 0]),
        ("hamiltonian", 2, [0, 1, 1]),
        ("hamiltonian", 5, [2, 2, 1]),
        ("hamiltonian", 99, [3, 2, 1]),
        ("revnet", 1, [0, 0, 1]),
        ("revnet", 2, [0, 0, 1]),  # the strided block is stored anyway
        ("revnet", 3, [0, 1, 1]),
        ("revnet", 6, [2, 1, 1]),
    ],
)
def test_store_last_counts_blocks_from_the_end(scheme, k, expected):
    net = network(scheme, store_last=k)
    assert [s.store_last for s in net.stages] == expected
    assert net.store_last == k
    x = pictures(dtype=D)
    net = net.to(D)
    other = copy.deepcopy(net)
    other.store_last = 0
    assert worst(gradients(net, x), gradients(other, x)) < 1e-10


def test_a_bad_store_last_is_refused():
    with pytest.raises(ValueError, match="store_last = -1"):
        network(store_last=-1)


def smoothness_by_hand(net):
    """The released code's pairs: blocks j and j + 1 of a unit, where block 0 of units 1, 2, ... has the old width."""
    total = 0.0
    for unit, stage in enumerate(net.stages):
        blocks = list(stage.blocks)
        if unit < len(net.stages) - 1:
            blocks.pop()  # block 0 of the next unit
        for a, b in pairwise(blocks):
            for f, g in zip(a, b, strict=True):
                total += 0.5 * (g.weight - f.weight).double().square().sum().item()
    return total


@pytest.mark.parametrize("scheme", ["hamiltonian", "midpoint", "leapfrog"])
def test_smoothness_is_half_the_sum_of_squared_differences(scheme):
    net = network(scheme, (3, 3, 4))
    assert net.smoothness().item() == pytest.approx(smoothness_by_hand(net), rel=1e-5)
    # One list for each function in each unit; blocks 0 of units 1 and 2 have the old shape and are left out.
    assert [len(p) for p in net.paths()] == [n for n in (3, 2, 3) for _ in range(net.scheme.fields)]


def test_smoothness_compares_f_with_f_and_not_across_units():
    net = network("hamiltonian", (2, 3), (4, 8))
    with torch.no_grad():
        for path, value in zip(net.paths(), (1.0, 2.0, 5.0, 7.0), strict=True):
            for k in path:
                k.fill_(value)
    assert net.smoothness().item() == 0


@pytest.mark.parametrize("scheme", ALL)
def test_the_gradient_of_smoothness_reaches_the_kernels(scheme):
    net = network(scheme, (3, 3), (4, 8)).to(D)
    net.smoothness().backward()
    a, b, c = net.paths()[0]
    torch.testing.assert_close(a.grad, (a - b).detach())
    torch.testing.assert_close(b.grad, (2 * b - a - c).detach())
    assert net.fc.weight.grad is None


def test_smoothness_of_units_of_one_block_is_zero():
    net = network(units=(1,), widths=(4,))
    assert net.smoothness() == 0
    assert net(pictures()).shape == (3, 10)


@pytest.mark.parametrize("scheme", ALL)
def test_units_of_one_block(scheme):
    net = network(scheme, (1, 1, 1)).to(D)
    stored = copy.deepcopy(net)
    stored.memory = "stored"
    x = pictures(dtype=D)
    assert worst(gradients(net, x), gradients(stored, x)) < 1e-10


def dense_frequency(net, stage, block, size):
    """Largest frequency of the linear differential equation of one block, from its dense matrix (tanh at 0)."""
    fields = list(net.stages[stage].blocks[block])
    channels = fields[0].weight.shape[1]
    n = channels * size * size
    maps = [
        torch.autograd.functional.jacobian(f, torch.zeros(1, channels, size, size, dtype=D)).reshape(n, n)
        for f in fields
    ]
    if net.scheme.name == "hamiltonian":  # (Y, Z)' = (A Z, -B Y)
        zero = torch.zeros(n, n, dtype=D)
        matrix = torch.cat((torch.cat((zero, maps[0]), 1), torch.cat((-maps[1], zero), 1)))
        return torch.linalg.eigvals(matrix).abs().max().item()
    if net.scheme.name == "leapfrog":  # Y'' = -A Y
        return math.sqrt(torch.linalg.eigvalsh(maps[0]).max().item())
    if net.scheme.name == "midpoint":
        return torch.linalg.eigvals(maps[0]).abs().max().item()
    norms = [torch.linalg.matrix_norm(m, 2).item() for m in maps]
    return norms[0] if net.scheme.name in ("euler", "momentum") else math.sqrt(norms[0] * norms[1])


@pytest.mark.parametrize("scheme", ALL)
def test_stable_step_against_dense_matrices(scheme):
    size = 6
    net = network(scheme, (2, 2), (8, 12), activation="tanh", normalization="none").to(D)
    found = stable_step(net, size=size)
    exact = [[dense_frequency(net, s, b, size) for b in range(len(st.blocks))] for s, st in enumerate(net.stages)]
    for s, stage in enumerate(net.stages):
        for b, block in enumerate(stage.blocks):
            assert 0.95 * exact[s][b] <= frequency(scheme, block, size) <= exact[s][b] * (1 + 1e-9)
    omega = max(map(max, exact))
    limit = {"hamiltonian": 2, "leapfrog": 2, "midpoint": 1, "revnet": 2, "momentum": 1, "euler": 1}[scheme]
    assert 0.45 * limit <= found.h * omega <= 0.5 * limit
    assert found.limit == limit


@pytest.mark.parametrize("scheme", ["hamiltonian", "leapfrog", "midpoint"])
def test_a_network_without_normalization_is_stable_at_its_step_and_not_at_five_times(scheme):
    net = network(scheme, (1,), (8,), activation="tanh", normalization="none").to(D)
    assert net.h == net.stability.h
    stage, block = net.stages[0], net.stages[0].blocks[0]

    def growth(h, steps=200):
        stage.h = h
        state = stage.scheme.start(1e-6 * torch.randn(1, 8, 12, 12, dtype=D))  # small: the linear range of tanh
        before = sum(p.norm() for p in state)
        with torch.no_grad():
            for j in range(steps):
                state = stage.scheme.step(state, block, j)
        return (sum(p.norm() for p in state) / before).item()

    # Leapfrog has V' = -K^T K Y and Y' = V, so where K has small frequencies Y grows linearly in time, not faster.
    h = net.h
    assert growth(h) < 100
    assert growth(5 * h) > 1e3


def test_the_chosen_step_is_kept_and_said():
    net = network(normalization="none")
    assert f"h = {net.h:.4g} (h * omega = 1 of 2" in repr(net)
    net.h = 0.05
    assert "h = 0.05," in repr(net)
    assert network(normalization="none", h=0.3).h == 0.3
    assert network(normalization="none", h=0.3).stability is None
    assert network(normalization="batch").h == 1.0


def test_stable_step_refuses_what_has_none():
    with pytest.raises(ValueError, match="depend on the data"):
        stable_step(network())
    net = network(normalization="none", h=0.1)
    with pytest.raises(ValueError, match=r"fraction = 1\.5"):
        stable_step(net, fraction=1.5)
    for p in net.parameters():
        torch.nn.init.zeros_(p)
    with pytest.raises(ValueError, match="largest frequency"):
        stable_step(net)
    with torch.device("meta"), pytest.raises(ValueError, match="meta device"):
        network(normalization="none")


def test_a_seed_repeats_and_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    a, b, c = network(seed=5), network(seed=5), network(seed=6)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))
    assert not torch.equal(a.stem.weight, c.stem.weight)
    assert not torch.equal(network(seed=None).stem.weight, network(seed=None).stem.weight)
    assert not torch.equal(state, torch.get_rng_state())


def test_a_scheme_may_be_given_as_a_function_of_the_step():
    net = Network(lambda h: Leapfrog(h, start="half-kick"), (2, 2), (4, 8), h=0.3)
    assert net.scheme.start_rule == "half-kick"
    assert net.h == 0.3


def test_settings_make_the_same_form_again():
    net = network("leapfrog", num_classes=4, normalization="none", memory="stored", in_channels=1)
    net.h = 0.123
    again = Network(**net.settings)
    again.load_state_dict(net.state_dict())
    assert again.h == 0.123
    x = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(net(x), again(x))


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (torch.zeros(2, 1, 8, 8), ChannelError, "images have 1 channels .* the network takes 3"),
        (torch.zeros(2, 3, 10, 8), ImageError, "10 x 8 pixels.* multiples of 4"),
        (torch.zeros(2, 3, 2, 2), ImageError, "2 x 2 pixels"),
        (torch.zeros(2, 3, 0, 8), ImageError, "0 x 8 pixels"),
        (torch.zeros(3, 8, 8), ImageError, r"\(N, C, H, W\)"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), ImageError, "uint8"),
    ],
)
def test_bad_images_are_refused(x, error, words):
    with pytest.raises(error, match=words) as e:
        network()(x)
    assert isinstance(e.value, RevodeError)


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"scheme": "verlet"}, "scheme = 'verlet' must be one of: hamiltonian"),
        ({"units": ()}, "of one length"),
        ({"units": (2, 2)}, "of one length"),
        ({"units": (2, 0, 2)}, "whole numbers, 1 or more"),
        ({"widths": (4, 8, 6)}, "must not decrease"),
        ({"widths": (4, 7, 8)}, "must be even"),
        ({"normalization": "layer"}, "normalization = 'layer' must be one of: batch, none"),
        ({"activation": "swish"}, "activation = 'swish' must be one of"),
        ({"memory": "some"}, "memory = 'some'"),
        ({"h": math.inf}, "h = inf"),
    ],
)
def test_bad_networks_are_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        network(**kwargs)


def test_odd_widths_are_fine_where_channels_are_not_split():
    assert network("midpoint", widths=(3, 6, 9))(pictures()).shape == (3, 10)


def test_autocast_keeps_the_state_in_float32():
    net = network()
    with torch.autocast("cpu", torch.bfloat16):
        y = net(pictures())
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
