"""The papers' networks by name, each number with its source.

Status words: "V" was read in a source, "code" in code by the authors or their group, "calc" was computed here,
"unverified" is recalled and no source at hand shows it; treat such a number as a hint.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from .fields import NORMALIZATIONS, choose
from .networks import Network
from .schemes import Momentum

if TYPE_CHECKING:
    from .residual import TorchvisionNetwork

STATUS = ("V", "code", "calc", "unverified")


class Source(NamedTuple):
    """Where a number comes from.

    Attributes:
        status: One of :data:`STATUS`.
        text: Paper or file.
    """

    status: str
    text: str


@dataclass(frozen=True)
class Recipe:
    """How the authors trained a network: SGD with momentum, the rate cut at milestones.

    Attributes:
        batch_size: Images per step.
        lr: Initial learning rate.
        milestones: Steps after which the rate is multiplied by ``lr_factor``, or with cosines begins again.
        steps: Total number of steps.
        weight_decay: Factor of 1/2 ||w||^2 over kernels and the last layer's matrix, not over biases or norms.
        smoothness: Factor of :meth:`revode.networks.Network.smoothness`.
        momentum: Of SGD.
        lr_factor: Cut of the rate at each milestone.
        train_images: Size of the training set that epochs are counted with.
        sources: Source of each of these numbers.
        schedule: "steps", or "cosine": between milestones the rate falls from ``lr`` to ``lr_min`` as a cosine does.
        lr_min: Rate at the end of a cosine.
    """

    batch_size: int
    lr: float
    milestones: tuple[int, ...]
    steps: int
    weight_decay: float
    smoothness: float
    momentum: float
    lr_factor: float
    train_images: int
    sources: Mapping[str, Source] = field(repr=False, hash=False)
    schedule: str = "steps"
    lr_min: float = 0.0

    @property
    def epochs(self) -> float:
        """Passes over ``train_images`` images."""
        return self.steps * self.batch_size / self.train_images

    @property
    def milestone_epochs(self) -> tuple[float, ...]:
        """The milestones in epochs."""
        return tuple(m * self.batch_size / self.train_images for m in self.milestones)


@dataclass(frozen=True)
class ModelSpec:
    """A named network.

    Attributes:
        name: As in :data:`MODELS`.
        scheme: Name in :data:`revode.schemes.SCHEMES`.
        units: Number of blocks of each unit.
        widths: Number of channels of each unit; the stem has that of the first.
        h: Step size with batch normalization.
        image_size: Side of the training images, pixels.
        recipe: The authors' training.
        parameters: Number of parameters that the paper prints, in millions as printed, by number of classes.
        accuracy: Test accuracy in percent that the paper prints, by data set.
        c: Factor of the momentum rule; None of another scheme.
        block: "basic" or "bottleneck" of a network of torchvision (:mod:`revode.residual`), else empty.
        sources: Source of each of these numbers.
    """

    name: str
    scheme: str
    units: tuple[int, ...]
    widths: tuple[int, ...]
    h: float
    image_size: int
    recipe: Recipe
    parameters: Mapping[int, str] = field(default_factory=dict, hash=False)
    accuracy: Mapping[str, float] = field(default_factory=dict, hash=False)
    c: float | None = None
    block: str = ""
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False, hash=False)

    @property
    def depth(self) -> int:
        """Number of layers as the papers count: a kernel and its transpose are two; stem and last layer are two."""
        return LAYERS[self.block or self.scheme] * sum(self.units) + 2


#: Layers of one block, as the papers count them.
LAYERS = {"hamiltonian": 4, "revnet": 4, "midpoint": 2, "leapfrog": 2, "momentum": 2, "euler": 2}
LAYERS |= {"basic": 2, "bottleneck": 3}

_CIFAR_CODE = "released code of Chang et al. 2018, branch ham1122, resnet/configs/cifar_configs.py"
_TABLE = "main table of Chang et al. 2018, recalled"
_TEXT = "text of Chang et al. 2018 (arXiv 1709.03698), recalled"
_MEGANET = "the group's code, Meganet.m, examples/EHamiltonian_STL10.m"

_CIFAR_RECIPE_SOURCES = dict.fromkeys(
    (
        *("batch_size", "lr", "milestones", "steps", "weight_decay", "smoothness", "momentum", "lr_factor"),
        *("schedule", "lr_min"),
    ),
    Source("code", _CIFAR_CODE),
) | {"train_images": Source("V", "CIFAR-10 and CIFAR-100: 50,000 training images")}

#: CIFAR-10 and CIFAR-100: 160 epochs, the rate cut after 80 and 120.
CIFAR = Recipe(
    batch_size=100,
    lr=0.1,
    milestones=(40_000, 60_000),  # the paper's text: epochs 80, 120, 160 (recalled)
    steps=80_000,
    weight_decay=2e-4,
    smoothness=2e-4,
    momentum=0.9,
    lr_factor=0.1,
    train_images=50_000,
    sources=_CIFAR_RECIPE_SOURCES,
)

#: The same for ResNet and RevNet, which have no weight smoothness decay in the released code.
CIFAR_BASELINE = replace(
    CIFAR,
    smoothness=0.0,
    sources=_CIFAR_RECIPE_SOURCES
    | {"smoothness": Source("code", "released code of Chang et al. 2018, resnet_model.py: 0 but for Hamiltonian")},
)

#: The 1202-layer networks: batch 32.
CIFAR_1202 = replace(CIFAR, batch_size=32, milestones=(120_000, 180_000), steps=240_000, weight_decay=5e-4)

_ML = "Chang, Meng, Haber, Tung and Begert 2018 (arXiv 1710.10348)"

#: Multilevel training on CIFAR: 160 epochs, the cosine begins again after 60 and 110, where the blocks are doubled.
MULTILEVEL = Recipe(
    batch_size=100,
    lr=0.5,
    milestones=(30_000, 55_000),
    steps=80_000,
    weight_decay=2e-4,
    smoothness=0.0,
    momentum=0.9,
    lr_factor=1.0,
    train_images=50_000,
    sources=dict.fromkeys(CIFAR.sources, Source("V", _ML))
    | {
        "smoothness": Source("unverified", f"{_ML} names none"),
        "lr_factor": Source("calc", "no cut of the rate besides the cosine"),
        "train_images": CIFAR.sources["train_images"],
    },
    schedule="cosine",
    lr_min=0.001,
)

_SANDER_CODE = "released code of Sander et al. 2021"

#: Momentum ResNets on CIFAR: 220 epochs of 390 steps, the rate cut after 180.
SANDER = Recipe(
    batch_size=128,
    lr=0.01,
    milestones=(70_200,),
    steps=85_800,
    weight_decay=5e-4,
    smoothness=0.0,
    momentum=0.9,
    lr_factor=0.1,
    train_images=50_000,
    sources=dict.fromkeys(CIFAR.sources, Source("code", f"{_SANDER_CODE}, for CIFAR"))
    | {"train_images": CIFAR.sources["train_images"]},
)

_UNVERIFIED_TRAINING = Source("unverified", _TEXT)

#: STL-10, 5,000 labelled images.
STL10 = Recipe(
    batch_size=128,
    lr=0.1,
    milestones=(2_344, 3_125, 3_906),  # epochs 60, 80, 100
    steps=20_000,
    weight_decay=5e-4,
    smoothness=3e-4,
    momentum=0.9,
    lr_factor=0.1,
    train_images=5_000,
    sources=dict.fromkeys(CIFAR.sources, _UNVERIFIED_TRAINING)
    | {"train_images": Source("V", "STL-10: 5,000 labelled training images")},
)


def _cifar(
    name: str,
    scheme: str,
    n: int,
    widths: tuple[int, ...],
    parameters: dict[int, str],
    accuracy: tuple[float, ...],
    recipe: Recipe,
    sources: Mapping[str, Source] | None = None,
    c: float | None = None,
) -> ModelSpec:
    """Three units of n blocks on 32x32 images."""
    code = Source("code", _CIFAR_CODE)
    return ModelSpec(
        name=name,
        scheme=scheme,
        units=(n, n, n),
        widths=widths,
        h=1.0,
        image_size=32,
        recipe=recipe,
        parameters=parameters,
        accuracy=dict(zip(("cifar10", "cifar100"), accuracy, strict=False)),
        c=c,
        sources={
            "units": code,
            "widths": code,
            "h": code,
            "image_size": Source("V", "CIFAR images are 32x32"),
            "recipe": code,
            "parameters": Source("unverified", _TABLE),
            "accuracy": Source("unverified", _TABLE),
        }
        | (sources or {}),
    )


_NARROW, _WIDE, _RESNET = (32, 64, 112), (32, 64, 128), (16, 32, 64)
_HE = Source("V", "He et al. 2015 (arXiv 1512.03385): 7.93 % test error, 19.4M parameters")
_COUNTED = Source("V", "text of Chang et al. 2018: blocks of each unit follow from the depth in the name")
_TABLE_WIDTHS = Source("unverified", f"{_TABLE}; no released configuration")
_TWO_STEP = {
    "units": _COUNTED,
    "widths": _TABLE_WIDTHS,
    "h": Source("code", f"{_CIFAR_CODE}, of Hamiltonian"),
    "recipe": Source("unverified", f"that of Hamiltonian-74 and -218 in the {_CIFAR_CODE}"),
}
_MOMENTUM = {
    "units": Source("calc", "those of the ResNet of the same depth"),
    "widths": Source("calc", "those of the ResNet of the same depth"),
    "h": Source("V", "Sander et al. 2021 (arXiv 2102.07870): x <- x + v"),
    "c": Source("code", "released code of Sander et al. 2021: the default, 0.9"),
    "recipe": Source("calc", "that of the ResNet of the same depth; Sander et al. 2021 trained otherwise"),
    "parameters": Source("calc", "those of the ResNet of the same depth: the form adds none"),
    "accuracy": Source("V", "none printed; Sander et al. 2021, Table 2, has networks of 101 layers"),
}
_FEW_LABELS = {
    "units": Source("unverified", "4 units of 4 blocks: text of Chang et al. 2018, recalled"),
    "widths": Source("unverified", f"text of Chang et al. 2018, recalled; the ratio 1:4:8:16 is that of {_MEGANET}"),
    "h": Source("code", _CIFAR_CODE),
    "image_size": Source("V", "CIFAR images are 32x32"),
    "recipe": Source("unverified", "that of the full CIFAR-10"),
    "parameters": Source("unverified", "none known"),
    "accuracy": Source("unverified", "none printed for one network: a curve over the number of labels"),
}
_STL = {
    "units": Source("code", f"{_MEGANET}: 4 units of 3 steps; the paper's own network is not known"),
    "widths": Source("code", f"{_MEGANET}: 32 times 1, 4, 8, 16; the paper's own network is not known"),
    "h": Source("code", _MEGANET),
    "image_size": Source("V", "STL-10 images are 96x96"),
    "recipe": _UNVERIFIED_TRAINING,
    "parameters": Source("unverified", "none known"),
    "accuracy": Source("V", "STL-10 table of Chang et al. 2018, as listed by Papers with Code"),
}


def _multilevel(name: str, n: int, widths: tuple[int, ...], errors: tuple[float, float, float]) -> ModelSpec:
    """A ResNet of the multilevel paper, with its error in percent on CIFAR-10, CIFAR-100 and STL-10."""
    paper = Source("V", _ML)
    accuracy = {data: round(100 - e, 2) for data, e in zip(("cifar10", "cifar100", "stl10"), errors, strict=True)}
    return ModelSpec(
        name,
        "euler",
        (n, n, n),
        widths,
        1.0,
        32,
        MULTILEVEL,
        accuracy=accuracy,
        sources={
            "units": paper,
            "widths": paper,
            "h": Source("unverified", f"{_ML}: 1 for the shallowest of a schedule (V); of the full networks not said"),
            "image_size": Source("V", "CIFAR images are 32x32"),
            "recipe": paper,
            "parameters": Source("unverified", "none known"),
            "accuracy": paper,
        },
    )


def _few(name: str, scheme: str, recipe: Recipe) -> ModelSpec:
    c, sources = (Momentum.C, {"c": _MOMENTUM["c"]}) if scheme == "momentum" else (None, {})
    return ModelSpec(name, scheme, (4,) * 4, (16, 64, 128, 256), 1.0, 32, recipe, c=c, sources=_FEW_LABELS | sources)


def _stl10(name: str, scheme: str, accuracy: float) -> ModelSpec:
    return ModelSpec(
        name, scheme, (3, 3, 3, 3), (32, 128, 256, 512), 1.0, 96, STL10, {}, {"stl10": accuracy}, sources=_STL
    )


def _torchvision(scheme: str, layers: int, accuracy: tuple[float, ...] = ()) -> ModelSpec:
    """A network of torchvision: for large images, or where accuracies on CIFAR are given, for those."""
    block, units = {
        18: ("basic", (2, 2, 2, 2)),
        34: ("basic", (3, 4, 6, 3)),
        50: ("bottleneck", (3, 4, 6, 3)),
        101: ("bottleneck", (3, 4, 23, 3)),
        152: ("bottleneck", (3, 8, 36, 3)),
    }[layers]
    cifar, momentum = bool(accuracy), scheme == "momentum"
    he = Source("V", "He et al. 2015 (arXiv 1512.03385), Table 1, as torchvision.models has it")
    sander = Source("V", "Sander et al. 2021 (arXiv 2102.07870)")
    return ModelSpec(
        f"torchvision-{'momentum' if momentum else 'resnet'}-{layers}{'-cifar' if cifar else ''}",
        scheme,
        units,
        tuple(w * (4 if block == "bottleneck" else 1) for w in (64, 128, 256, 512)),
        1.0,
        32 if cifar else 224,
        SANDER,
        accuracy=dict(zip(("cifar10", "cifar100"), accuracy, strict=False)),
        c=Momentum.C if momentum else None,
        block=block,
        sources={
            "units": he,
            "widths": he,
            "h": sander,
            "image_size": Source("V", "CIFAR images are 32x32") if cifar else Source("V", "torchvision.models"),
            "recipe": Source("code", f"{_SANDER_CODE}, for CIFAR"),
            "parameters": he,
            "accuracy": Source("V", f"{sander.text}, Table 2, 10 runs") if cifar else Source("V", "none on these data"),
        }
        | ({"c": _MOMENTUM["c"]} if momentum else {}),
    )


_SPECS = (
    _cifar("resnet-32", "euler", 5, _RESNET, {10: "0.46", 100: "0.47"}, (92.86, 70.05), CIFAR_BASELINE),
    _cifar("resnet-110", "euler", 18, _RESNET, {10: "1.73", 100: "1.73"}, (94.26, 73.56), CIFAR_BASELINE),
    _cifar(
        "resnet-1202",
        "euler",
        200,
        _RESNET,
        {10: "19.4"},
        (92.07,),
        CIFAR_BASELINE,
        dict.fromkeys(("units", "widths", "parameters", "accuracy"), _HE)
        | {"recipe": Source("unverified", "that of ResNet-32 and -110; He et al. trained otherwise")},
    ),
    _cifar("revnet-38", "revnet", 3, _NARROW, {10: "0.46", 100: "0.48"}, (92.76, 71.04), CIFAR_BASELINE),
    _cifar("revnet-110", "revnet", 9, _WIDE, {10: "1.73", 100: "1.74"}, (94.24, 74.60), CIFAR_BASELINE),
    _cifar("hamiltonian-74", "hamiltonian", 6, _NARROW, {10: "0.43", 100: "0.44"}, (92.76, 69.78), CIFAR),
    _cifar("hamiltonian-218", "hamiltonian", 18, _WIDE, {10: "1.68", 100: "1.69"}, (94.02, 73.89), CIFAR),
    _cifar("hamiltonian-1202", "hamiltonian", 100, _WIDE, {10: "9.70"}, (93.84,), CIFAR_1202),
    _cifar("midpoint-26", "midpoint", 4, _NARROW, {10: "0.50", 100: "0.51"}, (91.16, 67.25), CIFAR, _TWO_STEP),
    _cifar("midpoint-62", "midpoint", 10, _WIDE, {10: "1.78", 100: "1.79"}, (92.76, 70.98), CIFAR, _TWO_STEP),
    _cifar("leapfrog-26", "leapfrog", 4, _NARROW, {10: "0.50", 100: "0.51"}, (91.92, 69.14), CIFAR, _TWO_STEP),
    _cifar("leapfrog-62", "leapfrog", 10, _WIDE, {10: "1.78", 100: "1.79"}, (93.40, 72.28), CIFAR, _TWO_STEP),
    _cifar("momentum-32", "momentum", 5, _RESNET, {}, (), CIFAR_BASELINE, _MOMENTUM, Momentum.C),
    _cifar("momentum-110", "momentum", 18, _RESNET, {}, (), CIFAR_BASELINE, _MOMENTUM, Momentum.C),
    _multilevel("resnet-14", 2, _RESNET, (9.75, 33.34, 27.78)),
    _multilevel("resnet-50", 8, _RESNET, (7.58, 28.64, 25.95)),
    _multilevel("resnet-122", 20, _RESNET, (6.47, 26.74, 25.16)),
    _multilevel("wresnet-14", 2, _WIDE, (7.38, 27.92, 24.58)),
    _multilevel("wresnet-32", 5, _WIDE, (6.29, 25.32, 23.51)),
    _multilevel("wresnet-50", 8, _WIDE, (5.87, 24.49, 23.82)),
    _multilevel("wresnet-122", 20, _WIDE, (5.38, 23.11, 22.00)),
    _few("hamiltonian-few", "hamiltonian", CIFAR),
    _few("leapfrog-few", "leapfrog", CIFAR),
    _few("midpoint-few", "midpoint", CIFAR),
    _few("momentum-few", "momentum", CIFAR_BASELINE),
    _few("resnet-few", "euler", CIFAR_BASELINE),
    _stl10("hamiltonian-stl10", "hamiltonian", 85.5),
    _stl10("midpoint-stl10", "midpoint", 84.6),
    _stl10("leapfrog-stl10", "leapfrog", 83.7),
    *(_torchvision(scheme, layers) for layers in (18, 34, 50, 101, 152) for scheme in ("euler", "momentum")),
    _torchvision("euler", 101, (95.15, 76.86)),
    _torchvision("momentum", 101, (95.1, 76.39)),
)

#: Every named network.
MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _SPECS}


def build(
    name: str,
    num_classes: int = 10,
    *,
    memory: str = "reversible",
    normalization: str = "batch",
    h: float | None = None,
    store_last: int = 0,
    seed: int | None = None,
    activation: str = "relu",
    arithmetic: str = "float",
    verify: bool = False,
    c: float | Sequence[float] | None = None,
    start: str | None = None,
    learn_c: str = "no",
    units: Sequence[int] | None = None,
) -> Network | TorchvisionNetwork:
    """A network of the papers by its name.

    Names that begin with "torchvision" are those of :class:`revode.residual.TorchvisionNetwork`, without a step size
    of their own and with batch normalization and ReLU alone.

    Args:
        name: One of :data:`MODELS`.
        num_classes: Number of classes.
        memory: "reversible" or "stored"; a plain ResNet is always stored.
        normalization: "batch" as in the released code, "none" for the pure equations.
        h: Step size. None: that of the released code with batch normalization; without, half of what is stable for
            the initial weights (:func:`revode.networks.stable_step`), and one line is printed that says so.
        store_last: Number of blocks at the end of the network whose activations are kept.
        seed: Seed of the initial weights; None draws from torch's global generator.
        activation: Name of the activation function.
        arithmetic: "float", or "exact": states in 32-bit fixed point, reversible bit for bit.
        verify: In exact arithmetic, compare a checksum of each increment in the backward pass.
        c: Factor of the momentum rule, for "momentum" networks: one number, or one for each block of the stages.
            None: that of :data:`MODELS`.
        start: How a stage begins: "rest" or "field" of the momentum rule, "rest" or "half-kick" of leapfrog. None:
            "rest".
        learn_c: Learn c: "no", "shared" (one number for the network) or "layer" (one for each block).
        units: Number of blocks of each unit; None is as named. Multilevel training begins with fewer.

    Returns:
        The network. ``build(**network.settings)`` makes another one of the same form and step size.

    Raises:
        ValueError: for an unknown name (the choices are listed) or argument.
        StepSizeError: if h is not a finite number.
    """
    network = _make(
        name,
        num_classes,
        memory=memory,
        normalization=normalization,
        h=h,
        store_last=store_last,
        seed=seed,
        activation=activation,
        arithmetic=arithmetic,
        verify=verify,
        c=c,
        start=start,
        learn_c=learn_c,
        units=units,
    )
    if network.stability:
        print(f"{name}: h = {network.h:.4g}, half of what is stable ({network.stability})")
    return network


def _make(
    name: str,
    num_classes: int,
    *,
    normalization: str,
    h: float | None = None,
    units: Sequence[int] | None = None,
    c: float | Sequence[float] | None = None,
    **options,
) -> Network | TorchvisionNetwork:
    choose("name", name, MODELS)
    spec = MODELS[name]
    if spec.block:
        from .residual import TorchvisionNetwork  # brings torchvision with it

        options |= {"normalization": normalization, "h": h, "small_images": spec.image_size < 64}
        options |= {"num_classes": num_classes, "c": spec.c if c is None else c}
        network = TorchvisionNetwork(spec.scheme, spec.block, units or spec.units, **options)
        network.name = name
        return network
    h = spec.h if h is None and normalization == "batch" else h
    units = spec.units if units is None else units
    c = spec.c if c is None else c
    network = Network(
        spec.scheme, units, spec.widths, num_classes=num_classes, h=h, normalization=normalization, c=c, **options
    )
    network.name = name
    return network


def count_parameters(network: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def table(num_classes: int = 10, *, normalization: str = "batch", names: Sequence[str] = ()) -> list[dict]:
    """One row for each named network.

    Args:
        num_classes: Number of classes.
        normalization: "batch" or "none". Without normalization the step size follows from initial weights (seed 0),
            which takes minutes for the 1202-layer networks.
        names: Networks to list; all if empty.

    Returns:
        Rows with the keys name, scheme, layers, units, channels, h, omega and limit (largest frequency of the initial
        layers and largest stable h * omega, None with batch normalization), parameters (counted here),
        paper_parameters (in millions as the paper prints them, or None), parameters_status, paper_accuracy (percent,
        or None), accuracy_status.

    Raises:
        ValueError: for an unknown name or fewer than one class.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes = {num_classes} must be 1 or more")
    rows = []
    for name in names or MODELS:
        counted_only = normalization == "batch"
        with torch.device("meta" if counted_only else "cpu"):
            network = _make(name, num_classes, normalization=normalization, seed=None if counted_only else 0)
        spec = MODELS[name]
        paper = {"cifar10": 10, "stl10": 10, "cifar100": 100}
        accuracy = [a for data, a in spec.accuracy.items() if paper[data] == num_classes]
        rows.append(
            {
                "name": name,
                "scheme": spec.scheme,
                "layers": spec.depth,
                "units": spec.units,
                "channels": spec.widths,
                "h": network.h,
                "omega": network.stability.omega if network.stability else None,
                "limit": network.stability.limit if network.stability else None,
                "parameters": count_parameters(network),
                "paper_parameters": spec.parameters.get(num_classes),
                "parameters_status": spec.sources["parameters"].status,
                "paper_accuracy": accuracy[0] if accuracy else None,
                "accuracy_status": spec.sources["accuracy"].status,
            }
        )
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``revode models``."""
    parser.add_argument("names", nargs="*", metavar="name", help="networks to list (default: all)")
    parser.add_argument("--classes", type=int, default=10, help="number of classes (default: %(default)s)")
    parser.add_argument(
        "--normalization",
        choices=NORMALIZATIONS,
        default="batch",
        help="batch: as in the released code; none: the pure equations, h from the initial weights",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with the source of every number")


def main(args: argparse.Namespace) -> int:
    """Print the named networks; the exit status."""
    try:
        rows = table(args.classes, normalization=args.normalization, names=args.names)
    except ValueError as error:
        print(f"revode models: {error}", file=sys.stderr)
        return 2
    if args.json:
        for row in rows:
            spec = MODELS[row["name"]]
            row["sources"] = {k: s._asdict() for k, s in spec.sources.items()}
            row["recipe"] = {k: v for k, v in asdict(spec.recipe).items() if k != "sources"}
            row["recipe_sources"] = {k: s._asdict() for k, s in spec.recipe.sources.items()}
        print(json.dumps(rows, indent=2))
        return 0
    print(_text(rows))
    return 0


def _text(rows: Sequence[dict]) -> str:
    head = ("network", "scheme", "layers", "units", "channels", "h", "parameters", "paper", "paper's accuracy")
    lines = [head]
    for r in rows:
        h = f"{r['h']:.3g}"
        if r["omega"]:
            h += f" (h * omega = {r['h'] * r['omega']:.2g} of {r['limit']:.2g})"
        paper = f"{r['paper_parameters']}M ({r['parameters_status']})" if r["paper_parameters"] else "-"
        accuracy = f"{r['paper_accuracy']} % ({r['accuracy_status']})" if r["paper_accuracy"] else "-"
        lines.append(
            (r["name"], r["scheme"], str(r["layers"]), "-".join(map(str, r["units"])),
             "-".join(map(str, r["channels"])), h, f"{r['parameters']:,}", paper, accuracy)
        )  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = {2, 5, 6}
    out = [
        "  ".join(c.rjust(w) if k in right else c.ljust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    out.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in out) + "\n\n" + LEGEND


LEGEND = """\
parameters: counted here. paper, accuracy: as the paper prints them, with their status: V = read in a source,
code = in code by the authors or their group, unverified = recalled, no source at hand shows it: treat as a hint.
--json prints the source of every number."""
