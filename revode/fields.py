"""Residual functions: the right-hand sides of the differential equations, as modules that keep the shape.

Each is built on one linear operator K, a 3x3 convolution on images or a matrix on vectors, whose kernel is the
parameter ``weight``. K^T is the exact adjoint of K, <K x, y> = <x, K^T y>: the transposed convolution with the
same kernel tensor, stride 1 and zero padding 1.

Two forms are kept apart by ``normalization``. "none" is the equation as printed in the papers, with a bias.
"batch" is the placement of batch normalization in the authors' released code, which has no biases and whose
settings (eps 1e-3, running averages with decay 0.99) are used here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Activation functions s, all non-decreasing with slope at most 1, which the stability bounds rest on.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh, "identity": lambda x: x}
NORMALIZATIONS = ("batch", "none")


class Convolution:
    """K x for images (N, C, H, W): 3x3, zero padding 1, kernel (C_out, C_in, 3, 3)."""

    norm = nn.BatchNorm2d
    taps = 9

    @staticmethod
    def kernel(out: int, inp: int) -> Tensor:
        return torch.empty(out, inp, 3, 3)

    @staticmethod
    def apply(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding=1)

    @staticmethod
    def adjoint(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv_transpose2d(x, weight, padding=1)

    @staticmethod
    def antisymmetric(weight: Tensor) -> Tensor:
        # The adjoint of a convolution is the convolution with the flipped kernel, channels exchanged.
        return weight - weight.flip(2, 3).transpose(0, 1)

    @staticmethod
    def identity(weight: Tensor) -> Tensor:
        return torch.eye(len(weight), dtype=weight.dtype, device=weight.device)[:, :, None, None] * F.pad(
            weight.new_ones(1, 1), (1, 1, 1, 1)
        )


class Dense:
    """K x for vectors (N, C): a matrix (C_out, C_in)."""

    norm = nn.BatchNorm1d
    taps = 1

    @staticmethod
    def kernel(out: int, inp: int) -> Tensor:
        return torch.empty(out, inp)

    @staticmethod
    def apply(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def adjoint(x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight.T)

    @staticmethod
    def antisymmetric(weight: Tensor) -> Tensor:
        return weight - weight.T

    @staticmethod
    def identity(weight: Tensor) -> Tensor:
        return torch.eye(len(weight), dtype=weight.dtype, device=weight.device)


def init_kernel(weight: Tensor, taps: int, generator: torch.Generator | None = None) -> None:
    """Fill with a normal law of deviation sqrt(2 / (taps * C_out)), cut off at two deviations (released code)."""
    std = math.sqrt(2.0 / (taps * weight.shape[0]))
    values = drawn(weight, generator)
    nn.init.trunc_normal_(values, std=std, a=-2 * std, b=2 * std, generator=generator)
    with torch.no_grad():
        weight.copy_(values)


def drawn(weight: Tensor, generator: torch.Generator | None) -> Tensor:
    """Where to draw the values of a weight: with a generator on the CPU, so that they are the same on every device."""
    return weight if generator is None else torch.empty(weight.shape, dtype=weight.dtype, device="cpu")


def batch_norm(kind: type[nn.Module], channels: int) -> nn.Module:
    """Batch normalization with the released code's eps = 1e-3 and decay 0.99."""
    return kind(channels, eps=1e-3, momentum=0.01)


class Field(nn.Module, ABC):
    """Base of the residual functions.

    Args:
        activation: Name of s in :data:`ACTIVATIONS`.
        normalization: "batch" or "none".
        dense: K is a matrix on (N, C) instead of a convolution on (N, C, H, W).

    Raises:
        ValueError: for an unknown name.
    """

    def __init__(self, activation: str = "relu", normalization: str = "batch", dense: bool = False):
        super().__init__()
        choose("activation", activation, ACTIVATIONS)
        choose("normalization", normalization, NORMALIZATIONS)
        self.activation = activation
        self.normalization = normalization
        self.operator: type[Convolution] | type[Dense] = Dense if dense else Convolution

    def _norm(self, channels: int, wanted: bool = True) -> nn.Module:
        wanted = wanted and self.normalization == "batch"
        return batch_norm(self.operator.norm, channels) if wanted else nn.Identity()

    def _bias(self, channels: int) -> nn.Parameter | None:
        return nn.Parameter(torch.zeros(channels)) if self.normalization == "none" else None

    def _s(self, x: Tensor) -> Tensor:
        return ACTIVATIONS[self.activation](x)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw new kernels, from the generator if one is given; biases become 0."""
        for p in self.parameters(recurse=False):
            init_kernel(p, self.operator.taps, generator) if p.dim() > 1 else nn.init.zeros_(p)
        for m in self.children():
            if hasattr(m, "reset_parameters"):
                m.reset_parameters()

    def kernels(self) -> list[nn.Parameter]:
        """The kernels, in the order of their use."""
        return [p for p in self.parameters() if p.dim() > 1]

    @abstractmethod
    def linear(self, x: Tensor) -> Tensor:
        """The derivative where s' = 1, without normalization, applied to x."""

    @abstractmethod
    def linear_adjoint(self, x: Tensor) -> Tensor:
        """The adjoint of :meth:`linear`."""

    def extra_repr(self) -> str:
        """Shape, activation and normalization."""
        shape = " + ".join("x".join(map(str, k.shape)) for k in self.kernels())
        return f"kernel {shape}, activation={self.activation!r}, normalization={self.normalization!r}"


class _SquareField(Field):
    """One square kernel between two normalizations, for as many outputs as inputs."""

    def __init__(
        self,
        channels: int,
        activation: str = "relu",
        normalization: str = "batch",
        first_norm: bool = True,
        dense: bool = False,
    ):
        super().__init__(activation, normalization, dense)
        self.norm1 = self._norm(channels, first_norm)
        self.weight = nn.Parameter(self.operator.kernel(channels, channels))
        self.bias = self._bias(channels)
        self.norm2 = self._norm(channels)
        self.reset_parameters()


class SymmetricField(_SquareField):
    r"""f(y) = K^T s(K y + b), or with batch normalization f(y) = K^T s(BN(K BN(y))).

    For non-decreasing s its derivative K^T diag(s') K is symmetric and positive semidefinite: with the signs of the
    Hamiltonian and leapfrog schemes all frequencies are real, for any K.

    Args:
        channels: Number of channels C.
        activation: Name of s.
        normalization: "none" is the printed equation with bias; "batch" the released code: normalization (without
            activation) before K, normalization before s, no bias.
        first_norm: Normalize before K. The released code does not in the first function of a network, whose input
            was just normalized.
        dense: K is a matrix on (N, C) instead of a convolution on (N, C, H, W).

    Shapes: (N, C, H, W) to the same; (N, C) to the same if dense.

    Source: Chang et al. 2018 (arXiv 1709.03698), two-layer Hamiltonian block; released code for "batch".
    """

    def forward(self, y: Tensor) -> Tensor:
        """f(y)."""
        k = self.operator
        return k.adjoint(self._s(self.norm2(k.apply(self.norm1(y), self.weight, self.bias))), self.weight)

    def linear(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(self.operator.apply(x, self.weight), self.weight)

    linear_adjoint = linear


class AntisymmetricField(_SquareField):
    r"""f(y) = s((K - K^T) y + b), or with batch normalization f(y) = s(BN((K - K^T) BN(y))).

    K - K^T is one convolution, with the kernel W - flip(W)^T. For non-decreasing s the derivative
    diag(s') (K - K^T) has imaginary eigenvalues only, as the midpoint scheme needs. Batch normalization puts factors
    on both sides of K - K^T. In evaluation mode this stays true where they are positive, and need not where one is
    negative; in training mode the factors depend on the batch, and nothing is promised.

    No released code shows where the authors normalized here; "batch" follows their Hamiltonian network.

    Args:
        channels: Number of channels C.
        activation: Name of s.
        normalization: "none" or "batch", as for :class:`SymmetricField`.
        first_norm: Normalize before K.
        dense: K is a matrix on (N, C) instead of a convolution on (N, C, H, W).
        damping: gamma >= 0: K - K^T - gamma I in the place of K - K^T. No eigenvalue then has a positive real part,
            so Euler has stable steps (h \|lambda\|^2 <= -2 Re lambda), and midpoint has none: one of its roots is
            larger than 1 for every real part. Haber and Ruthotto write half of this matrix.

    Shapes: (N, C, H, W) to the same; (N, C) to the same if dense.

    Raises:
        ValueError: if damping is negative or not finite.

    Source: Chang et al. 2018 (arXiv 1709.03698), midpoint network; Haber and Ruthotto 2017 (arXiv 1705.03341) for
    the damping, with Euler.
    """

    def __init__(
        self,
        channels: int,
        activation: str = "relu",
        normalization: str = "batch",
        first_norm: bool = True,
        dense: bool = False,
        *,
        damping: float = 0.0,
    ):
        if not 0 <= damping < math.inf:
            raise ValueError(f"damping = {damping!r} must be 0 or a positive number; a negative one makes states grow")
        super().__init__(channels, activation, normalization, first_norm, dense)
        self.damping = float(damping)

    def _kernel(self) -> Tensor:
        k = self.operator.antisymmetric(self.weight)
        return k - self.damping * self.operator.identity(self.weight) if self.damping else k

    def forward(self, y: Tensor) -> Tensor:
        """f(y)."""
        return self._s(self.norm2(self.operator.apply(self.norm1(y), self._kernel(), self.bias)))

    def linear(self, x: Tensor) -> Tensor:
        return self.operator.apply(x, self._kernel())

    def linear_adjoint(self, x: Tensor) -> Tensor:
        return -self.linear(x) - 2 * self.damping * x


class OneLayerField(_SquareField):
    r"""f(y) = s(K y + b), one layer; with transposed=True g(y) = s(K^T y + b). With batch normalization s(BN(K BN(y))).

    The derivative diag(s') K has any eigenvalues, and in Y' = f(Z), Z' = -g(Y) with kernels of their own those of the
    pair are +-sqrt(-mu), mu an eigenvalue of D1 K1 D2 K2: any complex numbers. If g has the transposed kernel *of f*,
    which :meth:`pair` makes, mu is an eigenvalue of a product of two symmetric positive semidefinite matrices,
    D1 and K D2 K^T: mu >= 0, so the eigenvalues are imaginary, with \|lambda\| <= \|\|K\|\|. The step is
    symplectic for the two-layer form only, where f and g are gradients.

    Args:
        channels: Number of channels C.
        activation: Name of s.
        normalization: "none" or "batch", as for :class:`SymmetricField`. With "batch" nothing is promised.
        first_norm: Normalize before K.
        dense: K is a matrix on (N, C) instead of a convolution on (N, C, H, W).
        transposed: K^T in the place of K.

    Shapes: (N, C, H, W) to the same; (N, C) to the same if dense.

    Source: Haber and Ruthotto 2017 (arXiv 1705.03341), Hamiltonian network, with one kernel for both functions.
    """

    def __init__(
        self,
        channels: int,
        activation: str = "relu",
        normalization: str = "batch",
        first_norm: bool = True,
        dense: bool = False,
        *,
        transposed: bool = False,
    ):
        super().__init__(channels, activation, normalization, first_norm, dense)
        self.transposed = transposed

    @classmethod
    def pair(cls, channels: int, *args, **kwargs) -> tuple[OneLayerField, OneLayerField]:
        """f and g of a Hamiltonian block that share one kernel; arguments as for the class, without transposed."""
        f, g = cls(channels, *args, **kwargs), cls(channels, *args, **kwargs, transposed=True)
        g.weight = f.weight
        return f, g

    def forward(self, y: Tensor) -> Tensor:
        """f(y)."""
        y = self.linear(self.norm1(y))
        if self.bias is not None:
            y = y + self.bias.reshape(-1, *[1] * (y.dim() - 2))
        return self._s(self.norm2(y))

    def linear(self, x: Tensor) -> Tensor:
        return (self.operator.adjoint if self.transposed else self.operator.apply)(x, self.weight)

    def linear_adjoint(self, x: Tensor) -> Tensor:
        return (self.operator.apply if self.transposed else self.operator.adjoint)(x, self.weight)


class DoubleAntisymmetricField(_SquareField):
    r"""f(y) = (L - L^T) K^T s(K y + b): two layers with the eigenvalues that the midpoint scheme needs.

    Two layers K^T s(K y + b) alone (:class:`SymmetricField`) have the derivative P = K^T diag(s') K, symmetric and
    positive semidefinite: real eigenvalues, with either sign of which one of midpoint's roots is larger than 1 at
    every step size. With S = L - L^T before it the derivative is S P. It has the eigenvalues of P^1/2 S P^1/2, which is
    antisymmetric, and 0: all are imaginary, at most \|\|S\|\| \|\|K\|\|^2 in modulus.

    Args and shapes: as :class:`SymmetricField`. ``weight`` is the kernel of K, ``weight2`` that of L.

    Source: derived here. It is y' = S grad H(y) with a learned antisymmetric S; for a fixed S Galimberti et al. 2023
    (arXiv 2105.13205).
    """

    def __init__(
        self,
        channels: int,
        activation: str = "relu",
        normalization: str = "batch",
        first_norm: bool = True,
        dense: bool = False,
    ):
        super().__init__(channels, activation, normalization, first_norm, dense)
        self.weight2 = nn.Parameter(self.operator.kernel(channels, channels))
        self.reset_parameters()

    def forward(self, y: Tensor) -> Tensor:
        """f(y)."""
        k = self.operator
        y = k.adjoint(self._s(self.norm2(k.apply(self.norm1(y), self.weight, self.bias))), self.weight)
        return k.apply(y, k.antisymmetric(self.weight2))

    def linear(self, x: Tensor) -> Tensor:
        k = self.operator
        return k.apply(k.adjoint(k.apply(x, self.weight), self.weight), k.antisymmetric(self.weight2))

    def linear_adjoint(self, x: Tensor) -> Tensor:
        k = self.operator
        return k.adjoint(k.apply(-k.apply(x, k.antisymmetric(self.weight2)), self.weight), self.weight)


class BranchField(Field):
    r"""F(y) = K2 s(BN(K1 s(BN(y)))), the two-layer branch of ResNet (pre-activation) and RevNet.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output; None: as many as of the input.
        stride: Of the first convolution; 2 halves the resolution.
        activation: Name of s.
        normalization: "none" leaves BN out and adds biases to K1 and K2.
        activate: Begin with s(BN(y)). The released code does not in the first block of a network, whose input was
            just normalized and activated.
        dense: K1 and K2 are matrices on (N, C).

    Shapes: (N, C_in, H, W) to (N, C_out, H / stride, W / stride).

    Source: He et al. 2016 (arXiv 1603.05027); Gomez et al. 2017 (arXiv 1707.04585), released code.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        stride: int = 1,
        activation: str = "relu",
        normalization: str = "batch",
        activate: bool = True,
        dense: bool = False,
    ):
        super().__init__(activation, normalization, dense)
        out_channels = in_channels if out_channels is None else out_channels
        if stride != 1 and dense:
            raise ValueError(f"stride = {stride} must be 1 for dense = True: vectors have no resolution")
        self.stride = stride
        self.activate = activate
        self.norm1 = self._norm(in_channels, activate)
        self.weight = nn.Parameter(self.operator.kernel(out_channels, in_channels))
        self.bias = self._bias(out_channels)
        self.norm2 = self._norm(out_channels)
        self.weight2 = nn.Parameter(self.operator.kernel(out_channels, out_channels))
        self.bias2 = self._bias(out_channels)
        self.reset_parameters()

    def forward(self, y: Tensor) -> Tensor:
        """F(y)."""
        k = self.operator
        y = self._s(self.norm1(y)) if self.activate else y
        return k.apply(self._s(self.norm2(k.apply(y, self.weight, self.bias, self.stride))), self.weight2, self.bias2)

    def linear(self, x: Tensor) -> Tensor:
        return self.operator.apply(self.operator.apply(x, self.weight), self.weight2)

    def linear_adjoint(self, x: Tensor) -> Tensor:
        return self.operator.adjoint(self.operator.adjoint(x, self.weight2), self.weight)


def choose(argument: str, value: str, choices) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        ValueError: naming the argument, the value and the choices.
    """
    if value not in choices:
        raise ValueError(f"{argument} = {value!r} must be one of: {', '.join(map(str, choices))}")
