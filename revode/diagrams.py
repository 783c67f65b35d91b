"""Block diagrams as inline SVG, drawn from the shears that a scheme returns, so that picture and code cannot differ.

Each diagram has a title and a description in words, takes its ink from the page, light or dark, and is legible on a
phone.
"""

from __future__ import annotations

import ast
import html
import inspect
import re
import textwrap

import torch
from torch import nn

from .figures import COLORS, SOFT, Drawing, beside, serial
from .models import MODELS, build
from .networks import Downsample
from .schemes import SCHEMES
from .shear import Shear

#: What stands at the left and right end of each line of a diagram.
ENDS = {
    "hamiltonian": (("Y_j", "Y_{j+1}"), ("Z_j", "Z_{j+1}")),
    "revnet": (("Y_j", "Y_{j+1}"), ("Z_j", "Z_{j+1}")),
    "midpoint": (("Y_{j−1}", "Y_{j+1}"), ("Y_j", "Y_{j+2}")),
    "leapfrog": (("Y_j", "Y_{j+1}"), ("V_j", "V_{j+1}")),
    "momentum": (("x_j", "x_{j+1}"), ("v_j", "v_{j+1}")),
    "euler": (("Y_j", "Y_{j+1}"),),
}
#: What stands in the boxes, in the order of the residual functions.
BOXES = {
    "hamiltonian": ("K_1^⊤σ(K_1 Z + b_1)", "K_2^⊤σ(K_2 Y + b_2)"),
    "revnet": ("F(Z)", "G(Y)"),
    "midpoint": ("F(Y_j)", "F(Y_{j+1})"),
    "leapfrog": ("K^⊤σ(K Y + b)",),
    "momentum": ("f(x_j)",),
    "euler": ("F(Y_j)",),
}
TITLES = {
    "hamiltonian": "Hamiltonian block",
    "revnet": "RevNet block",
    "midpoint": "Two midpoint blocks",
    "leapfrog": "Leapfrog block",
    "momentum": "Momentum block",
    "euler": "Plain residual block",
}
#: What is said under a block and its inverse.
CAPTIONS = {
    "hamiltonian": "The Hamiltonian block: a plus, a minus, and in each box one kernel twice.",
    "revnet": "RevNet: two shears. F and G are free; in its paper h = 1.",
    "midpoint": "Two blocks of midpoint. One line is the place of even times, the other that of odd times.",
    "leapfrog": "The leapfrog block: the second shear has no function, only a factor h.",
    "momentum": "The momentum block: the velocity is multiplied by c, and divided by c on the way back.",
    "euler": "To subtract what was added, one would have to know the result: no shear.",
}

_SOFT = f"var(--rv-soft, {SOFT})"
_WIDTH, _TOP, _BOTTOM, _LEFT, _RIGHT = 372, 54, 170, 50, 318
_COLUMNS = (118, 250)
_MATHS = "'STIX Two Text', 'Cambria Math', Cambria, 'Times New Roman', 'Liberation Serif', serif"


def block_shears(name: str) -> tuple[Shear, ...]:
    """The shears that a diagram shows: those of one block, for midpoint of two, with h = 1.

    Euler's step changes the state by a function of itself: it is no shear, and stands here with target = source.

    Raises:
        ValueError: if there is no such scheme.
    """
    if name not in ENDS:
        raise ValueError(f"name = {name!r} must be one of {sorted(ENDS)}")
    scheme = SCHEMES[name](1.0)
    block = nn.ModuleList(nn.Identity() for _ in range(scheme.fields))
    if not scheme.reversible:
        return (Shear(0, 0, block[0], scheme.h),)
    steps = 2 if name == "midpoint" else 1
    return tuple(s for j in range(1, 1 + steps) for s in scheme.shears(block, j))


def block(name: str, inverse: bool = False) -> Drawing:
    """Diagram of one block of a scheme (of two for midpoint, which overwrites two places in turn).

    Args:
        name: Name in :data:`revode.schemes.SCHEMES`.
        inverse: Draw the block undone: time runs from right to left, and every sign is turned.

    Raises:
        ValueError: if there is no such scheme.
    """
    return _draw(block_shears(name), ENDS.get(name), BOXES[name], TITLES[name], name, inverse)


def block_and_inverse(name: str) -> Drawing:
    """Diagrams of a block and of the block undone, side by side; arguments as for :func:`block`."""
    return beside(block(name), block(name, inverse=True), caption=CAPTIONS[name])


def shear() -> Drawing:
    """Diagrams of the one primitive a <- a + g(b), and of its inverse, side by side."""
    caption = "A shear and its inverse: the same wires, read from right to left, with the sign turned."
    ends, one = (("a", "a′"), ("b", "b")), (Shear(0, 1, nn.Identity()),)
    return beside(*(_draw(one, ends, ("g(b)",), "Shear", "midpoint", back) for back in (False, True)), caption=caption)


def _draw(shears, ends, boxes, title: str, colour: str, inverse: bool) -> Drawing:
    """Lines for the parts of the state, a box for each residual function, a node where its value is added."""
    ink = f"var(--rv-{colour}, {COLORS[colour]})"
    self_loop = shears[0].target == shears[0].source
    rails = (_TOP,) if self_loop else (_TOP, _BOTTOM)
    columns = _COLUMNS if len(shears) > 1 else (sum(_COLUMNS) / 2,)
    nodes: list[list[float]] = [[] for _ in rails]
    body, values = [], iter(boxes)
    for s, x in zip(shears, columns):
        minus = (s.scale < 0) != inverse
        value = next(values) if s.g is not None else None
        start, end = rails[s.source], rails[s.target]
        middle, away = (_TOP + _BOTTOM) / 2, 1 if start > end else -1  # away from the target
        x_node = x
        loop = ""
        if self_loop:
            x, x_node, x_dot, away = 184, 284, 84, 1
            path = f"M{x_dot} {start}V{middle + 26}H{x - 58}M{x + 58} {middle + 26}H{x_node}V{end + 21}"
            loop = ' stroke-dasharray="5 4"' if inverse else ""
            middle += 26
        elif value is None:
            path, x_dot = f"M{x} {start}V{end + 21 * away}", x
        else:
            path, x_dot = f"M{x} {start}V{middle + 21 * away}M{x} {middle - 21 * away}V{end + 21 * away}", x
        nodes[s.target].append(x_node)
        scale = _factor(s, title)
        parts = [
            f'<path d="{path}" fill="none" stroke="{ink}" stroke-width="1.8"{loop}/>',
            _head(x_node, end + 12 * away, 0, -away, ink),
            f'<circle cx="{x_dot}" cy="{start}" r="4" fill="{ink}"/>',
            f'<circle cx="{x_node}" cy="{end}" r="10" fill="none" stroke="{ink}" stroke-width="1.8"/>',
            f'<path d="M{x_node - 5.5} {end}h11{"" if minus else f"M{x_node} {end - 5.5}v11"}" stroke="{ink}" '
            'stroke-width="2" fill="none"/>',
            _maths(scale, x_node + 9, end + 30 * away + 5, 15, "start"),
        ]
        if s.c != 1:
            nodes[s.target].insert(-1, x_node - 38)
            parts += [
                f'<circle cx="{x_node - 38}" cy="{end}" r="10" fill="{ink}" fill-opacity="0.12" stroke="{ink}" '
                'stroke-width="1.5"/>',
                _maths("1/c" if inverse else "c", x_node - 38, end + 4, 11 if inverse else 14.5),
            ]
        if value is not None:
            parts += [
                f'<rect x="{x - 58}" y="{middle - 20}" width="116" height="40" rx="9" fill="{ink}" '
                f'fill-opacity="0.12" stroke="{ink}" stroke-width="1.5"{loop}/>',
                _maths(value, x, middle + 5, 14.5),
            ]
        data = f'data-target="{s.target}" data-source="{s.source}" data-scale="{-s.scale if inverse else s.scale:g}"'
        data += f' data-c="{1 / s.c if inverse else s.c:.17g}"' if s.c != 1 else ""
        body.append(f"<g {data}>{''.join(parts)}</g>")
    for y, stops, (left, right) in zip(rails, nodes, ends):
        for a, b in zip([_LEFT, *(x + 10 for x in stops)], [*(x - 10 for x in stops), _RIGHT]):
            body.append(f'<path d="M{a} {y}H{b}" stroke="currentColor" stroke-width="1.8"/>')
        body.append(_head(_LEFT, y, -1, 0, "currentColor") if inverse else _head(_RIGHT, y, 1, 0, "currentColor"))
        body.append(_maths(left, _LEFT - 12, y + 6, 17, "end"))
        body.append(_maths(right, _RIGHT + 12, y + 6, 17, "start"))
    heading = f"← {title}, undone" if inverse else f"{title} →"
    body.append(f'<text x="{_WIDTH / 2}" y="17" font-size="13.5" text-anchor="middle" fill="{_SOFT}">{heading}</text>')
    if self_loop and inverse:
        body.append(
            f'<text x="184" y="{_TOP + 50}" font-size="12.5" text-anchor="middle" fill="{_SOFT}">'
            "needs the value it is to find</text>"
        )
    alt = _words(shears, ends, boxes, title, inverse)
    return _svg(_WIDTH, 190, heading.strip("← →"), alt, body)


def _factor(s: Shear, title: str) -> str:
    """What stands for the factor of an increment; nothing for 1."""
    if s.c != 1:
        return "(1 − c)"
    return f"{abs(s.scale):g}".removeprefix("1") + ("h" if title != "Shear" else "")


def _words(shears, ends, boxes, title: str, inverse: bool) -> str:
    """A diagram in words, from its shears."""
    names = [_plain(left).split("_")[0] for left, _ in ends]
    if title == TITLES["midpoint"]:
        names = ["the place of even times", "the place of odd times"]
    lines = "One line" if len(names) == 1 else "Two lines"
    where = " and ".join(f"{n} from {_plain(a)} to {_plain(b)}" for n, (a, b) in zip(names, ends))
    said, values = [], iter(boxes)
    for s in shears:
        value = _plain(next(values)) if s.g is not None else names[s.source]
        scale = _factor(s, title)
        times = f"{scale} times " if scale else ""
        said.append((f"{times}{value}", s.scale < 0, names[s.target], s.c != 1))
    if inverse and len(names) == 1:
        return (
            f"The same line read from right to left: to subtract {said[0][0]} one needs the value at the left end, "
            "which is not known yet. The drawing closes to a loop."
        )
    verb = {False: ("is added to", "is subtracted from")}.get(inverse, ("is subtracted from", "is added to"))
    steps = []
    for value, minus, target, multiplied in said[::-1] if inverse else said:
        steps.append(f"{value} {verb[minus]} {target}")
        if multiplied:
            by = f"{target} is {'divided' if inverse else 'multiplied'} by c"
            steps.insert(len(steps) if inverse else len(steps) - 1, by)
    order = "from right to left" if inverse else "from left to right"
    return f"{lines}, {where}, read {order}: " + "; then ".join(steps) + "."


def network(name: str) -> Drawing:
    """Diagram of a named network from top to bottom: stem, blocks of each shape, what lies between, head.

    Each bar is a block, as wide as it has channels. What has a dashed frame cannot be undone.

    Args:
        name: Name in :data:`revode.MODELS`.

    Raises:
        ValueError: for an unknown name, or a network of torchvision.
    """
    if name in MODELS and MODELS[name].block:
        raise ValueError(f"name = {name!r} is built of torchvision's blocks, which this diagram does not know")
    with torch.device("meta"):
        net = build(name)
    ink = f"var(--rv-{MODELS[name].scheme}, {COLORS[MODELS[name].scheme]})"
    size, unit, widest = MODELS[name].image_size, 124 / max(net.widths), 66
    y, body, said = 30, [], []

    def row(text: str, more: str, height: float = 36) -> None:
        nonlocal y
        middle = y + height / 2
        body.append(f'<text x="148" y="{middle - 3}" font-size="14.5">{text}</text>')
        body.append(f'<text x="148" y="{middle + 15}" font-size="13" fill="{_SOFT}">{more}</text>')
        said.append(f"{text}, {more}")
        y += height + 10

    def bars(count: int, channels: int, reversible: bool, height: float = 36) -> None:
        pitch = min(9, 90 / count)
        thick, top = 0.8 * pitch, y + (height - count * pitch) / 2
        style = 'fill-opacity="0.3"' if reversible else 'fill-opacity="0" stroke-dasharray="3 2"'
        for k in range(count):
            body.append(
                f'<rect x="{widest - channels * unit / 2:.1f}" y="{top + k * pitch:.1f}" '
                f'width="{channels * unit:.1f}" height="{thick:.1f}" rx="{thick / 4:.1f}" '
                f'stroke-width="{min(1, thick / 3):.2f}" stroke="{ink}" fill="{ink}" {style}/>'
            )

    shape = "{} channels, {} × {} pixels".format
    row("image", shape(net.in_channels, size, size))
    bars(1, net.widths[0], False)
    row("stem: 3 × 3 convolution", f"to {net.widths[0]} channels")
    for k, (stage, channels) in enumerate(zip(net.stages, net.widths)):
        if k:
            size //= 2
            if isinstance(net.transitions[k - 1], Downsample):
                row("2 × 2 average, zero channels", f"to {shape(channels, size, size)}")
            else:
                bars(1, channels, False)
                row("block of stride 2", f"to {shape(channels, size, size)}")
        count = len(stage.blocks)
        height = max(40, min(9 * count, 90))
        bars(count, channels, stage.scheme.reversible, height)
        row(f"{count} blocks", shape(channels, size, size), height)
    row("average, then a matrix", f"to {net.num_classes} classes")
    rail = f'<path d="M{widest} 34V{y - 4}" stroke="currentColor" stroke-width="1.2"/>'
    rail += _head(widest, y + 2, 0, 1, "currentColor")
    heading = f'<text x="{widest}" y="17" font-size="13.5" text-anchor="middle" fill="{_SOFT}">{name}</text>'
    return _svg(372, y + 8, name, f"From top to bottom: {'; '.join(said)}.", [heading, rail, *body])


def networks(*names: str) -> Drawing:
    """Diagrams of named networks side by side; arguments as for :func:`network`."""
    caption = "Each bar is a block, as wide as it has channels. What has a dashed frame cannot be undone."
    return beside(*map(network, names), caption=caption)


def source(*functions) -> str:
    """The code of functions or methods as this package runs it, without docstrings.

    Args:
        *functions: Python functions.

    Returns:
        Text to print; one function below the other.
    """
    out = []
    for function in functions:
        text = textwrap.dedent(inspect.getsource(function))
        lines, body = text.splitlines(), ast.parse(text).body[0]
        if ast.get_docstring(body) is not None:
            del lines[body.body[0].lineno - 1 : body.body[0].end_lineno]
        out.append("\n".join(lines))
    return "\n\n".join(out)


# --- SVG ----------------------------------------------------------------------------------------------------


def _svg(width: float, height: float, title: str, alt: str, body: list[str]) -> Drawing:
    prefix = f"rvd{serial()}"
    svg = (
        f'<svg class="rv-drawing" role="img" aria-labelledby="{prefix}-t" aria-describedby="{prefix}-d" '
        f'viewBox="0 0 {width:g} {height:g}" fill="currentColor" '
        f'style="width: 100%; max-width: {width:g}px; height: auto" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{prefix}-t">{html.escape(title)}</title><desc id="{prefix}-d">{html.escape(alt)}</desc>'
        f"{''.join(body)}</svg>"
    )
    return Drawing(svg, f"{title}. {alt}")


def _head(x: float, y: float, dx: int, dy: int, ink: str) -> str:
    """An arrow's head with its tip at (x, y) in the direction (dx, dy)."""
    return f'<path d="M{x} {y}l{-9 * dx + 4.5 * dy} {-9 * dy + 4.5 * dx}l{-9 * dy} {-9 * dx}z" fill="{ink}"/>'


def _maths(text: str, x: float, y: float, size: float, anchor: str = "middle") -> str:
    """A formula: letters italic, _ and ^ with one character or braces for indices."""
    spans, level = [], 0.0
    for script, run, plain in re.findall(r"([_^])(\{[^}]*\}|.)|([^_^]+)", text):
        wanted = {"_": 0.26, "^": -0.36}.get(script, 0.0) * size
        small = f' font-size="{0.7 * size:.1f}"' if script else ""
        for word in re.findall(r"[A-Za-zσ]+′?|[^A-Za-zσ]+", run.strip("{}") or plain):
            italic = ' font-style="italic"' if word[0].isalpha() else ""
            shift = f' dy="{wanted - level:.1f}"' if abs(wanted - level) > 1e-6 else ""
            spans.append(f"<tspan{italic}{small}{shift}>{html.escape(word)}</tspan>")
            level = wanted
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" xml:space="preserve" '
        f'style="font-family: {_MATHS}">{"".join(spans)}</text>'
    )


def _plain(text: str) -> str:
    return text.translate(str.maketrans("", "", "{}")).replace("^⊤", "ᵀ").replace("σ", "s")
