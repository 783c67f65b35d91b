"""The reversible backward pass in a form that ``torch.compile`` can trace into one graph.

Under ``torch.compile`` nothing may happen behind the tracer's back, so here every function is pure: parameters and
buffers go in, the value and the new buffers come out, and the gradient of g is taken by :func:`torch.func.vjp`. The
walk back over the shears is :func:`revode.unwind.unwind`, the same as without compilation. Forward and
recomputation are traced from the same calls and lowered by the same compiler, so they are the same kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from . import shear as primitive
from .shear import Shear, State
from .unwind import snapshot_positions, unwind


def propagate(shears: Sequence[Shear], state: State, kwargs: dict) -> State:
    """As :func:`revode.backward.propagate` with memory="reversible", inside a compiled function.

    Random numbers cannot be replayed in a compiled graph: where a dropout module is active, activations are stored.
    """
    plan = _Plan(shears, len(state), kwargs)
    if plan.random or not any(t.requires_grad for t in (*state, *plan.learned)):
        return primitive.forward(shears, state, kwargs)
    out = _Reversible.apply(plan, *_distinct([*state, *plan.learned, *plan.buffers]))
    for old, new, training in zip(plan.buffers, out[len(state) :], plan.training):
        if training:
            with torch.no_grad():
                old.copy_(new)
    return out[: len(state)]


def _distinct(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors, repeated ones (shared weights, a state of equal parts) as views: the tracer wants them distinct."""
    seen, out = set(), []
    for t in tensors:
        out.append(t.view_as(t) if t in seen else t)
        seen.add(t)
    return out


class _Call:
    """One shear: the names of the tensors its g takes, and where they stand in the lists of the plan."""

    def __init__(self, g: nn.Module | None, learned: list[Tensor], buffers: list[Tensor], needed: int):
        self.parameters: list[str] = []
        self.buffers: list[str] = []
        self.running: list[tuple | None] = []  # of a running statistic that the value does not use: its shape etc.
        self.training: list[bool] = []
        self.random = False
        self.at, self.buffers_at, self.needed_at = len(learned), len(buffers), needed
        for prefix, m in [] if g is None else g.named_modules():
            running = isinstance(m, _NormBase) and m.training and m.track_running_stats
            self.random = self.random or (isinstance(m, _DropoutNd) and m.training and m.p > 0)
            for name, p in m.named_parameters(recurse=False):
                self.parameters.append(f"{prefix}.{name}" if prefix else name)
                learned.append(p)
            for name, b in m.named_buffers(recurse=False):
                self.buffers.append(f"{prefix}.{name}" if prefix else name)
                self.running.append((b.shape, b.dtype, b.device) if running else None)
                self.training.append(m.training)
                buffers.append(b)
        self.needed = len([r for r in self.running if r is None])


class _Plan:
    """The shears of one call with the tensors they take, in the order in which autograd sees them."""

    def __init__(self, shears: Sequence[Shear], parts: int, kwargs: dict):
        self.shears, self.parts = shears, parts
        self.constants = {k: v for k, v in kwargs.items() if not isinstance(v, Tensor)}
        self.names = [k for k, v in kwargs.items() if isinstance(v, Tensor)]
        self.learned: list[Tensor] = [kwargs[k] for k in self.names]
        self.factors: list[tuple[int | None, int | None]] = []  # places of scale and c where they are tensors
        for s in shears:
            places = []
            for t in (s.scale, s.c):
                places.append(len(self.learned) if isinstance(t, Tensor) else None)
                self.learned += [t] if isinstance(t, Tensor) else []
            self.factors.append(tuple(places))
        self.buffers: list[Tensor] = []
        self.calls: list[_Call] = []
        self.training: list[bool] = []
        self.random, needed = False, 0
        for s in shears:
            call = _Call(s.g, self.learned, self.buffers, needed)
            self.calls.append(call)
            self.training += call.training
            self.random, needed = self.random or call.random, needed + call.needed
        self.snapshots = snapshot_positions(shears)

    def shear(self, k: int, learned: Sequence[Tensor]) -> Shear:
        """Shear k with these tensors as its factors."""
        s, (scale, c) = self.shears[k], self.factors[k]
        return Shear(
            s.target, s.source, s.g, s.scale if scale is None else learned[scale], s.c if c is None else learned[c]
        )

    def value(self, k: int, b: Tensor, kwargs, learned, buffers) -> tuple[Tensor, list[Tensor]]:
        """g of shear k at b, and its buffers afterwards."""
        call = self.calls[k]
        new = {n: t.clone() for n, t in zip(call.buffers, buffers)}
        tensors = {**dict(zip(call.parameters, learned)), **new}
        v = functional_call(self.shears[k].g, tensors, (b,), {**self.constants, **dict(zip(self.names, kwargs))})
        return v, [new[n] for n in call.buffers]


class _Reversible(torch.autograd.Function):
    """A whole sequence of shears as one node; inputs are the state, tensors among kwargs, parameters, buffers."""

    @staticmethod
    def forward(ctx, plan: _Plan, *inputs: Tensor):
        parts = list(inputs[: plan.parts])
        learned = inputs[plan.parts : plan.parts + len(plan.learned)]
        buffers = inputs[plan.parts + len(plan.learned) :]
        kept, needed, written = [], [], []
        for k, call in enumerate(plan.calls):
            s = plan.shear(k, learned)
            if k in plan.snapshots:
                kept += parts
            if s.g is None:
                v = parts[s.source]
            else:
                mine = learned[call.at : call.at + len(call.parameters)]
                held = buffers[call.buffers_at : call.buffers_at + len(call.buffers)]
                v, new = plan.value(k, parts[s.source], learned[: len(plan.names)], mine, held)
                v = primitive.checked(s, v, parts[s.target])
                needed += [t.clone() for t, running in zip(held, call.running) if running is None]
                written += new
            parts[s.target] = primitive.add(s, parts[s.target], v)
        ctx.plan, ctx.kept, ctx.needed = plan, len(kept), len(needed)
        ctx.autocast = _autocast(parts[0].device.type)
        ctx.save_for_backward(*parts, *kept, *needed, *learned)
        ctx.mark_non_differentiable(*written)
        return (*(p.clone() for p in parts), *written)

    @staticmethod
    def backward(ctx, *cotangents: Tensor):
        plan: _Plan = ctx.plan
        saved, n = list(ctx.saved_tensors), plan.parts
        state, kept = saved[:n], saved[n : n + ctx.kept]
        needed, learned = saved[n + ctx.kept : n + ctx.kept + ctx.needed], saved[n + ctx.kept + ctx.needed :]
        snapshots = {k: kept[i * n : (i + 1) * n] for i, k in enumerate(plan.snapshots)}
        kwargs = learned[: len(plan.names)]
        total = [None for _ in learned]

        def pull(k: int, b: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
            call = plan.calls[k]
            if plan.shears[k].g is None:
                return b, w
            mine = learned[call.at : call.at + len(call.parameters)]
            rest = needed[call.needed_at : call.needed_at + call.needed]
            buffers, q = [], 0
            for running in call.running:
                if running is None:
                    buffers.append(rest[q])
                    q += 1
                else:  # a norm layer in training mode does not read its running statistics: any values do
                    shape, dtype, device = running
                    buffers.append(torch.zeros(shape, dtype=dtype, device=device))

            def f(b, kwargs, mine):
                device, dtype, enabled = ctx.autocast
                with torch.autocast(device, dtype, enabled):
                    return plan.value(k, b, kwargs, mine, buffers)[0].to(w.dtype)

            v, back = vjp(f, b, kwargs, mine)
            d, d_kwargs, d_mine = back(w)
            for i, g in enumerate(d_kwargs):
                total[i] = g if total[i] is None else total[i] + g
            for i, g in enumerate(d_mine):
                total[call.at + i] = g
            return v, d

        def factors(k: int, w: Tensor, v: Tensor, a: Tensor) -> None:
            for i, x in zip(plan.factors[k], (v, a)):
                if i is not None:
                    total[i] = (w * x).sum().to(learned[i])

        shears = [plan.shear(k, learned) for k in range(len(plan.shears))]
        learn = {k: partial(factors, k) for k, places in enumerate(plan.factors) if places != (None, None)}
        grads = unwind(shears, state, cotangents[:n], pull, snapshots, learned=learn)
        return None, *grads, *total, *[None for _ in plan.buffers]


def _autocast(device: str) -> tuple[str, torch.dtype, bool]:
    return device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
