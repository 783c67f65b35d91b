"""Where a run that went wrong did so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..networks import StageOptions


def first_not_finite(network: StageOptions, loss: Callable[[], Tensor]) -> str | None:
    """Where the first value that is not finite appears, by one more pass with stored activations.

    Looked at in the order in which they are computed: parameters, the modules' outputs (a module's parts come before
    the module), the loss, and going backward, the gradients at the modules' outputs, then those of the parameters.

    Args:
        network: Left as it is, but for the random generators.
        loss: Computes the loss with this network.

    Returns:
        A sentence with the name of the module or parameter; None if all is finite.
    """
    for name, p in network.named_parameters():
        if not p.isfinite().all():
            return f"the first value that is not finite is in parameter '{name}'"
    found: list[str] = []

    def watch(name: str):
        def gradient(g: Tensor) -> None:
            if not found and not g.isfinite().all():
                found.append(f"the first value that is not finite is the gradient at the output of layer '{name}'")

        def hook(module: nn.Module, args: tuple, out: Any) -> None:
            if isinstance(out, Tensor) and not found:
                if not out.isfinite().all():
                    found.append(f"the first value that is not finite is the output of layer '{name}'")
                elif out.requires_grad:
                    out.register_hook(gradient)

        return hook

    hooks = [m.register_forward_hook(watch(name)) for name, m in network.named_modules() if name]
    stages = [(m, m.memory) for m in network.stages]
    buffers = [(b, b.clone()) for b in network.buffers()]
    try:
        for stage, _ in stages:
            stage.memory = "stored"
        with torch.enable_grad():
            value = loss()
            if not found and not value.isfinite().all():
                found.append("the layers' outputs are finite, the loss is not")
            if not found:
                named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
                grads = torch.autograd.grad(value, [p for _, p in named], allow_unused=True)
                for (name, _), g in zip(named, grads):
                    if not found and g is not None and not g.isfinite().all():
                        found.append(f"the first value that is not finite is the gradient of parameter '{name}'")
    finally:
        for hook in hooks:
            hook.remove()
        for stage, memory in stages:
            stage.memory = memory
        with torch.no_grad():
            for b, old in buffers:
                b.copy_(old)
    return found[0] if found else None
