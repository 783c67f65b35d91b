"""The one backward pass: activations are rebuilt from the end while the gradient runs back.

Behind each shear ``a <- c*a + scale*g(b)`` the value g(b) is computed once, with its gradient. That value undoes the
shear, and its gradient carries the cotangent on, so a training step costs one extra forward evaluation: 4/3 of
ordinary backpropagation, whatever the scheme, and somewhat less where batch statistics need not be summed up again
(:class:`revode.replay.Statistics`). Kept for the backward pass are the input and the final state of the stage, and,
where the inverse divides by c, a few snapshots.

Sources: Gomez et al. 2017 (arXiv 1707.04585) for the backward pass of additive couplings; Chang et al. 2018
(arXiv 1709.03698) for its use with Hamiltonian, midpoint and leapfrog steps; Maclaurin et al. 2015
(arXiv 1502.03492) for the rounding error of an inverse that divides by c.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_unflatten

from . import shear as primitive
from . import traced
from .fixed_point import Scale
from .replay import Autocast, Generators, Modules, buffers
from .shear import Shear, State
from .unwind import snapshot_positions, unwind

#: Whether torch.compile can trace a whole stage (measured: 2.10, 2.11 and 2.14 can, 2.9 and 2.6 cannot); with older
#: versions it breaks the graph around the stage, which then runs as without compilation.
TRACEABLE = torch.__version__ >= (2, 10)

_warned: set[str] = set()


def _warn_once(reason: str) -> None:
    if reason not in _warned:
        _warned.add(reason)
        warnings.warn(
            f"{reason}: revode falls back to stored activations here (right, but memory grows with depth)",
            stacklevel=4,
        )


def propagate(
    shears: Sequence[Shear],
    state: State,
    kwargs: dict | None = None,
    *,
    memory: str = "reversible",
    scale: Scale | None = None,
) -> State:
    """Apply the shears to the state; the gradient does not depend on ``memory``, its cost does.

    Args:
        shears: The updates, in order.
        state: Parts of the state, tensors of one shape and dtype.
        kwargs: Extra keyword arguments handed to every g; tensors among them may need gradients.
        memory: "reversible" rebuilds activations in the backward pass, memory independent of the number of
            shears; "stored" is ordinary autograd.
        scale: Of exact arithmetic in fixed point (:mod:`revode.fixed_point`), chosen before; None computes in
            floating point.

    Returns:
        The new state. Its tensors are safe to be modified in place.

    Raises:
        FixedPointRangeError, NonFiniteIncrementError: in exact arithmetic, if values leave the range or are not finite;
            the backward pass raises RecomputationError if ``scale.verify`` finds another increment than before.
        NotInvertibleError: if gradients are needed, memory is "reversible" and a shear has c = 0.
        ValueError: for another value of ``memory``, a learned factor that is not finite, or malformed shears
            (:func:`revode.shear.check`).
    """
    if memory not in ("reversible", "stored"):
        raise ValueError(f"memory = {memory!r} must be 'reversible' or 'stored'")
    kwargs = kwargs or {}
    if scale and torch.compiler.is_compiling():
        return _uncompiled(shears, state, kwargs, memory, scale)
    if memory == "stored" or not torch.is_grad_enabled():
        return _stored(shears, state, kwargs, scale)
    if torch.compiler.is_compiling():
        return traced.propagate(shears, state, kwargs) if TRACEABLE else _uncompiled(shears, state, kwargs)
    if reason := _cannot_reverse():
        _warn_once(reason)
        return _stored(shears, state, kwargs, scale)
    plan, inputs = _Plan.of(shears, state, kwargs, scale)
    if plan is None:
        return _stored(shears, state, kwargs, scale)
    return _Reversible.apply(plan, *inputs)


def _stored(shears: Sequence[Shear], state: State, kwargs: dict, scale: Scale | None) -> State:
    if scale is None or _cannot_reverse():  # a derivative goes straight through the rounding: floats have the same
        return primitive.forward(shears, state, kwargs)
    return scale.leave(primitive.forward(shears, scale.enter(state), kwargs))


@torch.compiler.disable
def _uncompiled(
    shears: Sequence[Shear], state: State, kwargs: dict, memory: str = "reversible", scale: Scale | None = None
) -> State:
    return propagate(shears, state, kwargs, memory=memory, scale=scale)


def _cannot_reverse() -> str:
    if torch._C._are_functorch_transforms_active():
        return "a torch.func transform is active"
    if forward_ad._current_level >= 0:
        return "forward-mode differentiation is active"
    return ""


@dataclass(eq=False)
class _Field:
    """One residual function, and where its parameters stand among the inputs of the autograd function."""

    g: nn.Module
    slots: list[tuple[dict, str, int]]  # the module's dictionary that holds a parameter, its name there, its place
    where: list[int]  # places of the parameters that need gradient
    buffers: dict[str, Tensor]


@dataclass(eq=False)
class _Plan:
    """What one call of the autograd function does, and what its second evaluation has to repeat."""

    shears: Sequence[Shear]  # their factors are numbers
    fields: list[_Field | None]
    factors: dict[int, tuple[int | None, int | None]]  # of shears that learn: places of scale and c among the inputs
    parts: int
    needs: list[bool]  # of the inputs: the state, tensors among kwargs, every parameter and learned factor once
    kwargs_spec: object
    kwargs_leaves: list
    kwargs_where: list[int]  # positions among the leaves of the tensors that need gradient
    snapshots: list[int]
    first: int  # before this shear nothing needs gradient
    modules: Modules
    autocast: Autocast
    scale: Scale | None = None
    final: object = None  # the form of the final state, to be put together from saved tensors
    generators: list[Generators | None] = field(default_factory=list)
    written: list[dict[str, Tensor]] = field(default_factory=list)  # buffers as g found them, where it changed them

    @classmethod
    def of(
        cls, shears: Sequence[Shear], state: State, kwargs: dict, scale: Scale | None
    ) -> tuple[_Plan | None, list[Tensor]]:
        """The plan and its input tensors; no plan if nothing in the call needs gradient."""
        leaves, spec = tree_flatten(kwargs)
        kwargs_where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad]
        inputs = [*state, *(leaves[i] for i in kwargs_where)]
        first = 0 if any(t.requires_grad for t in inputs) else None
        index: dict[Tensor, int] = {}

        def place(t: Tensor) -> int:
            if t not in index:
                index[t] = len(inputs)
                inputs.append(t)
            return index[t]

        factors = {}
        known: dict[nn.Module, _Field] = {}
        fields: list[_Field | None] = []
        for k, s in enumerate(shears):
            f = known.get(s.g) if s.g is not None else None
            if s.g is not None and f is None:
                f = known[s.g] = _Field(s.g, [], [], buffers(s.g))
                for m in s.g.modules():
                    for name, p in m._parameters.items():
                        if p is None:
                            continue
                        f.slots.append((m._parameters, name, place(p)))
                        if p.requires_grad and first is None:
                            first = k
                f.where = [i for i in dict.fromkeys(i for _, _, i in f.slots) if inputs[i].requires_grad]
            fields.append(f)
            learned = [isinstance(t, Tensor) and t.requires_grad for t in (s.scale, s.c)]
            if any(learned):
                factors[k] = tuple(place(t) if need else None for t, need in zip((s.scale, s.c), learned))
                first = k if first is None else first
        if first is None:
            return None, inputs
        for i in kwargs_where:
            leaves[i] = None
        shears = primitive.numbers(shears)
        plan = cls(
            shears=shears,
            fields=fields,
            factors=factors,
            parts=len(state),
            needs=[t.requires_grad for t in inputs],
            kwargs_spec=spec,
            kwargs_leaves=leaves,
            kwargs_where=kwargs_where,
            snapshots=snapshot_positions(shears, exact=scale is not None),
            first=first,
            modules=Modules(known),
            autocast=Autocast(state[0].device.type),
            scale=scale,
        )
        return plan, inputs

    def kwargs(self, tensors: Sequence[Tensor]) -> dict:
        leaves = list(self.kwargs_leaves)
        for j, i in enumerate(self.kwargs_where):
            leaves[i] = tensors[self.parts + j]
        return tree_unflatten(leaves, self.kwargs_spec)

    @contextmanager
    def replayed(self, tensors: Sequence[Tensor]) -> Iterator[dict]:
        """Modules as in the forward pass, these tensors in the place of the parameters; gives the keyword arguments."""
        held = []
        with self.modules.replayed():
            try:
                for slots, name, i in (slot for f in dict.fromkeys(self.fields) if f for slot in f.slots):
                    held.append((slots, name, slots[name]))
                    slots[name] = tensors[i]
                yield self.kwargs(tensors)
            finally:
                for slots, name, p in reversed(held):
                    slots[name] = p

    def again(self, k: int, b: Tensor, kwargs: dict, dtype: torch.dtype) -> Tensor:
        """g of shear k at b once more, inside :meth:`replayed`."""
        g, generators, written = self.fields[k].g, self.generators[k], self.written[k]
        with self.autocast(), generators() if generators else nullcontext():
            if written:
                return functional_call(g, {n: t.clone() for n, t in written.items()}, (b,), kwargs).to(dtype)
            return g(b, **kwargs).to(dtype)


class _Reversible(torch.autograd.Function):
    """A whole sequence of shears as one node of the graph."""

    @staticmethod
    def forward(ctx, plan: _Plan, *inputs: Tensor) -> State:
        kwargs = plan.kwargs(inputs)
        parts = list(inputs[: plan.parts])
        device = parts[0].device
        if plan.scale:
            parts = list(plan.scale.enter(parts))
        kept: list[Tensor] = []
        keep = set(plan.snapshots)
        generators = Generators(device)
        with plan.modules.watched():
            for k, (s, f) in enumerate(zip(plan.shears, plan.fields, strict=True)):
                if k in keep:
                    kept += parts
                before = {n: b.clone() for n, b in f.buffers.items()} if f else {}
                plan.modules.statistics.evaluation(k)
                parts[s.target] = primitive.add(s, parts[s.target], primitive.increment(s, parts, kwargs))
                plan.written.append(
                    {n: b for n, b in before.items() if not torch.equal(b, f.g.get_buffer(n))} if f else {}
                )
                now = Generators(device) if f else generators
                plan.generators.append(None if now == generators else generators)
                generators = now
        ctx.plan = plan
        unchanged = [
            b for f, w in zip(plan.fields, plan.written, strict=True) if f for n, b in f.buffers.items() if n not in w
        ]  # kept by reference: autograd refuses to go on if they are modified before the backward pass
        final, plan.final = tree_flatten(parts)
        ctx.save_for_backward(*inputs, *final, *kept, *unchanged)
        if plan.scale:
            return plan.scale.leave(parts)
        # Copies, because what the caller does to the result in place must not reach what is kept.
        return tuple(p.clone() for p in parts)

    @staticmethod
    def backward(ctx, *cotangents: Tensor):
        plan: _Plan = ctx.plan
        saved = list(ctx.saved_tensors)
        inputs, rest = saved[: len(plan.needs)], saved[len(plan.needs) :]
        state, kept = tree_unflatten(rest[: plan.final.num_leaves], plan.final), rest[plan.final.num_leaves :]
        if torch.is_grad_enabled():  # create_graph=True: the result must be differentiable itself
            _warn_once("double backward (create_graph=True)")
            return None, *_Reversible._stored(plan, inputs, cotangents)
        snapshots = {k: tuple(kept[i * plan.parts : (i + 1) * plan.parts]) for i, k in enumerate(plan.snapshots)}
        # Gradients are taken with respect to aliases: hooks of a parameter must fire once, where they are summed up.
        leaves = [t.detach().requires_grad_(need) for t, need in zip(inputs, plan.needs, strict=True)]
        extra = list(range(plan.parts, plan.parts + len(plan.kwargs_where)))
        upstream = any(plan.needs[: plan.parts]) or bool(extra)
        total: list[Tensor | None] = [None] * len(inputs)

        def pull(k: int, b: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
            f = plan.fields[k]
            if f is None:
                return b.to(w.dtype), w.to(b.dtype)
            b = b.detach().requires_grad_(upstream or k > plan.first)
            wanted = extra + f.where
            plan.modules.statistics.evaluation(k)
            with torch.enable_grad():
                v = plan.again(k, b, kwargs, w.dtype)
            at = [b] * b.requires_grad + [leaves[i] for i in wanted]
            if not (at and v.requires_grad):
                return v.detach(), None
            grads = list(torch.autograd.grad(v, at, w, allow_unused=True))
            d = grads.pop(0) if b.requires_grad else None
            for i, g in zip(wanted, grads, strict=True):
                if g is not None:
                    gather(i, g)
            return v.detach(), d

        def gather(i: int, g: Tensor) -> None:
            total[i] = g if total[i] is None else total[i] + g

        def learned(places: tuple[int | None, int | None], w: Tensor, v: Tensor, a: Tensor) -> None:
            for i, x in zip(places, (v, a), strict=True):
                if i is not None:
                    gather(i, (w * x).sum().to(inputs[i]))

        with plan.replayed(leaves) as kwargs:
            factors = {k: partial(learned, places) for k, places in plan.factors.items()}
            total[: plan.parts] = unwind(plan.shears, state, cotangents, pull, snapshots, plan.first, factors)
        return None, *(t if need else None for t, need in zip(total, plan.needs, strict=True))

    @staticmethod
    def _stored(plan: _Plan, inputs: list[Tensor], cotangents: tuple[Tensor, ...]) -> list[Tensor | None]:
        """The gradient by ordinary autograd from the stage's input, itself differentiable."""
        aliases = [t.view_as(t) for t in inputs]
        parts = aliases[: plan.parts]
        plan.modules.statistics.evaluation(None)
        with plan.replayed(aliases) as kwargs:
            for k, s in enumerate(plan.shears):
                scale, c = plan.factors.get(k, (None, None))
                s = s._replace(scale=s.scale if scale is None else aliases[scale], c=s.c if c is None else aliases[c])
                b, dtype = parts[s.source], parts[s.target].dtype
                v = b.to(dtype) if s.g is None else plan.again(k, b, kwargs, dtype)
                parts[s.target] = primitive.add(s, parts[s.target], v)
        at = [i for i, need in enumerate(plan.needs) if need]
        grads = torch.autograd.grad(parts, [aliases[i] for i in at], cotangents, create_graph=True, allow_unused=True)
        found = dict(zip(at, grads, strict=True))
        return [found.get(i) for i in range(len(inputs))]
