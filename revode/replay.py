"""What the second evaluation of a residual function must repeat, and what it must leave alone.

The reversible backward pass evaluates each g a second time. To give the same value and the same gradient as the
first time it must see the same random numbers, the same autocast setting, the same training flags and the same
buffers. And it must leave no second trace: batch statistics are updated once, hooks that only observe fire once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _NormBase


class Autocast:
    """The autocast setting at the time of construction, to be entered again later."""

    def __init__(self, device_type: str):
        self.device_type = device_type
        self.known = torch.amp.is_autocast_available(device_type)
        self.enabled = self.known and torch.is_autocast_enabled(device_type)
        self.dtype = torch.get_autocast_dtype(device_type) if self.known else None

    def __call__(self):
        if not self.known:
            return nullcontext()
        # Without its weight cache: a cast cached under no_grad carries no gradient.
        return torch.autocast(self.device_type, self.dtype, self.enabled, cache_enabled=False)


class Generators:
    """State of the random generators that g can draw from: the CPU's and that of the state's device."""

    def __init__(self, device: torch.device):
        self.device = device
        self.cpu = torch.get_rng_state()
        module = self._module(device)
        self.other = None if module is None else module.get_rng_state(device)

    @staticmethod
    def _module(device: torch.device):
        return None if device.type == "cpu" else getattr(torch, device.type, None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Generators):
            return NotImplemented
        same = torch.equal(self.cpu, other.cpu)
        return same and (self.other is None or torch.equal(self.other, other.other))

    __hash__ = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside, the generators stand where they stood at construction; afterwards they go on undisturbed."""
        now = Generators(self.device)
        self._set()
        try:
            yield
        finally:
            now._set()

    def _set(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.other is not None:
            self._module(self.device).set_rng_state(self.other, self.device)


class Modules:
    """The submodules of some residual functions, and how they stood in the forward pass."""

    def __init__(self, fields: Iterable[nn.Module]):
        self.modules = list(dict.fromkeys(m for g in fields for m in g.modules()))
        self.training = [m.training for m in self.modules]
        self.observers: set[int] = set()
        self.statistics = Statistics(self.modules)
        self._hooked = [m for m in self.modules if m._forward_hooks]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Run forward hooks as usual and note which of them only observe (return None); keep batch statistics."""
        with ExitStack() as stack:
            stack.enter_context(self.statistics.taken())
            for m in self._hooked:
                original = m._forward_hooks
                wrapped = type(original)((k, self._noting(k, hook)) for k, hook in original.items())
                stack.callback(setattr, m, "_forward_hooks", original)
                m._forward_hooks = wrapped
            yield

    def _noting(self, key: int, hook):
        def run(*args, **kwargs):
            out = hook(*args, **kwargs)
            self.observers.discard(key) if out is not None else self.observers.add(key)
            return out

        return run

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Modules as in the forward: same training flags; no running statistics; observing hooks silent.

        A norm layer in training mode normalizes by the batch, so leaving its running statistics out changes
        neither value nor gradient, and they are updated once per step as in ordinary training.
        """
        with ExitStack() as stack:
            for m, training in zip(self.modules, self.training, strict=True):
                if m.training != training:
                    stack.callback(setattr, m, "training", m.training)
                    m.training = training
                if training and isinstance(m, _NormBase) and m.track_running_stats:
                    stack.callback(setattr, m, "track_running_stats", True)
                    m.track_running_stats = False
                if m._forward_hooks:
                    original = m._forward_hooks
                    kept = type(original)((k, f) for k, f in original.items() if k not in self.observers)
                    stack.callback(setattr, m, "_forward_hooks", original)
                    m._forward_hooks = kept
            stack.enter_context(self.statistics.given())
            yield


#: Fewest values a channel whose statistics are kept.
FEWEST = 256


class _Batch:
    """The last batch that a norm has seen in a stage: in which evaluation, whether in two calls, mean, 1/deviation."""

    def __init__(self, mean: Tensor):
        self.evaluation: object = None
        self.twice = False
        self.statistics = torch.empty_like(mean).repeat(2, 1)


#: Kept with the module, as its running statistics are, and not with the graph; the memory is used again in each step.
_last_batch: WeakKeyDictionary[nn.Module, _Batch] = WeakKeyDictionary()


class Statistics:
    """Batch statistics, summed up over the batch in the forward pass and not once more in the second evaluation.

    A norm in training mode reads its input twice, and the first time, for the sums, costs more than the second. If the
    batch of the second evaluation is the last that the norm has seen, its statistics are still there. If not (a norm
    that stands at several depths, a second forward pass before the backward pass), they are summed up again. Value
    and gradient are the same, to the last bit of the value.

    For float32 and float64 on the CPU, and from :data:`FEWEST` values a channel on: of fewer the sums cost nothing, and
    statistics that are not quite those of the rebuilt values would blur a gradient that nearly cancels. Elsewhere norms
    run as always.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        modules = list(modules)
        compiled = any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in modules)
        self._norms = [] if compiled else [m for m in modules if _sums_up(m)]
        self._pass = object()
        self._evaluation: object = None

    def evaluation(self, k: int | None) -> None:
        """What runs next is the evaluation number k of this pass; None: keep and use nothing."""
        self._evaluation = None if k is None else (self._pass, k)

    def taken(self):
        """Inside, norms keep the statistics they take."""
        return self._instead(self._take)

    def given(self):
        """Inside, norms use the statistics that were kept."""
        return self._instead(self._give)

    @contextmanager
    def _instead(self, forward) -> Iterator[None]:
        try:
            for m in self._norms:
                m.__dict__["forward"] = partial(forward, m)
            yield
        finally:
            for m in self._norms:
                m.__dict__.pop("forward", None)

    def _take(self, m: nn.Module, x: Tensor) -> Tensor:
        if self._evaluation is None or not _plain(m, x):
            return type(m).forward(m, x)
        m._check_input_dim(x)
        if m.num_batches_tracked is not None:
            m.num_batches_tracked.add_(1)
        y, mean, inverse = torch.native_batch_norm(
            x, m.weight, m.bias, m.running_mean, m.running_var, True, m.momentum, m.eps
        )
        last = _last_batch.get(m)
        if last is None or last.statistics[0].shape != mean.shape or last.statistics.dtype != mean.dtype:
            last = _last_batch[m] = _Batch(mean)
        last.twice = last.evaluation == self._evaluation
        last.evaluation = self._evaluation
        torch.stack([mean, inverse], out=last.statistics)
        return y

    def _give(self, m: nn.Module, x: Tensor) -> Tensor:
        last = _last_batch.get(m)
        if last is None or last.twice or last.evaluation != self._evaluation or not _plain(m, x):
            return type(m).forward(m, x)
        return _Normalize.apply(x, m.weight, m.bias, *last.statistics, m.eps)


def _sums_up(m: nn.Module) -> bool:
    """Whether m is a batch normalization, as it comes with torch, that takes its statistics from the batch."""
    known = type(m) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    return known and m.training and m.momentum is not None and "forward" not in m.__dict__


def _plain(m: nn.Module, x: Tensor) -> bool:
    cpu = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return cpu and x.numel() >= FEWEST * x.shape[1] and (m.weight is None or m.weight.dtype == x.dtype)


class _Normalize(torch.autograd.Function):
    """Batch normalization in training mode whose statistics are known."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, inverse, eps):
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        # Variance 1 and eps 0 leave weight * inverse as the factor, the product that training forms: the same bits.
        factor = inverse if weight is None else weight * inverse
        return torch.native_batch_norm(x, factor, bias, mean, torch.ones_like(mean), False, 0.0, 0.0)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, w):
        x, weight, mean, inverse = ctx.saved_tensors
        grads = torch.ops.aten.native_batch_norm_backward(
            w, x, weight, None, None, mean, inverse, True, ctx.eps, ctx.needs_input_grad[:3]
        )
        return *grads, None, None, None


def buffers(g: nn.Module) -> dict[str, Tensor]:
    """Buffers of g that its value can depend on: all but the running statistics of norms in training mode."""
    out = {}
    for prefix, m in g.named_modules(remove_duplicate=False):
        if isinstance(m, _NormBase) and m.training and m.track_running_stats:
            continue
        for name, b in m._buffers.items():
            if b is not None:
                out[f"{prefix}.{name}" if prefix else name] = b
    return out
