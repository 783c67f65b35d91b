"""Image classifiers of the papers: stem, units of blocks, pooling between units, head.

The layout is that of the authors' released code. Convolution, normalization and activation make the stem. Each unit
has its own number of channels; between units the resolution is halved by 2x2 average pooling and zero channels are
added on both sides. In Hamiltonian networks the first block of a unit is still computed at the old width and
resolution, pooling comes after it; the blocks of one shape, on which a reversible stage runs, are therefore
n + 1, n, ..., n - 1 in number, and the parameter counts of the papers follow. In ResNet and RevNet the first block
of a unit makes the change by a convolution of stride 2; it is not reversible, so it lies between two stages.
The head is normalization, activation, global average pooling and one fully connected layer.

Sources: Chang et al. 2018 (arXiv 1709.03698) and its released code; Gomez et al. 2017 (arXiv 1707.04585).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .errors import ChannelError, ImageError
from .fields import (
    ACTIVATIONS,
    NORMALIZATIONS,
    AntisymmetricField,
    BranchField,
    Convolution,
    Field,
    SymmetricField,
    batch_norm,
    choose,
    drawn,
    init_kernel,
)
from .schemes import SCHEMES, Momentum, Scheme
from .schemes._base import halves
from .stage import Stage

#: The residual function of each scheme.
FIELDS: dict[str, type[Field]] = {
    "hamiltonian": SymmetricField,
    "leapfrog": SymmetricField,
    "midpoint": AntisymmetricField,
    "revnet": BranchField,
    "momentum": BranchField,
    "euler": BranchField,
}


class Downsample(nn.Module):
    """2x2 average pooling and zero channels on both sides, for each of the state's halves separately.

    Shapes: (N, in_channels, H, W) to (N, out_channels, H / 2, W / 2).
    """

    def __init__(self, in_channels: int, out_channels: int, parts: int = 1):
        super().__init__()
        added = (out_channels - in_channels) // parts
        self.pad = (added // 2, added - added // 2)
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        """The input of the next stage."""
        x = F.avg_pool2d(x, 2)
        padded = [F.pad(part, (0, 0, 0, 0, *self.pad)) for part in x.chunk(self.parts, dim=1)]
        return padded[0] if self.parts == 1 else torch.cat(padded, dim=1)

    def extra_repr(self) -> str:
        """Zero channels added on each side."""
        return f"2x2 average, zero channels {self.pad} on each of {self.parts} part(s)"


class StridedResidual(nn.Module):
    """Y <- D Y + h F(Y) with F of stride 2 and D pooling with zero channels: a block between two stages."""

    def __init__(self, in_channels: int, out_channels: int, h: float, **options):
        super().__init__()
        self.h = h
        self.shortcut = Downsample(in_channels, out_channels)
        self.f = BranchField(in_channels, out_channels, stride=2, **options)

    def forward(self, y: Tensor) -> Tensor:
        """The input of the next stage."""
        return self.shortcut(y) + self.h * self.f(y).to(y.dtype)


class StridedCoupling(nn.Module):
    """Y <- D Y + h F(Z), Z <- D Z + h G(Y) with F of stride 2 and D pooling with zero channels.

    It loses half of the values, so it is not reversible and lies between two stages.
    """

    def __init__(self, in_channels: int, out_channels: int, h: float, **options):
        super().__init__()
        self.h = h
        self.shortcut = Downsample(in_channels // 2, out_channels // 2)
        self.f = BranchField(in_channels // 2, out_channels // 2, stride=2, **options)
        self.g = BranchField(out_channels // 2, **options)

    def forward(self, x: Tensor) -> Tensor:
        """The input of the next stage."""
        y, z = halves(x)
        y = self.shortcut(y) + self.h * self.f(z).to(y.dtype)
        z = self.shortcut(z) + self.h * self.g(y).to(z.dtype)
        return torch.cat((y, z), dim=1)


class StageOptions:
    """What the reversible stages of a network have in common, set for all of them at once.

    Attributes:
        stages: The stages, in the order in which they are computed; none in a network that is plain throughout.
        strided: Whether a block that changes the shape, and is stored anyway, lies between two stages.
    """

    stages: Sequence[Stage]
    strided: bool

    @property
    def scheme(self) -> Scheme:
        """The rule of a step."""
        return self.stages[0].scheme

    @property
    def c(self) -> float | tuple[float, ...] | None:
        """Present momentum: one number, or one for each block; None of another scheme. May be set at any time."""
        if not isinstance(self.scheme, Momentum):
            return None
        values = [s.scheme.c for s in self.stages]
        return values[0] if isinstance(values[0], float) else tuple(c for of_stage in values for c in of_stage)

    @c.setter
    def c(self, value: float | Sequence[float]) -> None:
        if self.c is None:
            raise ValueError(f"c = {value!r} belongs to scheme 'momentum', not to '{self.scheme.name}'")
        for stage, c in zip(self.stages, _split(value, [len(s.blocks) for s in self.stages]), strict=True):
            stage.scheme.c = c

    @property
    def memory(self) -> str:
        """How activations are kept: "reversible" or "stored"; may be set at any time."""
        return self.stages[0].memory if self.stages else "stored"

    @memory.setter
    def memory(self, value: str) -> None:
        for stage in self.stages:
            stage.memory = value

    @property
    def arithmetic(self) -> str:
        """How states are held: "float" or "exact"; may be set at any time."""
        return self.stages[0].arithmetic if self.stages else "float"

    @arithmetic.setter
    def arithmetic(self, value: str) -> None:
        for stage in self.stages:
            stage.arithmetic = value

    @property
    def store_last(self) -> int:
        """Number of blocks, counted from the end of the network, whose activations are kept."""
        return self._store_last

    @store_last.setter
    def store_last(self, value: int) -> None:
        left = value
        if self.stages:
            self.stages[-1].store_last = value  # refuses what is no number of blocks
        for stage in reversed(self.stages):
            stage.store_last = min(left, len(stage.blocks))
            left = max(left - len(stage.blocks) - self.strided, 0)  # a strided block is stored anyway
        self._store_last = value

    @property
    def _options(self) -> dict:
        """The settings that only some schemes have."""
        start = {"start": self.scheme.start_rule} if hasattr(self.scheme, "STARTS") else {}
        if not isinstance(self.scheme, Momentum):
            return start
        r = self.scheme.r
        return start | {"c": self.c, "learn_c": "no" if r is None else "layer" if r.dim() else "shared"}


class Network(StageOptions, nn.Module):
    """A residual network for images that integrates a differential equation by one of the schemes.

    Args:
        scheme: Name in :data:`revode.schemes.SCHEMES`, or a function from the step size to a scheme object.
        units: Number of blocks of each unit.
        widths: Number of channels of each unit, not decreasing; the stem has that of the first. Even where the
            scheme splits the channels.
        in_channels: Channels of the images.
        num_classes: Number of classes.
        h: Step size. None: 1 with batch normalization, as in the released code; without normalization the
            step that :func:`stable_step` finds.
        activation: Name of s in :data:`revode.fields.ACTIVATIONS`.
        normalization: "batch" as in the released code, "none" for the pure equations with biases.
        memory: "reversible" rebuilds activations in the backward pass, "stored" keeps them. A plain residual
            network is always "stored".
        store_last: Number of blocks, counted from the end of the network, whose activations are kept.
        arithmetic: "float", or "exact": states in 32-bit fixed point, reversible bit for bit
            (:mod:`revode.fixed_point`). A plain residual network is always "float".
        verify: In exact arithmetic, compare a checksum of each increment in the backward pass.
        c: Of scheme "momentum", its factor: one number, or one for each block of the stages. None: the scheme's own.
        start: How a stage begins, where the scheme leaves a choice (:class:`revode.schemes.Momentum`,
            :class:`revode.schemes.Leapfrog`). None: the scheme's own.
        learn_c: Learn c: "no", "shared" (one number for the network) or "layer" (one for each block).
        seed: Seed of the initial weights, drawn on the CPU; None draws from torch's global generator.

    Attributes:
        stages: The reversible stages, one for each shape of the state.
        strided: Whether what lies between two stages is a block of its own, as in ResNet and RevNet.
        transitions: What lies between two stages.
        stability: The :class:`StableStep` by which h was chosen, or None if it was given.
        name: Name in :data:`revode.models.MODELS` if it was built by that, else None.

    Shapes: (N, in_channels, H, W) to logits (N, num_classes); H and W are multiples of 2^(units - 1).

    Raises:
        ValueError: for an unknown name, no units, a unit without blocks or decreasing widths, or an option that the
            scheme does not have.
        ChannelError: for an odd width where the scheme splits the channels.
        StepSizeError: if h is not a finite number.
    """

    def __init__(
        self,
        scheme: str | Callable[[float], Scheme],
        units: Sequence[int],
        widths: Sequence[int],
        *,
        in_channels: int = 3,
        num_classes: int = 10,
        h: float | None = None,
        activation: str = "relu",
        normalization: str = "batch",
        memory: str = "reversible",
        store_last: int = 0,
        arithmetic: str = "float",
        verify: bool = False,
        c: float | Sequence[float] | None = None,
        start: str | None = None,
        learn_c: str = "no",
        seed: int | None = None,
    ):
        super().__init__()
        self.stability: StableStep | None = None
        self.name: str | None = None
        self._seed = seed
        if isinstance(scheme, str):
            choose("scheme", scheme, SCHEMES)
            scheme = SCHEMES[scheme]
        choose("activation", activation, ACTIVATIONS)
        choose("normalization", normalization, NORMALIZATIONS)
        choose("learn_c", learn_c, LEARN)
        step = 1.0 if h is None else h
        rule = scheme(step)
        _check_units(rule, units, widths)
        options = scheme_options(rule, c, start, learn_c)
        self.units, self.widths = tuple(units), tuple(widths)
        self.in_channels, self.num_classes = in_channels, num_classes
        self.activation, self.normalization = activation, normalization
        self.strided = FIELDS[rule.name] is BranchField
        with undisturbed(seed is not None):
            self.stem = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=normalization == "none")
            self.stem_norm = self._norm(widths[0])
            blocks = [self._stage_blocks(rule, unit) for unit in range(len(units))]
            self.stages = nn.ModuleList(
                Stage(made, of_unit, memory=memory, arithmetic=arithmetic, verify=verify)
                for made, of_unit in zip(stage_schemes(scheme, step, options, list(map(len, blocks))), blocks)
            )
            self.transitions = nn.ModuleList(self._transition(rule, old, new, step) for old, new in pairwise(widths))
            self.norm = self._norm(widths[-1])
            self.fc = nn.Linear(widths[-1], num_classes)
        self.reset_parameters(seed)
        self.store_last = store_last
        if h is None and normalization == "none":
            self.stability = stable_step(self)
            self.h = self.stability.h

    def _norm(self, channels: int) -> nn.Module:
        return batch_norm(nn.BatchNorm2d, channels) if self.normalization == "batch" else nn.Identity()

    def _stage_blocks(self, rule: Scheme, unit: int) -> list[list[Field]]:
        """The blocks that have the shape of this unit."""
        count = self.units[unit] - (unit > 0)
        if not self.strided and unit < len(self.units) - 1:
            count += 1  # the first block of the next unit
        kind = FIELDS[rule.name]
        width = self.widths[unit] // rule.fields
        options = {"activation": self.activation, "normalization": self.normalization}
        blocks = [[kind(width, **options) for _ in range(rule.fields)] for _ in range(count)]
        if unit == 0:  # the very first function of the network follows the stem's normalization
            blocks[0][0] = kind(width, **options, **{"activate" if self.strided else "first_norm": False})
        return blocks

    def _transition(self, rule: Scheme, old: int, new: int, h: float) -> nn.Module:
        """What leads from one width to the next."""
        if not self.strided:
            return Downsample(old, new, rule.fields)
        kind = StridedCoupling if rule.fields == 2 else StridedResidual
        return kind(old, new, h, activation=self.activation, normalization=self.normalization)

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw new weights as the released code does; with a seed, the global generator is left alone."""
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        init_kernel(self.stem.weight, Convolution.taps, generator)
        if self.stem.bias is not None:
            nn.init.zeros_(self.stem.bias)
        for m in self.modules():
            if isinstance(m, Field):
                m.reset_parameters(generator)
        for m in (self.stem_norm, self.norm):
            if isinstance(m, nn.BatchNorm2d):
                m.reset_parameters()
        bound = math.sqrt(3.0 / self.widths[-1])
        values = drawn(self.fc.weight, generator)
        nn.init.uniform_(values, -bound, bound, generator=generator)
        with torch.no_grad():
            self.fc.weight.copy_(values)
        nn.init.zeros_(self.fc.bias)

    @property
    def h(self) -> float:
        """Step size of all stages; may be set at any time."""
        return self.stages[0].h

    @h.setter
    def h(self, value: float) -> None:
        for stage in self.stages:
            stage.h = value
        for m in self.transitions:
            if not isinstance(m, Downsample):
                m.h = self.stages[0].h

    def check_images(self, x: Tensor) -> None:
        """Refuse a batch that the network cannot take.

        Raises:
            ImageError: if x is no floating tensor (N, C, H, W), or H or W is no multiple of 2^(units - 1).
            ChannelError: if C is not ``in_channels``.
        """
        if x.dim() != 4 or not x.is_floating_point():
            raise ImageError(
                f"images have shape {tuple(x.shape)} and dtype {x.dtype}; they must be a floating tensor of shape "
                "(N, C, H, W): add a batch dimension, and convert integers by x.float() / 255"
            )
        if x.shape[1] != self.in_channels:
            raise ChannelError(
                f"images have {x.shape[1]} channels (shape {tuple(x.shape)}), but the network takes "
                f"{self.in_channels}; build it with in_channels={x.shape[1]}, or move the channels to dimension 1"
            )
        multiple = 2 ** (len(self.stages) - 1)
        height, width = x.shape[2:]
        if height < multiple or width < multiple or height % multiple or width % multiple:
            raise ImageError(
                f"images are {height} x {width} pixels, but the resolution is halved {len(self.stages) - 1} times, so "
                f"both sides must be positive multiples of {multiple}; pad or resize them"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of images x (N, in_channels, H, W)."""
        self.check_images(x)
        s = ACTIVATIONS[self.activation]
        y = self.stages[0](s(self.stem_norm(self.stem(x))))
        for transition, stage in zip(self.transitions, self.stages[1:], strict=True):
            y = stage(transition(y))
        return self.fc(s(self.norm(y)).mean(dim=(2, 3)))

    def paths(self) -> list[list[nn.Parameter]]:
        """The kernels K_0, K_1, ... of one residual function over the consecutive blocks of one unit.

        One list for each function (f, g) and each of its kernels in each unit. Blocks of another shape than the
        unit's, at its beginning, are left out, as in the released code.
        """
        out = []
        for unit, stage in enumerate(self.stages):
            # Where pooling comes after it, the last block of a stage is the first one of the next unit.
            carries = not self.strided and unit < len(self.stages) - 1
            blocks = stage.blocks[: len(stage.blocks) - carries]
            for functions in zip(*blocks, strict=True):
                out += [list(ks) for ks in zip(*(f.kernels() for f in functions), strict=True)]
        return out

    def smoothness(self) -> Tensor:
        r"""1/2 sum \|\|K_{j+1} - K_j\|\|^2 over the consecutive blocks of each unit, for f and g separately.

        The weight smoothness decay of the papers without its factor; a scalar with gradient.

        Source: Chang et al. 2018 (arXiv 1709.03698). Which pairs are compared is as in the released code, where the
        sum does not reach the gradient.
        """
        terms = [torch.stack(ks).diff(dim=0).square().sum() for ks in self.paths() if len(ks) > 1]
        return 0.5 * torch.stack(terms).sum() if terms else self.fc.weight.new_zeros(())

    @torch.no_grad()
    def kernel_change(self) -> list[list[float]]:
        r"""How much the kernels change from block to block: a list for each of :meth:`paths`, a number for each pair.

        It is \|\|K_{j+1} - K_j\|\| over the root of the mean of \|\|K_j\|\|^2 and \|\|K_{j+1}\|\|^2: 0 for equal
        kernels, about sqrt(2) for kernels that have nothing to do with each other, 2 for opposite ones.
        """
        change = []
        for ks in self.paths():
            rows = torch.stack(ks).flatten(1).double()
            mean = (rows[1:].square().sum(1) + rows[:-1].square().sum(1)) / 2
            change.append((rows.diff(dim=0).square().sum(1) / mean).sqrt().tolist())
        return change

    @property
    def settings(self) -> dict:
        """Arguments that make a network of the same form, with the present step size and memory mode.

        Of :func:`revode.build` where the network has a name, else of :class:`Network`. The weights are not among
        them; the step size is not in ``state_dict``, so keep both.
        """
        named = {"name": self.name} if self.name else {
            "scheme": self.scheme.name, "widths": self.widths, "in_channels": self.in_channels
        }  # fmt: skip
        return named | self._options | {
            "units": self.units,
            "num_classes": self.num_classes,
            "memory": self.memory,
            "normalization": self.normalization,
            "h": self.h,
            "store_last": self.store_last,
            "arithmetic": self.arithmetic,
            "seed": self._seed,
            "activation": self.activation,
        }  # fmt: skip

    def summary(self) -> str:
        """One line: scheme, units, channels, step size and how it was chosen, memory, parameters."""
        chosen = f" ({self.stability})" if self.stability and self.stability.h == self.h else ""
        always = "" if self.scheme.reversible else ", always: the scheme is not reversible"
        count = sum(p.numel() for p in self.parameters())
        return (
            f"scheme {self.scheme.name}, units {'-'.join(map(str, self.units))}, channels "
            f"{'-'.join(map(str, self.widths))}, normalization {self.normalization}, h = {self.h:.4g}{chosen}, "
            f"memory {self.memory}{always}, {count:,} parameters"
        )

    def extra_repr(self) -> str:
        """The summary."""
        return self.summary()


#: Whether the factor c of the momentum rule is learned: not, one for the network, one for each block.
LEARN = ("no", "shared", "layer")


def scheme_options(rule: Scheme, c: float | Sequence[float] | None, start: str | None, learn_c: str) -> dict:
    """The arguments of the scheme beside h.

    Raises:
        ValueError: if the scheme has no such argument.
    """
    given = {"c": c, "start": start, "learn": None if learn_c == "no" else learn_c}
    has = {"c": isinstance(rule, Momentum), "learn": isinstance(rule, Momentum), "start": hasattr(rule, "STARTS")}
    options = {name: value for name, value in given.items() if value is not None}
    for name, value in options.items():
        if not has[name]:
            option = {"learn": "learn_c"}.get(name, name)
            raise ValueError(f"{option} = {value!r}: scheme '{rule.name}' has no such option; leave it out")
    return options


def stage_schemes(make: Callable[..., Scheme], h: float, options: dict, counts: Sequence[int]) -> list[Scheme]:
    """The scheme of each stage; where one number c is learned for all, it is one scheme."""
    learn, c = options.get("learn"), options.get("c", Momentum.C)
    if learn is None and not isinstance(c, Sequence):
        return [make(h, **options) for _ in counts]
    if learn == "shared":
        if isinstance(c, Sequence):
            raise ValueError(f"c = {c} must be one number for learn_c = 'shared'")
        return [make(h, **options | {"learn": True})] * len(counts)
    if learn == "layer" and not isinstance(c, Sequence):
        c = [c] * sum(counts)
    return [make(h, **options | {"c": of_stage, "learn": learn is not None}) for of_stage in _split(c, counts)]


def _split(c: float | Sequence[float], counts: Sequence[int]) -> list[float | Sequence[float]]:
    """The values of c for each stage."""
    if not isinstance(c, Sequence):
        return [c] * len(counts)
    if len(c) != sum(counts):
        raise ValueError(f"c has {len(c)} values, but the stages have {sum(counts)} blocks; give one for each, or one")
    ends = [sum(counts[: k + 1]) for k in range(len(counts))]
    return [c[end - n : end] for end, n in zip(ends, counts)]


def undisturbed(wanted: bool):
    """Inside, random numbers drawn leave no trace in the global generators, if wanted."""
    device = torch.get_default_device()
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=wanted)


def _check_units(rule: Scheme, units: Sequence[int], widths: Sequence[int]) -> None:
    if rule.name not in FIELDS:
        raise ValueError(f"scheme = {rule.name!r} must be one of: {', '.join(FIELDS)}")
    if getattr(rule, "split", "channels") != "channels":
        raise ValueError(f"split = {rule.split!r} must be 'channels' in a network; build a Stage for other halves")
    if not units or len(units) != len(widths):
        raise ValueError(f"units = {units} and widths = {widths} must be of one length, 1 or more units")
    for name, values in (("units", units), ("widths", widths)):
        if any(not isinstance(v, int) or v < 1 for v in values):
            raise ValueError(f"{name} = {values} must hold whole numbers, 1 or more, one for each unit")
    if any(b < a for a, b in pairwise(widths)):
        raise ValueError(f"widths = {widths} must not decrease: channels are added, never removed, between units")
    if rule.fields == 2 and any(w % 2 for w in widths):
        raise ChannelError(f"widths = {widths} must be even: scheme '{rule.name}' splits the channels into two halves")


class StableStep(NamedTuple):
    """A step size and what it rests on.

    Attributes:
        h: Step size.
        omega: Largest frequency of the layers as they are, 1/time.
        limit: Largest stable h * omega of the scheme.
    """

    h: float
    omega: float
    limit: float

    def __str__(self) -> str:
        return f"h * omega = {self.h * self.omega:.3g} of {self.limit:.3g}, omega = {self.omega:.3g} at initialisation"


#: Stands in for the stability limit of forward Euler, which has none above 0: the growth of a step is 1 + h * omega.
#: Also for that of momentum, whose velocity is an average of what forward Euler adds.
EULER_GROWTH = 1.0


@torch.no_grad()
def stable_step(network: Network, fraction: float = 0.5, size: int = 16, iterations: int = 40) -> StableStep:
    r"""The step size for which h * omega is at most this fraction of the scheme's stability limit.

    omega is the largest frequency of the linearised layers for s' = 1, over all blocks: omega^2 is the largest
    eigenvalue of K1^T K1 K2^T K2 for Hamiltonian, \|\|K\|\|^2 for leapfrog, \|\|K - K^T\|\|^2 for midpoint. Smaller
    slopes s' only lower it. RevNet's and ResNet's branches are free, so their steps have no guaranteed limit: there
    omega is the bound (\|\|F'\|\| \|\|G'\|\|)^(1/2) or \|\|F'\|\|, used with 2 and, for ResNet and momentum, with 1.

    Args:
        network: The network, without normalization; its present weights count.
        fraction: Of the limit, in (0, 1].
        size: Pixels of the square grid on which the operators are iterated.
        iterations: Of the power method, which approaches omega from below; 5 percent are added for it.

    Raises:
        ValueError: with batch normalization, whose scales depend on the data, for a fraction outside (0, 1], or for
            weights without values (meta device).
    """
    if network.normalization != "none":
        raise ValueError(
            f"normalization = {network.normalization!r}: the frequencies of normalized layers depend on the data, so "
            "no step size can be found from the weights; build with normalization='none', or choose h by hand"
        )
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction = {fraction} must lie in (0, 1]: beyond 1 the scheme is not stable")
    if network.fc.weight.is_meta:
        raise ValueError("weights on the meta device have no values, so no step size can be found; give h")
    omega = 1.05 * max(
        frequency(network.scheme.name, block, size, iterations) for stage in network.stages for block in stage.blocks
    )
    if not 0 < omega < math.inf:
        raise ValueError(f"the largest frequency of the layers is {omega}, so no step size follows from it; give h")
    limit = network.scheme.stability_limit or EULER_GROWTH
    return StableStep(fraction * limit / omega, omega, limit)


@torch.no_grad()
def frequency(scheme: str, block: Sequence[Field], size: int = 16, iterations: int = 40) -> float:
    """Largest frequency of one block for s' = 1, by the power method, from below; see :func:`stable_step`."""
    f, g = block[0], block[-1]
    kernel = f.kernels()[0]
    grid = (size, size) if f.operator is Convolution else ()
    x = torch.randn(1, kernel.shape[1], *grid, generator=torch.Generator().manual_seed(0), device="cpu").to(kernel)
    if scheme == "hamiltonian":  # B A is self-adjoint in the inner product of A, for A = f', B = g'
        for _ in range(iterations):
            x = x / x.norm()
            ax = f.linear(x)
            x, above, below = g.linear(ax), ax.flatten(), (x * ax).sum()
        return math.sqrt((x.flatten() @ above / below).item())
    norms = [_norm(field, x, iterations) for field in block]
    return norms[0] if scheme in ("midpoint", "momentum", "euler") else math.sqrt(math.prod(norms))


def _norm(field: Field, x: Tensor, iterations: int) -> float:
    """Operator norm of field.linear by the power method on its square."""
    for _ in range(iterations):
        x = field.linear_adjoint(field.linear(x / x.norm()))
    return math.sqrt(x.norm().item())
