r"""Finite-time Lyapunov exponents of maps, flows and networks, by one routine: Benettin's QR method.

A small change v of a state is carried on by the derivative of each step, v <- D(step)(x) v. Its mean logarithmic
growth for each unit of time, (1/t) log(\|\|v_t\|\| / \|\|v_0\|\|), tends to the largest Lyapunov exponent. k changes
that are made orthonormal again after each step, V D = Q R, give the k largest: the sums of log\|R_ii\|. A map, a flow
stepped by RK4 and a network of layers are all the same here: functions from state to state, one after the other. Time
is what the caller says it is: t for a flow, the number of layers, or h times that number, for a network.

What is exact at any depth is the sum over the full set: it is the mean of log\|det D(step)\|. The single exponents
depend, over a short time, on the directions they began with. Of a symplectic map the singular values come in pairs s,
1/s to rounding, but the exponents of the QR method from random directions come in pairs +-lambda only in the limit of
large depth. And through few layers of a large state k random changes grow all alike, by the root of the mean square of
the singular values. Directions that were first aligned with the leading right singular vectors of the whole map (some
passes of its derivative and the adjoint) give the logarithms of its leading singular values themselves.

Every derivative is a Jacobian-vector product of the step; the state and its derivative are computed once for the k
tangents together.

Sources: Benettin, Galgani, Giorgilli and Strelcyn 1980 (Meccanica 15, 9-30); Eckmann and Ruelle 1985 (Reviews of
Modern Physics 57, 617), section V, for the QR form; Ott 2002, Chaos in Dynamical Systems, chapter 4.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap
from torch.nn.modules.batchnorm import _NormBase

from .. import data, results
from ..errors import BatchStatisticsError, ExponentCountError, NonFiniteStateError
from ..fields import ACTIVATIONS
from ..models import build
from ..networks import Network
from ..stage import Stage
from ..weights import load_trained

Step = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lyapunov:
    """Finite-time exponents of several inputs, the largest first.

    Attributes:
        times: Time of each renormalisation, of shape (T,), counted from the end of what was skipped.
        curve: The running exponents then, of shape (T, N, k), for each unit of time.
        state: The state after the last step, of shape (N, ...).
    """

    times: NDArray[np.float64]
    curve: NDArray[np.float64]
    state: Tensor

    @property
    def values(self) -> NDArray[np.float64]:
        """The exponents after the last step, of shape (N, k)."""
        return self.curve[-1]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the inputs, of shape (k,)."""
        return self.values.mean(axis=0)

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """Standard error of the mean over the inputs, of shape (k,); nan for one input."""
        return standard_error(self.values)


def standard_error(values: NDArray) -> NDArray[np.float64]:
    """Standard error of the mean over the first axis; nan for one value."""
    n = len(values)
    with np.errstate(invalid="ignore"):  # -inf, the exponent of a singular step
        return values.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else np.full(values.shape[1:], np.nan)


# --- the routine --------------------------------------------------------------------------------------------


@torch.no_grad()
def exponents(
    steps: Step | Iterable[Step],
    x: Tensor,
    k: int | None = None,
    *,
    count: int | None = None,
    dt: float = 1.0,
    every: int = 1,
    skip: int = 0,
    align: int = 0,
    seed: int = 0,
) -> Lyapunov:
    r"""The k largest finite-time Lyapunov exponents along the orbits of N inputs.

    The full set costs one tangent for each entry of the state, so it is for small states; k = 1 needs one tangent and
    no QR decomposition.

    Args:
        steps: Functions from the state (N, ...) to the next one of the same shape, in order; or one function, which is
            repeated ``count`` times. Each must treat the N inputs independently.
        x: Initial states, floating, of shape (N, ...): N inputs, each a state of D entries.
        k: How many exponents, 1 to D; None: all D.
        count: Number of steps where ``steps`` is one function.
        dt: Time of one step, > 0: that of a flow, 1 for exponents per layer, h for exponents per unit of depth.
        every: Steps between two renormalisations. More than 1 saves QR decompositions; tangents that grow apart by
            1/rounding in between lose the small exponents.
        skip: Number of first steps that are made but not counted: they lead the state to the attractor and the
            tangents to their directions, so that the bias of order 1/t is small.
        align: Number of passes through all steps and back by the adjoint, before the count begins, that turn the
            tangents to the leading right singular vectors of the whole map. The final exponents tend to
            log(singular value) / time. For networks, whose depth is too small to turn them; all states are kept in
            memory, and skip must be 0.
        seed: Of the initial tangents, which are drawn on the CPU.

    Returns:
        The exponents with their curves. An exponent is -inf where a step is singular.

    Raises:
        ExponentCountError: if k is less than 1 or larger than D.
        NonFiniteStateError: if a state or tangent is not finite; the step is named.
        BatchStatisticsError: if a step is a module that holds batch normalization in training mode.
        ValueError: for another argument out of its range, or a step that does not keep the shape.

    Source: Benettin et al. 1980 (Meccanica 15, 9-30).
    """
    steps = _listed(steps, count)
    size = _size(x)
    k = size if k is None else k
    if not isinstance(k, int) or not 1 <= k <= size:
        raise ExponentCountError(
            f"k = {k!r} must be a whole number from 1 to {size}, the number of entries of one state; "
            "None takes all of them"
        )
    _whole("every", every, 1)
    _whole("skip", skip, 0, len(steps) - 1)
    _whole("align", align, 0)
    if align and skip:
        raise ValueError(f"align = {align} and skip = {skip}: one of them must be 0, both turn the tangents")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt = {dt!r} must be a finite number > 0, the time of one step")
    require_evaluation(s for s in steps if isinstance(s, nn.Module))
    _require_finite(x, "the initial state")
    _load_jvp()
    generator = torch.Generator().manual_seed(seed)
    v, _ = _orthonormal(torch.randn(k, *x.shape, generator=generator, dtype=torch.float64).to(x))
    for _ in range(align):
        v = _aligned(steps, x, v)
    logs, times = [], []
    for j, step in enumerate(steps, 1):
        shape = x.shape
        x, v = _carried(step, x, v)
        if x.shape != shape:
            raise ValueError(
                f"step {j - 1} returned shape {tuple(x.shape)} for a state of shape {tuple(shape)}; "
                "a step must keep the shape"
            )
        _require_finite(x, f"the state after step {j - 1} (of 0 to {len(steps) - 1})")
        if j % every == 0 or j in (skip, len(steps)):
            v, growth = _orthonormal(v)
            _require_finite(growth.T, f"a tangent after step {j - 1} (of 0 to {len(steps) - 1}), renormalised too late")
            if j > skip:
                logs.append(growth.T.cpu().double().log())
                times.append((j - skip) * dt)
    times = np.array(times)
    return Lyapunov(times, torch.stack(logs).cumsum(0).numpy() / times[:, None, None], x)


def maximal(steps: Step | Iterable[Step], x: Tensor, **options) -> Lyapunov:
    """The largest exponent alone, k = 1: one tangent, and a norm in the place of the QR decomposition.

    Args and errors: as for :func:`exponents`.
    """
    return exponents(steps, x, 1, **options)


@cache
def _load_jvp() -> None:
    """The first jvp of a process makes torch load TorchScript, which warns that it is deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is", FutureWarning)
        jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))


def _carried(step: Step, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The next state, and the tangents v (k, N, ...) carried on by the derivative of the step."""
    return vmap(lambda u: jvp(step, (x,), (u,)), out_dims=(None, 0))(v)


def _aligned(steps: Sequence[Step], x: Tensor, v: Tensor) -> Tensor:
    """One step of the power method on J^T J, with J the derivative of all steps at x."""
    pulls = []
    for j, step in enumerate(steps):
        pulls.append(vjp(step, x)[1])
        x, v = _carried(step, x, v)
        v, growth = _orthonormal(v)
        _require_finite(growth.T, f"a tangent after step {j}")
    for pull in reversed(pulls):
        v, _ = _orthonormal(vmap(pull)(v)[0])
    return v


def _orthonormal(v: Tensor) -> tuple[Tensor, Tensor]:
    """The tangents (k, N, ...) made orthonormal for each input, and the moduli of the diagonal of R, (k, N)."""
    flat = v.reshape(*v.shape[:2], -1)
    if len(v) == 1:
        norm = torch.linalg.vector_norm(flat, dim=2)
        return v / norm.clamp_min(torch.finfo(v.dtype).tiny).reshape(1, -1, *[1] * (v.dim() - 2)), norm
    q, r = torch.linalg.qr(flat.permute(1, 2, 0))
    return q.permute(2, 0, 1).reshape(v.shape), r.diagonal(dim1=1, dim2=2).abs().T


def _listed(steps: Step | Iterable[Step], count: int | None) -> list[Step]:
    """The steps as a list."""
    if callable(steps):
        _whole("count", count, 1)
        return [steps] * count
    steps = list(steps)
    if count is not None or not steps:
        raise ValueError(
            f"count = {count!r} with a list of {len(steps)} steps: give one or more steps in a list without count, or "
            "one function with count"
        )
    return steps


def _size(x: Tensor) -> int:
    """Number of entries of the state of one input."""
    if not (isinstance(x, Tensor) and x.is_floating_point() and x.dim() and x.numel()):
        what = f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x is {what}; it must be a floating tensor of shape (N, ...), one state for each input")
    return x.numel() // len(x)


def _whole(name: str, value, low: int, high: float = math.inf, what: str = "steps") -> None:
    if not isinstance(value, int) or not low <= value <= high:
        upto = "or more" if high == math.inf else f"to {high}"
        raise ValueError(f"{name} = {value!r} must be a whole number of {what}, {low} {upto}")


def _require_finite(x: Tensor, what: str) -> None:
    """Refuse x (N, ...) if an entry is not finite, with the inputs it belongs to."""
    bad = ~x.isfinite().reshape(len(x), -1).all(dim=1)
    if bad.any():
        raise NonFiniteStateError(
            f"{what} is not finite for input(s) {bad.nonzero().flatten().tolist()[:8]}; take a smaller step size, "
            "fewer steps, or float64"
        )


def require_evaluation(modules: Iterable[nn.Module]) -> None:
    """Refuse modules that hold batch normalization in training mode.

    Raises:
        BatchStatisticsError: naming the first one.
    """
    for m in modules:
        for name, part in m.named_modules():
            if isinstance(part, _NormBase) and (part.training or part.running_mean is None):
                raise BatchStatisticsError(
                    f"{name or type(part).__name__} normalizes by the batch, so the inputs are not independent; "
                    "call .eval() on the network, whose normalization must keep running statistics"
                )


@torch.no_grad()
def jacobians(steps: Step | Iterable[Step], x: Tensor, *, count: int | None = None) -> Tensor:
    """The Jacobian of each step along the orbits, as dense matrices (T, N, D, D): for small states.

    Args:
        steps: As for :func:`exponents`.
        x: Initial states (N, ...), of D entries each.
        count: As for :func:`exponents`.

    Raises:
        ValueError: for an argument out of its range.
    """
    steps, size = _listed(steps, count), _size(x)
    _load_jvp()
    unit = torch.eye(size).to(x).reshape(size, 1, *x.shape[1:]).expand(-1, *x.shape)
    out = []
    for step in steps:
        x, columns = _carried(step, x, unit)
        out.append(columns.reshape(size, len(x), size).permute(1, 2, 0))
    return torch.stack(out)


# --- steps --------------------------------------------------------------------------------------------------


def flow(f: Step, dt: float) -> Step:
    """The step of the classical Runge-Kutta method (RK4) for y' = f(y), of order 4.

    Args:
        f: Right-hand side, from (N, ...) to the same shape.
        dt: Step size; negative steps go back in time.

    Returns:
        The function from the state at t to that at t + dt.
    """

    # alpha in the place of a product: torch differentiates a product with a number a hundred times as slowly
    return lambda y: y.add(slopes(f, y, dt), alpha=dt / 6)


def slopes(f: Step, y: Tensor, dt: float) -> Tensor:
    """k1 + 2 k2 + 2 k3 + k4 of RK4: six times the mean slope of the step from y."""
    k1 = f(y)
    k2 = f(y.add(k1, alpha=dt / 2))
    k3 = f(y.add(k2, alpha=dt / 2))
    k4 = f(y.add(k3, alpha=dt))
    return (k1 + k4).add(k2 + k3, alpha=2)


def joined(stage: Stage, x: Tensor) -> Tensor:
    """The whole initial state that a stage makes of its input x (N, C, ...): its parts along a new dimension 1."""
    return torch.stack(stage.scheme.start(x), dim=1)


def layers(stage: Stage) -> list[Step]:
    """The blocks of a stage, as functions of its whole state (N, parts, ...), made by :func:`joined`.

    For the reversible schemes a block is its shears; Euler's only part is changed by its own step.

    Raises:
        BatchStatisticsError: if there is batch normalization in training mode.
    """
    require_evaluation([stage])
    return [_of_parts(stage.scheme.step, block, j) for j, block in enumerate(stage.blocks)]


def inverse_layers(stage: Stage) -> list[Step]:
    """The blocks of a reversible stage undone, the last one first, as functions of its whole state.

    Raises:
        NotInvertibleError: when one is called, if the scheme is not reversible.
        BatchStatisticsError: if there is batch normalization in training mode.
    """
    require_evaluation([stage])
    return [_of_parts(stage.scheme.inverse, block, j) for j, block in reversed(list(enumerate(stage.blocks)))]


def _of_parts(step: Callable, block: nn.ModuleList, j: int) -> Step:
    return lambda x: torch.stack(step(x.unbind(dim=1), block, j), dim=1)


def inverse_growth(stage: Stage, state: Tensor, **options) -> Lyapunov:
    r"""The largest exponent of the inverse map, from the final state back to the initial one.

    This is what the rounding error of a reversible network follows: an error made at some depth is carried back to the
    input by the inverse. In the limit it is minus the smallest exponent of the forward map. Where exponents come in
    pairs +-lambda (Hamiltonian, leapfrog) that is the largest exponent of the forward map as well, but not in
    general: the momentum rule v <- c v + (1 - c) f(x), x <- x + v has \|det\| = c^d in each step, so its exponents
    sum to d log c, and its inverse grows by about 1/c per layer even where nothing grows forward.

    Args:
        stage: A reversible stage.
        state: Initial states (N, parts, ...), see :func:`joined`.
        **options: As for :func:`exponents`.

    Returns:
        The exponent per layer of the inverse (k = 1), its curve over the layers undone so far.

    Raises:
        NotInvertibleError: if the scheme is not reversible.
        NonFiniteStateError, BatchStatisticsError, ValueError: as :func:`exponents`.
    """
    with torch.no_grad():
        for j, layer in enumerate(layers(stage)):
            state = layer(state)
            _require_finite(state, f"the state after step {j}")
    return maximal(inverse_layers(stage), state, **options)


# --- a trained network --------------------------------------------------------------------------------------


def first_input(network: Network, images: Tensor) -> Tensor:
    """What the first stage of a network gets for normalised images (N, C, H, W)."""
    return ACTIVATIONS[network.activation](network.stem_norm(network.stem(images)))


def units(network: Network) -> list[list[Step]]:
    """The steps of each unit of a network: one that makes its whole state, and then its blocks.

    The first step takes normalised images (N, C, H, W), that of a later unit the whole state of the unit before it; all
    others are as in :func:`layers`. So the steps of all units in a row lead from the image to the last whole state.

    Args:
        network: In evaluation mode.

    Raises:
        BatchStatisticsError: if the network is in training mode.
    """
    require_evaluation([network])
    stages = list(network.stages)
    entries = [lambda x: joined(stages[0], first_input(network, x))]
    entries += [_entry(*parts) for parts in zip(stages[:-1], network.transitions, stages[1:], strict=True)]
    return [[entry, *layers(stage)] for entry, stage in zip(entries, stages, strict=True)]


def _entry(old: Stage, transition: nn.Module, new: Stage) -> Step:
    """From the last whole state of one unit to the first of the next one."""
    return lambda x: joined(new, transition(old.scheme.finish(x.unbind(dim=1), len(old.blocks))))


@torch.no_grad()
def unit_states(network: Network, images: Tensor) -> list[list[Tensor]]:
    """The whole states (N, parts, ...) of images on their way: of each unit before its first and after each block.

    Args:
        network: In evaluation mode.
        images: (N, C, H, W), normalised.

    Raises:
        BatchStatisticsError: if the network is in training mode.
    """
    x, out = images, []
    for steps in units(network):
        out.append([])
        for step in steps:
            x = step(x)
            out[-1].append(x)
    return out


def distances(network: Network, one: Tensor, other: Tensor) -> list[NDArray[np.float64]]:
    """Distance of two images layer by layer: the 2-norm of the difference of their whole states.

    Args:
        network: In evaluation mode.
        one: An image (1, C, H, W), normalised.
        other: Another one.

    Returns:
        For each unit the distance before its first block and after each block, of shape (blocks + 1,).

    Raises:
        BatchStatisticsError: if the network is in training mode.
    """
    states = unit_states(network, torch.cat([one, other]))
    return [np.array([torch.linalg.vector_norm(x[0] - x[1]).item() for x in unit]) for unit in states]


@torch.no_grad()
def linear_distances(network: Network, image: Tensor, change: Tensor) -> list[NDArray[np.float64]]:
    """What :func:`distances` of an image and its changed neighbour would be if the network were its derivative.

    The limit of the distance of image and image + e * change, divided by e, for e to 0.

    Args:
        network: In evaluation mode.
        image: (1, C, H, W), normalised.
        change: Of the same shape.

    Returns:
        As :func:`distances`.

    Raises:
        BatchStatisticsError: if the network is in training mode.
    """
    _load_jvp()
    x, v, out = image, change[None], []
    for steps in units(network):
        out.append([])
        for step in steps:
            x, v = _carried(step, x, v)
            out[-1].append(torch.linalg.vector_norm(v).item())
    return [np.array(norms) for norms in out]


def worst_change(network: Network, image: Tensor, passes: int = 8, seed: int = 0, through: int = 1) -> Tensor:
    """The change of an image, of norm 1, that grows most on its way to the end of a unit.

    The leading right singular vector of the stem and all blocks up to there together, by the power method.

    Args:
        network: In evaluation mode.
        image: (1, C, H, W), normalised.
        passes: Of the power method.
        seed: Of the change that it begins with.
        through: How many units the change goes through, from 1 to all.

    Raises:
        BatchStatisticsError: if the network is in training mode.
        NonFiniteStateError: if a state is not finite.
        ValueError: if there are not so many units.
    """
    _whole("through", through, 1, len(network.stages), "units")
    steps = [step for unit in units(network)[:through] for step in unit]
    _load_jvp()
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(1, *image.shape, generator=generator, dtype=torch.float64).to(image)
    with torch.no_grad():
        for _ in range(passes):
            v = _aligned(steps, image, v)
    return v[0]


@torch.no_grad()
def settle_statistics(network: nn.Module, images: Tensor) -> None:
    """Make the running statistics of all batch normalizations those of one batch of images."""
    norms = [m for m in network.modules() if isinstance(m, _NormBase)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a plain average, of one batch
    network.train()(images)


def measure(
    name: str = "hamiltonian-74",
    *,
    images: int = 2,
    k: int = 8,
    h: Sequence[float] = (0.5, 1.0),
    align: int = 4,
    dataset: str = "cifar10",
    seed: int = 0,
    settle: int = 100,
    device: str = "cpu",
    report: Callable[[dict], None] = lambda run: None,
) -> dict:
    """Exponents of the first unit's whole state, of trained weights and of fresh ones, for several step sizes.

    All blocks of the first unit, in evaluation mode and in float64, on the first images of the test set. Exponents
    are per layer. Fresh weights come in two kinds: "initial" as they are built, with running statistics (0, 1), and
    "initial, settled" with the running statistics of a batch of training images, which is what the blocks see in the
    first step of training. The running statistics belong to the network's own step size.

    Args:
        name: Name of bundled weights.
        images: Number of test images N.
        k: Number of leading exponents.
        h: Step sizes.
        align: Passes that align the tangents, see :func:`exponents`: too few give too small leading exponents.
        dataset: Name of the image set, see :func:`revode.data.load`.
        seed: Of the fresh weights and of the tangents.
        settle: Number of training images whose statistics settle the fresh network.
        device: Where to compute; it must have float64.
        report: Called with each run when it is done.

    Returns:
        A dictionary for JSON: the settings; under "runs" for each weights and h four results, each with mean over
        the inputs and standard error of the exponents, and of their curves over depth (depth, k): "leading", the k
        largest of the aligned tangents; "random", the growth of one random change; "inverse" and "inverse_random",
        the same of the inverse map, k = 1 (rounding errors are random changes, carried by the inverse); and under
        "alignment" what 0, 1, 2, 4, ... to 4 align passes make of the k exponents, for the trained weights at their
        own step size and the first (up to two) images.

    Raises:
        CheckpointError: if there are no such weights.
        DataError: if the images are not there.
        ExponentCountError, NonFiniteStateError, ValueError: as :func:`exponents`.
    """
    trained = load_trained(name)
    train = data.load(dataset, "train")
    mean, std = (trained.meta[s] for s in ("mean", "std")) if "mean" in trained.meta else train.mean_std()
    x = data.normalize(data.load(dataset, "test").images[:images], mean, std).to(device, torch.float64)
    start = trained.settings | {"seed": seed}
    settled = build(**start)
    settle_statistics(settled, data.normalize(train.images[:settle], mean, std))
    runs, alignment = [], []
    for weights, network in {"trained": trained, "initial": build(**start), "initial, settled": settled}.items():
        network = network.to(device, torch.float64).eval()
        stage = network.stages[0]
        state = joined(stage, first_input(network, x)).detach()
        if network is trained:
            for passes in (0, *(2**i for i in range((4 * align).bit_length()))):
                found = exponents(layers(stage), state[:2], k, align=passes, seed=seed)
                alignment.append({"passes": passes, "mean": found.mean.tolist()})
        for stage.h in h:
            found = {
                "leading": exponents(layers(stage), state, k, align=align, seed=seed),
                "random": maximal(layers(stage), state, seed=seed),
                "inverse": inverse_growth(stage, state, align=align, seed=seed),
                "inverse_random": inverse_growth(stage, state, seed=seed),
            }
            runs.append({"weights": weights, "h": stage.h} | {key: _numbers(e) for key, e in found.items()})
            report(runs[-1])
    return {
        "network": name,
        "dataset": dataset,
        "images": images,
        "k": k,
        "align": align,
        "seed": seed,
        "settle": settle,
        "depth": len(trained.stages[0].blocks),
        "dimension": state[0].numel(),
        "trained_h": start["h"],
        "runs": runs,
        "alignment": alignment,
    }


def _numbers(e: Lyapunov) -> dict:
    """Exponents and curves as lists; the error of a single input is None."""
    errors = np.stack([standard_error(c) for c in e.curve])
    errors = np.where(np.isfinite(errors), errors, None)
    return {
        "mean": e.mean.tolist(),
        "error": errors[-1].tolist(),
        "curve": e.curve.mean(axis=1).tolist(),
        "curve_error": errors.tolist(),
    }


# --- the command --------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode lyapunov``."""
    parser.add_argument("network", help="name of bundled weights, for example hamiltonian-74")
    parser.add_argument("--images", type=int, default=32, metavar="N", help="test images (default: 32)")
    parser.add_argument("-k", type=int, default=8, metavar="K", help="leading exponents (default: 8)")
    parser.add_argument(
        "--h", type=float, nargs="+", default=[0.25, 0.5, 1.0, 2.0], help="step sizes (default: 0.25 0.5 1 2)"
    )
    parser.add_argument(
        "--align", type=int, default=4, metavar="N", help="passes that align the tangents (default: 4); cost grows so"
    )
    parser.add_argument("--data", choices=list(data.SPLITS), default="cifar10", help="image set (default: cifar10)")
    parser.add_argument("--seed", type=int, default=0, help="of fresh weights and tangents (default: 0)")
    parser.add_argument("--device", default="cpu", help="it must have float64 (default: cpu)")
    parser.add_argument("--out", metavar="FILE", help="result file (default: runs/lyapunov-NETWORK.json)")


def main(args: argparse.Namespace) -> int:
    """``revode lyapunov``: prints a line for each run, and writes the result file."""
    out = Path(args.out or Path("runs") / f"lyapunov-{args.network}.json")
    began = results.begin(args.device)
    print(f"{'weights':18s} {'h':>5s} {'leading':>17s} {'random':>17s} {'inverse':>17s}  growth per layer", flush=True)
    settings = {"images": args.images, "k": args.k, "h": args.h, "align": args.align, "seed": args.seed}
    found = measure(args.network, **settings, dataset=args.data, device=args.device, report=_print)
    final = {key: found.pop(key) for key in ("runs", "alignment")}
    settings = found | {"h": args.h, "dtype": "float64", "device": args.device}
    record = results.record(out.stem, "lyapunov", final, began=began, settings=settings, seed=args.seed)
    results.write(out, record)
    print(f"result in {out}, {record['wall_seconds']:.0f} s")
    return 0


def _print(run: dict) -> None:
    """One line: growth per layer, the largest exponent's exponential, with its standard error."""
    columns = []
    for key in ("leading", "random", "inverse"):
        rate, error = run[key]["mean"][0], run[key]["error"][0] or 0.0
        columns.append(f"{math.exp(rate):.3f} +- {math.exp(rate) * error:.3f}")
    print(f"{run['weights']:18s} {run['h']:5g} {columns[0]:>17s} {columns[1]:>17s} {columns[2]:>17s}", flush=True)
