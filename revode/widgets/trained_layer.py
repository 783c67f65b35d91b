"""Make the bundled layer of the step-size explorer: ``python -m revode.widgets.trained_layer [NAME]``.

Takes one antisymmetric layer of a trained midpoint network, with the state that an image of the sample has there, and
writes its eigenvalues and trajectories beside the widget. The images are halved to 16 x 16, so that the dense
Jacobian of the last layer stays small enough for anybody to repeat this in a minute.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from .. import data, stability
from ..fields import AntisymmetricField
from ..networks import Network
from ..weights import load_trained
from .step_size import LAYER_FILE


def take(network: str | Network, block: int = -1, image: int = 0, size: int = 16, device: str = "cpu"):
    """One antisymmetric layer and the state that an image has there.

    Args:
        network: A midpoint network, or the name of bundled weights.
        block: Which of its antisymmetric layers, counted as in a list.
        image: Which image of the sample's test split.
        size: Height and width that the image is averaged down to.
        device: Where to compute.

    Returns:
        The layer, the state (1, C, H, W) and the step size of the network.

    Raises:
        ValueError: if the network has no antisymmetric layer.
        CheckpointError: if there are no such weights.
    """
    if isinstance(network, str):
        network = load_trained(network)
    # a small difference of two runs wants digits; mps has no float64
    network = network.to(device, torch.float32 if device == "mps" else torch.float64).eval()
    fields = [m for m in network.modules() if isinstance(m, AntisymmetricField)]
    if not fields:
        raise ValueError("network has no antisymmetric layer; take a midpoint network, for example 'midpoint-26'")
    meta = getattr(network, "meta", None) or {}
    mean, std = (meta["mean"], meta["std"]) if "mean" in meta else data.load("sample", "train").mean_std()
    x = data.normalize(data.load("sample", "test").images[image : image + 1].to(device), mean, std)
    x = F.adaptive_avg_pool2d(x, size).to(next(network.parameters()).dtype)
    states = []
    hook = fields[block].register_forward_pre_hook(lambda _, args: states.append(args[0].detach().clone()))
    try:
        with torch.no_grad():
            network(x)
    finally:
        hook.remove()
    return fields[block], states[0], float(network.h)


def make(name: str = "midpoint-26", **options: Any) -> stability.Layer:
    """The layer of trained weights, for :meth:`revode.stability.Layer.save`.

    Args:
        name: Name of bundled weights.
        **options: As for :func:`take`.
    """
    field, state, h = take(name, **options)
    eigenvalues = stability.jacobian_eigenvalues(field, state)
    rho = np.abs(eigenvalues).max()
    # far enough to see the network's own h, and the critical one exactly on the slider's grid
    reach = ceil(2 * max(1.5, 1.1 * h * rho)) / 2
    per = max(2, int(30 / reach))
    layer = stability.layer_data(
        field, state, f"a layer of {name}", eigenvalues=eigenvalues, reach=reach, count=round(per * reach)
    )
    origin = {"h": h, "take": {"network": name} | options}
    return replace(layer, origin=origin)


if __name__ == "__main__":
    layer = make(*sys.argv[1:])
    layer.save(LAYER_FILE)
    print(f"{LAYER_FILE}: critical h = {layer.critical:.4f}, largest |Re lambda| / rho = {layer.real_part:.2g}")
