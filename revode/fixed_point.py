r"""Exact reversibility: the state in 32-bit fixed point, changed by additions modulo 2^32.

Floating-point addition loses digits, so ``(a + v) - v`` is ``a`` only nearly. Whole numbers modulo 2^32 are a group:
what was added can be taken away again bit for bit, whatever the depth and the step size, as long as the second
evaluation of g gives the same bits as the first. A part of the state is a tensor n of int32 that stands for
``n / 2^bits``; a shear adds the increment rounded to a multiple of 2^-bits. Gradients pass straight through the
rounding.

Multiplication by c with \|c\| < 1 is no bijection of whole numbers: it forgets log2(1/c) bits. c is taken as a fraction
n/d, and c a is rounded to the nearest whole number; which of the few numbers a that give the same result it was is
kept in a remainder beside the state, for all multiplications together in words of 63 bits. Divisions are by the
floor, so that negative numbers come back too.

Source: Maclaurin, Duvenaud and Adams 2015 (arXiv 1502.03492) for the idea of a remainder. Their rule puts the low
digits of a into it and others from it back, which takes fewer bits and adds an error of up to n units to each
product; here the error is half a unit, both parts of the state are whole numbers, and a full word begins another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from .errors import FixedPointRangeError, NonFiniteIncrementError, NotInvertibleError, RecomputationError

RANGE = 2**31  #: Whole numbers from -RANGE to RANGE - 1 are held.
HEADROOM = 4  #: Bits left free above the largest value seen when the scale is chosen.
TIGHT = 2**29  #: A value beyond this asks for a coarser scale.
LARGEST_DENOMINATOR = 2**20  #: Of the fraction that stands for c.


def fraction(c: float) -> Fraction:
    """The fraction that stands for the factor c: the nearest one with a denominator up to 2^20.

    0.9 is 9/10; no number is moved by more than 5e-7, and most by less than 1e-11.
    """
    return Fraction(c).limit_denominator(LARGEST_DENOMINATOR)


@dataclass(frozen=True)
class Remainder:
    """Which of the numbers with the same product each entry was, for all multiplications, in words of 63 bits.

    Attributes:
        word: The word in use, int64, non-negative, of the part's shape: digits in a base that changes from digit to
            digit, the last multiplication's the lowest.
        limit: The word is less than this.
        count: Number of multiplications in the word.
        full: The remainder before this word was begun, or None.
    """

    word: Tensor
    limit: int = 1
    count: int = 0
    full: Remainder | None = None

    @property
    def words(self) -> int:
        """Number of words; 64 bits of memory each, for each entry."""
        return 1 + (self.full.words if self.full else 0)

    def push(self, digit: Tensor, base: Tensor, largest: int) -> Remainder:
        """One more digit, less than its base; no base is larger than ``largest``."""
        r, limit = self, self.limit
        if limit * largest >= 2**63:  # the limit grows faster than the word: count
            limit = int(self.word.amax()) + 1
        if limit * largest >= 2**63:
            r, limit = Remainder(torch.zeros_like(self.word), full=self), 1
        return Remainder(r.word * base + digit, limit * largest, r.count + 1, r.full)

    def pop(self, base: Tensor) -> tuple[Tensor, Remainder | None]:
        """The last digit, and the remainder without it."""
        rest = replace(self, word=torch.div(self.word, base, rounding_mode="floor"), count=self.count - 1)
        return self.word % base, rest if rest.count else self.full


@dataclass(frozen=True)
class FixedPoint:
    r"""One part of the state in fixed point. Never modified: each operation makes a new one.

    Attributes:
        ints: n, int32; the value is n / 2^bits.
        bits: Binary digits after the point.
        dtype: Floating type in which g sees the value and in which gradients are.
        bound: No entry of ``ints`` is larger in modulus.
        peak: The largest modulus that was counted exactly because the bound had passed ``TIGHT``; 0 if it never had.
        wrapped: Number of additions, over all entries and steps, that left the range.
        remainder: Left over by multiplications with \|c\| != 1, or None.
        checksums: With ``verify``, one for each increment added, the last first, as nested pairs; else None.
        carrier: The value as a tensor that autograd follows, where activations are stored.
    """

    ints: Tensor
    bits: int
    dtype: torch.dtype
    bound: int
    peak: int = 0
    wrapped: int = 0
    remainder: Remainder | None = None
    checksums: tuple | None = None
    carrier: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, bits: int, verify: bool = False) -> FixedPoint:
        """The tensor x rounded to multiples of 2^-bits.

        Raises:
            NonFiniteIncrementError: if an entry of x is not finite.
            FixedPointRangeError: if an entry does not fit.
        """
        n, bound = _rounded(x.detach(), 2.0**bits, "the state")
        if bound >= RANGE:
            raise FixedPointRangeError(
                f"the state has entries up to {bound * 2.0**-bits:.3g} in modulus, but {bits} binary digits after the "
                f"point hold less than {RANGE * 2.0**-bits:.3g}; choose the scale anew: Stage.calibrate(x)"
            )
        part = cls(n, bits, x.dtype, bound, checksums=() if verify else None)
        follow = torch.is_grad_enabled() and x.requires_grad
        return replace(part, carrier=_Through.apply(x, None, part.decode(), 1.0, 0.0)) if follow else part

    @property
    def shape(self) -> torch.Size:
        """Shape of the part."""
        return self.ints.shape

    def decode(self) -> Tensor:
        """The value in floating point, rounded once if the type has fewer than 32 digits; without gradient."""
        return _scaled(self.ints, 2.0**-self.bits, self.dtype)

    def value(self) -> Tensor:
        """The value that g sees, followed by autograd where activations are stored."""
        return self.decode() if self.carrier is None else self.carrier

    def plus(self, scale: float | Tensor, v: Tensor, c: float | Tensor = 1.0) -> FixedPoint:
        """c times this, plus ``scale * v`` rounded. Factors that are tensors count by their present values.

        Raises:
            NonFiniteIncrementError: if an entry of v is not finite.
        """
        learned = any(isinstance(t, Tensor) and t.requires_grad for t in (scale, c))
        q, size = _rounded(v.detach(), _number(scale) * 2.0**self.bits, "the increment")
        new = self._times(fraction(_number(c)))._moved(q, size, 1)
        if self.checksums is not None:
            new = replace(new, checksums=(checksum(q), self.checksums))
        follow = torch.is_grad_enabled() and (v.requires_grad or learned or self.carrier is not None)
        if not follow:
            return replace(new, carrier=None) if new.carrier is not None else new
        c = c if isinstance(c, Tensor) else float(fraction(c))
        return replace(new, carrier=_Through.apply(self.value(), v, new.decode(), c, scale))

    def minus(self, scale: float | Tensor, v: Tensor, c: float | Tensor = 1.0) -> FixedPoint:
        """The inverse of :meth:`plus`, bit for bit if v is the same.

        Raises:
            RecomputationError: with ``verify``, if v is not the same.
            NotInvertibleError: if c, as a fraction, is 0.
        """
        q, size = _rounded(v.detach(), _number(scale) * 2.0**self.bits, "the increment")
        checksums = self.checksums
        if checksums:
            before, checksums = checksums
            if checksum(q) != before:
                raise RecomputationError(
                    "the second evaluation of g gave another increment than the first, so the step cannot be undone "
                    "exactly; use deterministic kernels: torch.use_deterministic_algorithms(True), "
                    "torch.backends.cudnn.benchmark = False"
                )
        new = self._moved(q, size, -1)._over(fraction(_number(c)))
        return replace(new, wrapped=self.wrapped, checksums=checksums, carrier=None)

    def _moved(self, q: Tensor, size: int, sign: int) -> FixedPoint:
        """With sign * q added modulo 2^32; entries that leave the range are counted."""
        bound, peak = self.bound + size, self.peak
        if bound >= TIGHT:  # the bound has grown with every step: count
            held = _largest(self.ints)
            bound, peak = held + size, max(peak, held)
        if bound < RANGE:
            return replace(self, ints=torch.add(self.ints, q, alpha=sign), bound=bound, peak=peak)
        wide = self.ints.long() + sign * q.long()
        held = _modulo(wide)
        wrapped = self.wrapped + int((held != wide).sum())
        bound = _largest(held)
        return replace(self, ints=held, bound=bound, peak=max(peak, bound), wrapped=wrapped)

    def _times(self, c: Fraction) -> FixedPoint:
        """c times this, rounded; what the rounding forgets goes into the remainder.

        Raises:
            FixedPointRangeError: if a product by |c| > 1 leaves the range, which no remainder could mend.
        """
        if abs(c) == 1:
            return self if c == 1 else self._negated()
        if c < 0:
            return self._negated()._times(-c)
        if c == 0:  # forgets the part, and cannot be undone
            return replace(self, ints=torch.zeros_like(self.ints), bound=0, remainder=None)
        a = self.ints.long()
        product = torch.div(2 * c.numerator * a + c.denominator, 2 * c.denominator, rounding_mode="floor")
        bound = self.bound * c.numerator // c.denominator + 1
        if c > 1:
            if bound >= RANGE and (bound := max(-int(product.amin()), int(product.amax()))) >= RANGE:
                raise FixedPointRangeError(
                    f"c = {float(c):g} takes entries out of the range of 32-bit fixed point, and they could not be "
                    "divided again; choose the scale anew (Stage.calibrate), or use abs(c) <= 1"
                )
            return replace(self, ints=product.int(), bound=bound)
        first, base = _preimages(product, c)
        r = self.remainder or Remainder(torch.zeros_like(a))
        r = r.push(a - first, base, c.denominator // c.numerator + 1)
        return replace(self, ints=product.int(), bound=min(bound, RANGE), remainder=r)

    def _over(self, c: Fraction) -> FixedPoint:
        """The inverse of :meth:`_times`."""
        if abs(c) == 1:
            return self if c == 1 else self._negated()
        if c < 0:
            return self._over(-c)._negated()
        if c == 0 or (c < 1 and self.remainder is None):
            raise NotInvertibleError(
                f"c = {float(c):g}: this part was not multiplied by it with its remainder kept, so it cannot be "
                "divided exactly; use c != 0 and undo the shears that were applied to this state, last first"
            )
        a, base = _preimages(self.ints.long(), c)
        r = self.remainder
        if c < 1:
            digit, r = r.pop(base)
            a = a + digit
        held = _modulo(a)
        return replace(self, ints=held, bound=_largest(held), remainder=r)

    def _negated(self) -> FixedPoint:
        # -2^31 is its own negative modulo 2^32
        return replace(self, ints=_modulo(-self.ints.long()))


@dataclass
class Scale:
    """The scale of a stage, chosen from data; the door between floating and fixed point.

    Attributes:
        bits: Binary digits after the point of each part of the state; None until they are chosen. The parts differ:
            a velocity is smaller than a position.
        verify: Keep a checksum of every increment, and compare it when the increment is computed again.
    """

    bits: tuple[int, ...] | None = None
    verify: bool = False

    def choose(self, peaks: Sequence[float]) -> None:
        """The finest scale that leaves ``HEADROOM`` bits free above these values, one for each part.

        Raises:
            NonFiniteIncrementError: if a value is not finite.
        """
        for peak in peaks:
            if not math.isfinite(peak):
                raise NonFiniteIncrementError(f"the state has a largest modulus of {peak}, for which there is no scale")
        self.bits = tuple(31 - HEADROOM - (math.frexp(peak)[1] if peak else 0) for peak in peaks)

    def enter(self, state: Sequence[Tensor]) -> tuple[FixedPoint, ...]:
        """The parts of a state in fixed point."""
        return tuple(FixedPoint.of(x, bits, self.verify) for x, bits in zip(state, self.bits, strict=True))

    def leave(self, parts: Sequence[FixedPoint]) -> tuple[Tensor, ...]:
        """The parts in floating point; where they came near the end of the range, the next call has a coarser scale.

        Raises:
            FixedPointRangeError: if entries have left the range: exactly reversible still, but without meaning.
        """
        if wrapped := sum(p.wrapped for p in parts):
            ends = ", ".join(f"{RANGE * 2.0**-p.bits:.3g}" for p in parts)
            raise FixedPointRangeError(
                f"{wrapped} entries left the range of 32-bit fixed point ({ends} for the parts of the state at the "
                "present scale) and were taken modulo 2^32: reversible, but meaningless; choose the scale anew "
                "(Stage.calibrate), lower the step size h, or use arithmetic='float'"
            )
        tight = [p.peak >= TIGHT for p in parts]
        if any(tight):
            new = Scale()
            new.choose([p.peak * 2.0**-p.bits for p in parts])
            self.bits = tuple(b if coarser else p.bits for b, p, coarser in zip(new.bits, parts, tight, strict=True))
        return tuple(p.value() for p in parts)


def _flatten(part: FixedPoint) -> tuple[list[Any], Any]:
    words, r = [], part.remainder
    while r is not None:
        words.append(r)
        r = r.full
    rest = replace(part, ints=None, remainder=None)
    return [part.ints, *(r.word for r in words)], (rest, [(r.limit, r.count) for r in words])


def _unflatten(tensors: Sequence[Any], context: Any) -> FixedPoint:
    rest, numbers = context
    ints, *words = tensors
    r = None
    for word, (limit, count) in reversed(list(zip(words, numbers))):
        r = Remainder(word, limit, count, r)
    return replace(rest, ints=ints, remainder=r)


# So that a state of either arithmetic is taken apart into tensors and put together again in the same way.
_pytree.register_pytree_node(FixedPoint, _flatten, _unflatten)


class _Through(torch.autograd.Function):
    """The value that was computed in fixed point, with the gradient of c * a + scale * v."""

    @staticmethod
    def forward(ctx, a, v, value, c, scale):
        # What is multiplied by a learned factor is needed for its gradient.
        ctx.factors = [None if isinstance(t, Tensor) else t for t in (c, scale)]
        learned = [x if need else None for x, need in zip((a, v), ctx.needs_input_grad[3:])]
        ctx.save_for_backward(*learned, *(t if isinstance(t, Tensor) else None for t in (c, scale)))
        return value

    @staticmethod
    def backward(ctx, w):
        *learned, c, scale = ctx.saved_tensors
        c, scale = (t if f is None else f for f, t in zip(ctx.factors, (c, scale), strict=True))
        da, dv = (times(t, w) if need else None for t, need in zip((c, scale), ctx.needs_input_grad))
        dc, dscale = (None if x is None else (w * x).sum().to(t) for x, t in zip(learned, (c, scale), strict=True))
        return da, dv, None, dc, dscale


def times(factor: float | Tensor, x: Tensor) -> Tensor:
    """factor * x, and x itself where the factor is the number 1."""
    return x if not isinstance(factor, Tensor) and factor == 1 else factor * x


def _number(factor: float | Tensor) -> float:
    return factor.item() if isinstance(factor, Tensor) else factor


def checksum(q: Tensor) -> int:
    """A number that changes, all but surely, when an entry of q changes or two entries change places."""
    q = q.long().flatten()
    odd = torch.arange(1, 2 * q.numel(), 2, device=q.device, dtype=torch.int64)
    mixed = (q + odd) * (odd * 0x9E3779B1 + 0x7F4A7C15)  # wraps modulo 2^64
    return int((mixed ^ (mixed >> 29)).sum())


def _rounded(v: Tensor, factor: float, what: str) -> tuple[Tensor, int]:
    """factor * v as whole numbers, ties to even, and a bound of their moduli; beyond 2^31 reduced modulo 2^32."""
    v = v if v.dtype == torch.float64 else v.float()
    y = torch.mul(v, factor)
    if y.numel() == 0:
        return y.int(), 0
    least, greatest = y.amin().item(), y.amax().item()  # aminmax copies what is not contiguous
    size = max(-least, greatest)
    if not (math.isfinite(least) and math.isfinite(greatest)):
        if math.isfinite(v.abs().amax().item()):  # only the product is too large for its type
            return _rounded(v.double(), factor, what)
        raise NonFiniteIncrementError(
            f"{what} has {int((~v.isfinite()).sum())} entries that are not finite, which fixed point cannot hold; "
            "lower the step size h, or look for the first layer whose value overflows"
        )
    y = y.round_()
    if size < RANGE - 1:
        return y.int(), math.ceil(size)
    # A float beyond the range of the integer casts to whatever the processor likes; fmod is exact.
    return _modulo(torch.fmod(y.double(), 2.0**32).long()), RANGE


def _preimages(product: Tensor, c: Fraction) -> tuple[Tensor, Tensor]:
    """The smallest whole number a with this rounded product c a, and how many there are."""
    n, d = c.numerator, c.denominator
    first = -torch.div(d - 2 * d * product, 2 * n, rounding_mode="floor")  # the ceiling of d (2 product - 1) / (2 n)
    after = -torch.div(-d - 2 * d * product, 2 * n, rounding_mode="floor")
    return first, after - first


def _modulo(n: Tensor) -> Tensor:
    """int64 to the int32 that is equal to it modulo 2^32."""
    return (((n + RANGE) & (2**32 - 1)) - RANGE).int()


def _largest(n: Tensor) -> int:
    """Largest modulus of the entries of an int32 tensor."""
    return max(-int(n.amin()), int(n.amax())) if n.numel() else 0


def _scaled(n: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return n.to(wide).mul_(factor).to(dtype)
