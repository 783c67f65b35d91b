"""The papers' claims, what bears on each, and a verdict that is computed from result files every time it is asked for.

Status words of expected values: "V" was read in the source, "V2" in another text about it, "code" in code by the
authors or their group, "calc" was computed for this project, "unverified" is recalled and no source at hand shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from . import rules
from .checks import VERDICTS, Check, Records, finished, verdict

#: Of an expected value.
STATUS = ("V", "V2", "code", "calc", "unverified")


@dataclass(frozen=True)
class Claim:
    """A claim that this package should reproduce.

    Attributes:
        number: In the project's list.
        topic: One of :data:`TOPICS`.
        setup: The experiment.
        quantity: What is measured.
        expected: The result that is claimed.
        status: Of the expected numbers, one or two of :data:`STATUS`.
        source: Where they are from.
        checks: Makes the checks from result files.
    """

    number: int
    topic: str
    setup: str
    quantity: str
    expected: str
    status: tuple[str, ...]
    source: str
    checks: Callable[[Records], list[Check]]


@dataclass(frozen=True)
class Judgement:
    """What the result files say about a claim.

    Attributes:
        claim: The claim.
        checks: Its checks.
        verdict: One of :data:`VERDICTS`.
    """

    claim: Claim
    checks: tuple[Check, ...]
    verdict: str

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all result files that were compared."""
        return tuple(dict.fromkeys(f for c in self.checks for f in c.files))


def judge(claim: Claim, records: Records | None = None) -> Judgement:
    """The verdict on a claim.

    Args:
        claim: One of :data:`CLAIMS`.
        records: Finished results by name; by default the bundled ones, read anew.
    """
    checks = tuple(claim.checks(finished() if records is None else records))
    return Judgement(claim, checks, verdict(checks))


# --- the claims -----------------------------------------------------------------------------------------------

#: What the claims are about, in the order of the results chapter.
TOPICS = (
    "Equations and stability",
    "Rounding and exact reversibility",
    "Size, memory and time",
    "Accuracy on CIFAR and STL-10",
    "Few labels and regularisation",
    "Momentum and second order",
    "Multilevel and multiscale",
    "Other solvers",
)
_STABILITY, _ROUNDING, _SIZE, _ACCURACY, _LABELS, _MOMENTUM, _LEVELS, _SOLVERS = TOPICS

_CHANG = "Chang et al. 2018 (arXiv 1709.03698)"
_SANDER = "Sander et al. 2021 (arXiv 2102.07870)"
_MULTILEVEL = "Chang et al. 2018 (arXiv 1710.10348)"
_GAL = "an independent re-implementation of Gal et al. (arXiv 2512.02056)"
_HERE = "calculated for this project"

# fmt: off
#: All claims, in order.
CLAIMS: tuple[Claim, ...] = (
    Claim(
        1, _STABILITY, "Linear RevNet, αβ = 1", "growth per layer, forward and backward",
        "2.618 and 1/0.382; stable for −4 ≤ αβ ≤ 0", ("calc",), _HERE, rules.calculated(1),
    ),
    Claim(
        2, _STABILITY, "Forward Euler, antisymmetric K, 100 layers", "growth of the norm at hω = 0.1 and 0.5",
        "1.64 and 7.0e4", ("calc",), _HERE, rules.calculated(2),
    ),
    Claim(
        3, _STABILITY, "Midpoint, scalar test", "modulus of the roots",
        "1 up to h|λ| = 1 on the axis; 1.558 at 1.1i; 1.105 at −0.1", ("calc",), _HERE, rules.calculated(3),
    ),
    Claim(
        4, _STABILITY, "Leapfrog, scalar test", "modulus of the roots", "1 up to hω = 2; 1.877 at 2.1", ("calc",),
        _HERE, rules.calculated(4),
    ),
    Claim(
        5, _STABILITY, "Hamiltonian and antisymmetric layers, random kernels", "largest |Re λ| over largest |λ|",
        "about 1e-16 with a smooth activation, 1e-9 with ReLU", ("calc",), _HERE, rules.spectra,
    ),
    Claim(
        6, _ROUNDING, "Round trip in float32, width 64, h = 0.1", "relative error after 10, 100 and 1,000 layers",
        "from 6e-8 to 5e-5, in step with the growth of the norm", ("calc",), _HERE, rules.calculated(6),
    ),
    Claim(
        7, _ROUNDING, "The same with h = 0.5", "relative error after 100 and 1,000 layers",
        "5e-2, 3e-2, 8e-5, then overflow or above 1", ("calc",), _HERE, rules.calculated(7),
    ),
    Claim(
        8, _ROUNDING, "Inverse in float64 and in float32, momentum, 100 layers", "ratio of the errors", "1e8 to 1e9",
        ("calc",), _HERE, rules.calculated(8),
    ),
    Claim(
        9, _SIZE, "Three units of n blocks", "number of layers",
        "74, 218, 1202 for 6, 18, 100 Hamiltonian blocks; 26, 62 for 4, 10 others", ("V", "calc"), _CHANG, rules.depth,
    ),
    Claim(
        10, _SIZE, "Parameters from the definition of a block, CIFAR-10", "number",
        "0.432M, 1.691M, 9.70M; ResNet-1202 19.42M", ("calc",), f"released configurations of {_CHANG}",
        rules.parameters,
    ),
    Claim(
        11, _SIZE, "Activation memory against depth", "slope", "linear for stored, flat for rebuilt activations",
        ("V",), f"README of MemCNN; {_GAL}", rules.memory_slope,
    ),
    Claim(
        12, _SIZE, "Time of a step, rebuilt against stored activations", "ratio",
        "1.33 in theory; 1.16 to 1.47 on a GPU, 1.67 to 1.70 on a CPU", ("V2", "V"),
        f"theory: notes on Gomez et al. 2017 (arXiv 1707.04585); measured: MemCNN, {_GAL}", rules.time_ratio,
    ),
    Claim(
        13, _ROUNDING, "Gradient from rebuilt and from stored activations, float32, few layers", "largest difference",
        "1e-8 to 1e-7", ("V",), _GAL, rules.gradients,
    ),
    Claim(
        14, _ACCURACY, "CIFAR-10, Hamiltonian-74 against ResNet-32, 160 epochs", "test accuracy",
        "both 92 to 93 % (92.76 and 92.86), alike within the noise of runs", ("unverified",), f"{_CHANG}, recalled",
        rules.pair("cifar10", 92, 93.5),
    ),
    Claim(
        15, _ACCURACY, "CIFAR-100, the same", "test accuracy", "about 70 % each", ("unverified",),
        f"{_CHANG}, recalled", rules.pair("cifar100", 68, 72),
    ),
    Claim(
        16, _ACCURACY, "Three schemes at nearly equal parameters, CIFAR-10 and -100", "order of accuracies",
        "Hamiltonian above leapfrog above midpoint", ("unverified", "V2"), f"{_CHANG}, recalled; direction: a survey",
        rules.ordering,
    ),
    Claim(
        17, _ACCURACY, "STL-10, official sets", "test accuracy",
        "Hamiltonian 85.5, midpoint 84.6, leapfrog 83.7 %; an independent code's threshold is 79.7 %", ("V", "code"),
        f"{_CHANG}, as listed by Papers with Code; code of Bohn et al. (arXiv 2108.02430)", rules.stl10,
    ),
    Claim(
        18, _LABELS, "CIFAR-10 with 500 to 20,000 images, Hamiltonian against ResNet", "gap in accuracy",
        "positive everywhere (V), up to about 13 points (unverified)", ("V", "unverified"), _CHANG,
        rules.few_labels,
    ),
    Claim(
        19, _LABELS, "Weight smoothness decay on and off", "total variation of kernels over depth; accuracy",
        "lower variation; small effect on accuracy", ("unverified",), "no number in any source",
        rules.smoothness,
    ),
    Claim(
        20, _SIZE, "Hamiltonian-1202, batch 32, one device", "fits, trains, accuracy",
        "fits and trains (V); 93.84 % (unverified) against 92.07 % of ResNet-1202 (V)", ("V", "unverified"),
        f"{_CHANG}; He et al. 2015 (arXiv 1512.03385)",
        rules.thousand,
    ),
    Claim(
        21, _MOMENTUM, "x to −x³ on [−1, 1], tied block, depth 15", "squared error after training",
        "ResNet fails, momentum with c = 0.9 to 0.99 succeeds", ("V",), _SANDER, rules.crossing,
    ),
    Claim(
        22, _MOMENTUM, "Four nested rings in the plane", "accuracy",
        "ResNet does not separate them, momentum does (a picture, no number)", ("V",), _SANDER, rules.rings,
    ),
    Claim(
        23, _ROUNDING, "Inverse of a momentum network, float32, c = 0.9", "error against depth",
        "times 1/c per layer: 8e-7 (15), 2e-4 (50), 0.17 (100)", ("calc",), _HERE, rules.calculated(23),
    ),
    Claim(
        24, _ROUNDING, "Whole-number buffer, both states in fixed point", "error; bits per entry",
        "error 0; depth · log2(1/c): 30.4 bits at 200 layers, c = 0.9", ("calc",), _HERE,
        rules.remainders,
    ),
    Claim(
        25, _ROUNDING, "The same buffer, but x in float32, as released", "error",
        "that of no buffer: 0.12 against 0.17 at depth 100", ("calc",), f"released code of {_SANDER}",
        rules.half_exact,
    ),
    Claim(
        26, _MOMENTUM, "c at test time other than in training, CIFAR-10", "loss of accuracy",
        "about 2.6 points for 0 → 1, 1.3 for 1 → 0; 20 more epochs recover it", ("V",), f"{_SANDER}, read off a figure",
        rules.other_c,
    ),
    Claim(
        27, _MOMENTUM, "Depth 101, momentum against ResNet, 10 seeds", "accuracy on CIFAR-10 and CIFAR-100",
        "95.1 to 95.2 % each; 76.4 against 76.9 %", ("V",), f"{_SANDER}, table 2",
        rules.depth_101,
    ),
    Claim(
        28, _LEVELS, "2-2-2 → 4-4-4 → 8-8-8 at epochs 60, 110 of 160", "time and error against the full model",
        "41 % less time, 7.10 against 7.58 % error; a dip after each refinement", ("V",), _MULTILEVEL,
        rules.multilevel,
    ),
    Claim(
        29, _LEVELS, "Trained ResNets of several depths", "mean norm of the residual functions",
        "proportional to 1 / number of blocks", ("V",), _MULTILEVEL,
        rules.residual_norms,
    ),
    Claim(
        30, _LEVELS, "Galerkin restriction of a 3x3 kernel", "stencil; coefficient of the second derivative",
        "3x3 again; twice too large with P = 4Rᵀ, exact with the interpolating P", ("calc",), _HERE,
        rules.galerkin,
    ),
    Claim(
        31, _LEVELS, "Swiss roll, T = 20, 2⁴ to 2¹⁰ layers", "training of ResNet, antisymmetric, Hamiltonian networks",
        "all separate the classes with a multilevel start", ("code",),
        "settings: Meganet.m, the group's code; numbers of Haber and Ruthotto (arXiv 1705.03341) not found",
        rules.swiss_roll,
    ),
    Claim(
        32, _SOLVERS, "Reversible wrapper (l = 0.999) around RK4", "time and loss against checkpointing",
        "2.2 against 4.9 to 254 minutes, same loss; with Euler the loss is worse", ("V",),
        "McCallum and Foster (arXiv 2410.11648), raw result files",
        rules.nothing("time over that of checkpointing", "loss over that of checkpointing", "the same with Euler"),
    ),
    Claim(
        33, _STABILITY, "Symplectic and forward Euler networks of 64 and more layers",
        "spectral norm of the input-output Jacobian", "1 or more always for the symplectic one; may grow without bound",
        ("V",), "Galimberti et al. (arXiv 2105.13205)", rules.jacobian_norm,
    ),
)
# fmt: on


def judgements(records: Records | None = None) -> list[Judgement]:
    """All claims judged, in order; by default from the bundled results."""
    records = finished() if records is None else records
    return [judge(claim, records) for claim in CLAIMS]


def counts(judged: Iterable[Judgement]) -> dict[str, int]:
    """How often each verdict was given."""
    found = [j.verdict for j in judged]
    return {v: found.count(v) for v in VERDICTS}
