"""What the second evaluation of a residual function must repeat, and what it must leave alone.

The reversible backward pass evaluates each g a second time. To give the same value and the same gradient as the
first time it must see the same random numbers, the same autocast setting, the same training flags and the same
buffers. And it must leave no second trace: batch statistics are updated once, hooks that only observe fire once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn
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
        self._hooked = [m for m in self.modules if m._forward_hooks]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Run forward hooks as usual and note which of them only observe (return None)."""
        if not self._hooked:
            yield
            return
        with ExitStack() as stack:
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
            yield


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
