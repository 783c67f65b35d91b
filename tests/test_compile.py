"""torch.compile with fullgraph=True over whole networks: the same gradient, and memory independent of depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import revode
import revode.backward
from revode.memory import peak_bytes
from revode.shear import Shear

from .helpers import REVERSIBLE, Branch, gradients, images, stage, stored_copy, worst
from .test_backward import Conditioned, Momentum

pytestmark = [pytest.mark.needs_compiler]
FULL = revode.backward.TRACEABLE  # older versions of torch break the graph around a stage, and are right

#: Traces, decomposes and cuts the graph in two as the default does, and then runs it operation by operation: writing
#: and building C++ takes most of a compilation, and tells nothing new of a second graph.
WITHOUT_CODE = "aot_eager_decomp_partition"


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()


def net(middle):
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), middle, nn.ReLU(), nn.Conv2d(8, 2, 1))


def compiled(module, backend="inductor"):
    return torch.compile(module, fullgraph=FULL, backend=backend)


def same_names(found):
    return {n.replace("_orig_mod.", ""): t for n, t in found.items()}


@pytest.mark.parametrize(
    ("name", "backend"),
    [("hamiltonian", "inductor"), *((n, WITHOUT_CODE) for n in REVERSIBLE if n not in ("hamiltonian", "momentum"))],
)  # momentum: see below
def test_whole_network_in_one_graph(name, backend):
    n = net(stage(name, blocks=2))
    plain, x = stored_copy(n), images(channels=3)
    for _ in range(2):  # the second step runs what the first one compiled
        assert worst(same_names(gradients(compiled(n, backend), x)), gradients(plain, x)) < 1e-4
    for (k, b), (_, p) in zip(n.named_buffers(), plain.named_buffers()):
        torch.testing.assert_close(b, p, rtol=1e-4, atol=1e-5, msg=k)


def test_shared_block_frozen_block_and_eval_mode():
    block = nn.ModuleList([Branch(4), Branch(4)])
    frozen = nn.ModuleList([Branch(4), Branch(4)]).requires_grad_(False)
    n = net(revode.Stage(revode.Hamiltonian(0.1), [block, frozen, block]))
    n.eval()
    plain, x = stored_copy(n), images(channels=3)
    assert worst(same_names(gradients(compiled(n, WITHOUT_CODE), x)), gradients(plain, x)) < 1e-4


class CompiledInside(nn.Module):
    """A residual function whose branch is compiled in place; the stage around it is not."""

    def __init__(self, channels):
        super().__init__()
        self.branch = Branch(channels)
        self.branch.compile()

    def forward(self, x):
        return self.branch(x)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the tracer looks at every tensor it meets
@pytest.mark.parametrize("make", [lambda c: torch.compile(Branch(c)), CompiledInside])
def test_compiled_branches_in_a_stage_that_is_not(make):
    s, x = stage(make=make, blocks=2), images()
    plain = stage(make=Branch if make is not CompiledInside else CompiledInside, blocks=2, memory="stored")
    plain.load_state_dict(same_names(s.state_dict()))
    assert worst(same_names(gradients(s, x)), gradients(plain, x)) < 1e-4
    for (k, b), (_, p) in zip(s.named_buffers(), plain.named_buffers()):
        torch.testing.assert_close(b, p, rtol=1e-4, atol=1e-5, msg=k)


def test_keyword_tensors_get_gradients():
    s = stage(make=Conditioned, blocks=2)
    plain, x, results = stored_copy(s), images(), []
    for module in (compiled(s, WITHOUT_CODE), plain):
        shift = torch.full((4, 1, 1), 0.3, requires_grad=True)
        results.append(same_names(gradients(module, x, shift=shift)) | {"shift": shift.grad})
    assert worst(*results) < 1e-4


def test_momentum_with_snapshots():
    n, x = Momentum(6, c=0.3), images(2)
    plain = Momentum(6, c=0.3, memory="stored")
    plain.load_state_dict(n.state_dict())
    assert worst(same_names(gradients(compiled(n, WITHOUT_CODE), x)), gradients(plain, x)) < 1e-4


def test_dropout_is_stored_under_compile_and_right():
    """The gradient is the slope of the output with the same masks; other masks in a recompute would change it."""
    n = net(stage(blocks=2, dropout=0.5, norm=False, act=nn.Tanh)).double()
    c, x = compiled(n), images(channels=3, dtype=torch.float64)
    weight = n[2].blocks[0][0].conv1.weight
    direction = torch.randn_like(weight)

    def value():
        torch.manual_seed(5)
        return c(x).square().sum()

    (g,) = torch.autograd.grad(value(), weight)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * 1e-6 * direction
        values.append(value().item())
        with torch.no_grad():
            weight -= sign * 1e-6 * direction
    slope = (values[0] - values[1]) / 2e-6
    assert abs(slope - (g * direction).sum().item()) < 1e-5 * abs(slope)


def test_autocast_under_compile():
    n = net(stage(blocks=2))
    plain, x = stored_copy(n), images(channels=3)

    def under(module):
        with torch.autocast("cpu", torch.bfloat16):
            y = module(x)
        y.float().square().sum().backward()
        return {k.replace("_orig_mod.", ""): p.grad for k, p in module.named_parameters()}

    assert worst(under(compiled(n, WITHOUT_CODE)), under(plain)) < 0.05


def test_memory_of_the_compiled_step_does_not_depend_on_depth():
    x = images(8, 3, 24)

    def peak(blocks, memory):
        torch._dynamo.reset()
        n = net(stage(blocks=blocks, memory=memory))
        c = torch.compile(n, fullgraph=FULL, backend=WITHOUT_CODE)
        for _ in range(2):
            n.zero_grad(set_to_none=True)
            peak = peak_bytes(lambda: c(x).sum().backward())
        return peak - sum(p.nbytes for p in n.parameters())

    activation = 8 * 4 * 24 * 24 * 4  # one half of the state
    assert peak(4, "reversible") - peak(2, "reversible") < activation / 2
    assert peak(4, "stored") - peak(2, "stored") > 4 * activation


def test_bad_field_is_refused_under_compile():
    class Narrow(nn.Module):
        def forward(self, x):
            return x[:, :2]

    s = revode.Stage(revode.Hamiltonian(0.1), [[Narrow(), Branch(4)]])
    with pytest.raises(Exception, match="keep the shape"):
        compiled(s)(images())


def test_shears_are_tuples_the_tracer_can_read():
    assert Shear(0, 1, None) == (0, 1, None, 1.0, 1.0)
