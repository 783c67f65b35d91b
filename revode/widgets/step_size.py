"""The hero figure: step size, stability region, trajectory and norm over depth, by slider."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import traitlets as t

from .. import stability
from ..errors import RevodeError
from ..stability import PROBLEMS, STABILITY_LIMIT, Layer
from .base import HERE, InteractiveFigure

LAYER_FILE = HERE / "step_size_layer.json"  # written by revode.widgets.trained_layer
STEPS = 100
H_STEP, H_MAX = 0.01, 2.5
TITLES = {"euler": "Euler", "midpoint": "midpoint", "hamiltonian": "Verlet", "leapfrog": "leapfrog"}
_NOT_SPLIT = "the layer’s rate moves all channels at once, and is neither split in halves nor of second order"


def specification() -> dict[str, Any]:
    """All that the page needs to know of schemes and problems, for JSON."""
    return {
        "steps": STEPS,
        "h_step": H_STEP,
        "h_max": H_MAX,
        "schemes": [{"name": name, "title": title, "limit": STABILITY_LIMIT[name]} for name, title in TITLES.items()],
        "problems": [
            {
                "name": p.name,
                "title": p.title,
                "equation": p.equation,
                "matrix": p.matrix,
                "start": p.start,
                "nonlinear": p.nonlinear,
                "eigenvalues": [[float(x.real), float(x.imag)] for x in p.eigenvalues],
                "why": {s: stability.why_not(s, p) for s in TITLES},
                "critical": {s: stability.critical_step(s, p.eigenvalues) for s in TITLES},
            }
            for p in PROBLEMS.values()
        ],
    }


def _layer_trait(layer: Layer) -> dict[str, Any]:
    problem = {
        "title": "trained layer",
        "equation": layer.title,
        "nonlinear": False,
        "real_part": layer.real_part,
        "why": {s: "" if s in layer.schemes else _NOT_SPLIT for s in TITLES},
        "critical": {s: layer.critical if s == "midpoint" else 0.0 for s in TITLES},
    }
    if "h" in layer.origin:
        problem["marks"] = [{"h": layer.origin["h"], "text": "the network’s own"}]
    return layer.to_dict() | {"problem": problem}


def best_device() -> str:
    """The torch device a live notebook recomputes on."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


class StepSizeExplorer(InteractiveFigure):
    """Slider over the step size h, choice of scheme and of problem; stability region, trajectory, norm over depth.

    The page computes the problems in the plane itself and takes the trained layer from precomputed data, so the
    figure works without a kernel. Where a kernel answers, it recomputes with torch on the best device.

    Args:
        layer: A layer of a network as the fifth problem, from :func:`revode.stability.layer_data`; True takes the
            bundled one of a trained network where it exists; None offers none.
        compact: A smaller figure without the choice of problem and the stability region.
        **traits: ``h``, ``scheme``, ``problem`` and ``title`` to begin with.
    """

    scheme = t.Enum(list(TITLES), "euler").tag(sync=True)
    problem = t.Unicode("centre").tag(sync=True)
    h = t.Float(0.1).tag(sync=True)
    title = t.Unicode("What does the step size do?").tag(sync=True)
    compact = t.Bool(False).tag(sync=True)
    spec = t.Dict({}).tag(sync=True)
    layer = t.Dict({}).tag(sync=True)
    exact = t.Dict({}).tag(sync=True)  # a kernel's answer

    def __init__(self, layer: Layer | bool | None = True, **traits):
        if layer is True:
            layer = bundled_layer()
        self._layer = layer
        super().__init__(spec=specification(), layer=_layer_trait(layer) if layer else {}, **traits)
        self.on_msg(self._answer)

    @t.validate("problem")
    def _known(self, proposal):
        allowed = [*PROBLEMS, "layer"]
        if proposal["value"] not in allowed:
            raise t.TraitError(f"problem = {proposal['value']!r} must be one of {allowed}")
        return proposal["value"]

    def _answer(self, _widget, content, _buffers) -> None:
        """Recompute what the page asks for; a question without a meaning is left without an answer."""
        if content.get("kind") != "recompute":
            return
        scheme, problem, h = content.get("scheme"), content.get("problem"), float(content.get("h", "nan"))
        device = best_device()
        if problem in PROBLEMS and scheme in TITLES and not stability.why_not(scheme, problem) and np.isfinite(h):
            states = stability.trajectory(scheme, problem, h, STEPS, device)
            sizes = PROBLEMS[problem].size(states)
        elif problem == "layer" and self._layer and self._layer.follow and scheme in Layer.schemes and np.isfinite(h):
            try:
                states, sizes = self._layer.follow(scheme, h)
            except RevodeError:  # the network's weights are not at hand
                return
        else:
            return
        self.exact = {
            "scheme": scheme,
            "problem": problem,
            "h": h,
            "device": device,
            "states": stability.pack(states, "<f8"),
            "sizes": stability.pack(sizes, "<f8"),
        }


def bundled_layer() -> Layer | None:
    """The bundled layer of a trained network, or None where there is none; recomputed from its weights on demand."""
    if not LAYER_FILE.exists():
        return None
    layer = Layer.load(LAYER_FILE)
    return replace(layer, follow=_Follower(layer))


class _Follower:
    """Follows the bundled layer; loads the network at the first call, so that showing the figure stays quick."""

    def __init__(self, layer: Layer):
        self.layer, self.function = layer, None

    def __call__(self, scheme: str, h: float):
        from .trained_layer import take

        if self.function is None:
            field, state, _ = take(**self.layer.origin["take"], device=best_device())
            self.function = stability.layer_follower(field, state, self.layer.critical, self.layer.norm.shape[-1] - 1)
        return self.function(scheme, h)
