"""Static figures of the book: matplotlib drawings that follow the page's light or dark theme.

A drawing is shown as inline SVG: its ink is the text colour of the page and its scheme colours are CSS variables, so
one picture serves both themes, in the book, in JupyterLab and in Colab. Make one with :func:`axes`, hand it to
:func:`show`.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from . import augment, results, stability
from .models import MODELS, STATUS
from .stability import PROBLEMS

#: Okabe and Ito's colours, darkened to stand on white; the page lightens them on dark ground.
COLORS = {
    "euler": "#b8460e",
    "midpoint": "#0064a0",
    "hamiltonian": "#00745a",
    "leapfrog": "#9a3f7e",
    "revnet": "#8a6a00",
}
INK, SOFT, LINE = "#1d2733", "#5a6572", "#c9d0d8"
LABELS = {"euler": "Euler", "midpoint": "midpoint", "hamiltonian": "Verlet", "leapfrog": "leapfrog", "revnet": "RevNet"}
#: A second cue beside colour.
DASHES = {
    "euler": (0, (6, 2)),
    "midpoint": (0, (2, 1.5)),
    "hamiltonian": "-",
    "leapfrog": (0, (7, 2, 1.5, 2)),
    "revnet": (0, (1, 1)),
}

_THEME = {INK: "currentColor", SOFT: f"var(--rv-soft, {SOFT})", LINE: f"var(--rv-line, {LINE})"}
_THEME |= {color: f"var(--rv-{name}, {color})" for name, color in COLORS.items()}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "revode",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_serial = itertools.count(1)


class Drawing:
    """A drawing as inline SVG, with its text alternative. Shown by a notebook as the last value of a cell.

    Attributes:
        svg: The SVG element.
        alt: What the drawing shows, in words.
        caption: Text under it, or the empty string.
    """

    def __init__(self, svg: str, alt: str, caption: str = ""):
        self.svg, self.alt, self.caption = svg, alt, caption

    def __repr__(self) -> str:
        return f"<Drawing: {self.alt}>"

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        return f'<figure class="rv-figure">{self.svg}{caption}</figure>'


def axes(rows: int = 1, columns: int = 1, size: tuple[float, float] = (7.2, 3.0), **kwargs):
    """A new figure in the book's style and its axes, without pyplot.

    Args:
        rows: Rows of axes.
        columns: Columns of axes.
        size: Width and height in inches; the page is about 7.2 wide.
        **kwargs: As for ``matplotlib.figure.Figure.subplots``.

    Returns:
        The figure, and its axes as ``subplots`` returns them.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots(rows, columns, **kwargs)


def show(figure: Figure, alt: str, caption: str = "") -> Drawing:
    """The drawing of a figure, for the last line of a cell.

    Args:
        figure: From :func:`axes`.
        alt: What it shows, in words, for who cannot see it. Must not be empty.
        caption: Text under it.

    Raises:
        ValueError: if alt is empty.
    """
    if not alt.strip():
        raise ValueError("alt is empty: say in a sentence what the drawing shows")
    for ax in figure.axes:
        if ax.get_legend():
            ax.get_legend().set_frame_on(False)  # its white would stay white on dark ground
    out = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Drawing(_themed(out.getvalue(), alt), alt, caption)


def _themed(text: str, alt: str) -> str:
    """Matplotlib's SVG file made fit to stand in a page: own ids, no global style, colours of the theme."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text))
    prefix = f"rv{next(_serial)}-"
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{prefix}{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r"url\(#", f"url(#{prefix}", text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    text = re.sub(r"font-family: [^;\"]*;?", "", text)
    for color, variable in _THEME.items():
        text = re.sub(re.escape(color), variable, text, flags=re.IGNORECASE)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt" viewBox="([^"]*)"', text)
    attributes = (
        f'class="rv-drawing" role="img" aria-label="{html.escape(alt)}" viewBox="{size[3]}" '
        f'fill="currentColor" style="width: 100%; max-width: {float(size[1]) * 4 / 3:.0f}px; height: auto" '
        'stroke-linejoin="round" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    return re.sub(r"<svg[^>]*>", f"<svg {attributes}>", text, count=1).strip()


def line(ax, x, y, scheme: str, **kwargs) -> None:
    """Plot with a scheme's colour and dashes; the label is its name unless given."""
    style = {"color": COLORS[scheme], "linestyle": DASHES[scheme], "label": LABELS[scheme]}
    ax.plot(x, y, **style | kwargs)


# Decorator: everything that a function draws is in the book's style.
styled = mpl.rc_context(_STYLE)


# --- step size and stability --------------------------------------------------------------------------------


@styled
def step_size_overview(h: float = 0.5, steps: int = 100) -> Drawing:
    """Still picture of the step-size explorer: the centre by four schemes, and growth per block over h.

    Args:
        h: Step size of the trajectories.
        steps: Blocks drawn.
    """
    figure, grid = axes(2, 4, (7.4, 4.5), height_ratios=[1.15, 1])
    turn = np.linspace(0, 2 * np.pi, 200)
    for ax, scheme in zip(grid[0], stability.STABILITY_LIMIT):
        y = stability.trajectory(scheme, "centre", h, steps)
        ax.plot(np.cos(turn), np.sin(turn), color=SOFT, linestyle=(0, (1, 2)), linewidth=1)
        ax.plot(y[:, 0], y[:, 1], color=COLORS[scheme], linewidth=0.6, alpha=0.6)
        ax.plot(y[:, 0], y[:, 1], ".", color=COLORS[scheme], markersize=3.5)
        ax.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2), aspect="equal", title=LABELS[scheme], xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color(LINE)
    for ax in grid[1]:
        ax.remove()
    wide = figure.add_subplot(grid[1, 0].get_gridspec()[1, :])
    steps_h = np.linspace(0.005, 2.5, 500)
    for scheme in ("euler", "midpoint", "hamiltonian"):
        name = "Verlet, leapfrog" if scheme == "hamiltonian" else LABELS[scheme]
        line(wide, steps_h, stability.growth(scheme, 1j * steps_h), scheme, label=name)
    for limit in (1, 2):
        wide.axvline(limit, color=LINE, zorder=0)
    wide.set(xlabel="step size h (frequency ω = 1)", title="growth per block, the largest |r|", xlim=(0, 2.5))
    wide.set(ylim=(0.95, 3))
    wide.legend(loc="upper left")
    return show(
        figure,
        f"Above, the centre with step size {h:g}: Euler spirals outwards, midpoint, Verlet and leapfrog stay on closed "
        "curves. Below, growth per block over the step size: Euler above 1 everywhere, midpoint from 1 on, Verlet and "
        "leapfrog from 2 on.",
        f"The explorer as a still picture. Above: 100 blocks on the centre at h = {h:g}; dotted, the exact circle. "
        "Below: what one block multiplies the fastest mode by.",
    )


@styled
def stability_regions() -> Drawing:
    """Where the roots stay in the unit circle: Euler's disc, midpoint's interval, Verlet's roots over h."""
    figures, (left, middle, right) = zip(*(axes(1, 1, (2.5, 2.7)) for _ in range(3)))
    turn = np.linspace(0, 2 * np.pi, 120)
    circle = np.exp(1j * turn)
    for growth in (1.5, 2, 3):  # midpoint's z = (r - 1/r) / 2 maps circles to ellipses with the foci -i and i
        ellipse = (growth * circle - circle.conj() / growth) / 2
        for ax, curve, angle in ((left, growth * circle - 1, 0.3), (middle, ellipse, 0.1)):
            ax.plot(curve.real, curve.imag, color=LINE, linewidth=1)
            at = curve[np.argmin(np.abs(turn - angle * np.pi))]
            if abs(at.imag) < 2 and (ax is left or growth > 1.5):
                ax.annotate(f"{growth:g}", (at.real, at.imag), fontsize=8, color=SOFT, ha="left", va="bottom")
    left.fill(circle.real - 1, circle.imag, color=COLORS["euler"], alpha=0.2)
    left.plot(circle.real - 1, circle.imag, color=COLORS["euler"])
    left.set(title="hλ, Euler", xlabel="Re hλ", ylabel="Im hλ", xlim=(-3.1, 1.1))
    middle.plot([0, 0], [-1, 1], color=COLORS["midpoint"], linewidth=4, solid_capstyle="butt")
    middle.set(title="hλ, midpoint", xlabel="Re hλ", ylabel="Im hλ", xlim=(-2.1, 2.1))
    right.plot(circle.real, circle.imag, color=COLORS["hamiltonian"])
    right.plot([-2.5, -0.4], [0, 0], color=COLORS["hamiltonian"], linestyle=(0, (2, 2)))
    for value in (0.5, 1, 1.5, 2, 2.1):
        pair = stability.roots("hamiltonian", 1j * value)
        right.plot(pair.real, pair.imag, "o", markersize=4.5, color=COLORS["hamiltonian"])
        top = pair[np.argmax(pair.imag)] if value < 2 else pair[0]
        place = {"xytext": (4, 4)} if value < 2 else {"xytext": (0, 7 if value == 2.1 else -14), "ha": "center"}
        right.annotate(f"{value:g}", (top.real, abs(top.imag)), textcoords="offset points", fontsize=8, **place)
    right.set(title="roots r, Verlet", xlabel="Re r", ylabel="Im r", xlim=(-2.5, 1.7))
    for ax in (left, middle, right):
        ax.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        ax.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        ax.set(aspect="equal", ylim=(-2.1, 2.1))
    words = (
        "Euler is stable in the disc of radius 1 around −1, which meets the imaginary axis in 0 only.",
        "Midpoint is stable on the interval from −i to i of the imaginary axis.",
        "The roots of Verlet and leapfrog move along the unit circle until they meet at −1 for h ω = 2 and leave it "
        "along the real axis.",
    )
    return beside(
        *map(show, figures, words),
        caption="Euler and midpoint: coloured, where hλ must lie; grey, curves of equal growth per block. Verlet: its "
        "two roots, and those of leapfrog, for the written values of hω.",
    )


@styled
def norm_over_depth(problem: str = "centre", h: float = 0.5, steps: int = 100) -> Drawing:
    """Size of the state over depth by every scheme that has a meaning on the problem, on a logarithmic axis.

    Args:
        problem: Name in :data:`revode.stability.PROBLEMS`.
        h: Step size.
        steps: Number of blocks.
    """
    chosen = PROBLEMS[problem]
    figure, ax = axes(1, 1, (7.2, 2.7))
    ends = []
    for scheme in stability.STABILITY_LIMIT:
        if not stability.why_not(scheme, chosen):
            size = chosen.size(stability.trajectory(scheme, chosen, h, steps))
            line(ax, np.arange(steps + 1), size, scheme)
            ends.append(f"{LABELS[scheme]} {size[-1] / size[0]:.3g}")
    if not chosen.nonlinear:
        exact = chosen.size(chosen.exact(h * np.arange(steps + 1)))
        ax.plot(exact, color=SOFT, linestyle=(0, (1, 2)), linewidth=1.2, label="exact")
        ends.append(f"exact {exact[-1] / exact[0]:.3g}")
    ax.set(yscale="log", xlabel="block j", title=f"size of the state, {chosen.title}, h = {h:g}", xlim=(0, steps))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return show(figure, f"Size of the state over {steps} blocks relative to the start: {', '.join(ends)}.")


@styled
def layer_frequencies(kernel, h: float | None = None) -> Drawing:
    """Histogram of the frequencies of y' = (K - K^T) y, with the limits of midpoint at a step size.

    Args:
        kernel: K, of shape (n, n).
        h: Step size whose limit 1 / h is drawn; None draws none.
    """
    omega = stability.frequencies(kernel)
    figure, ax = axes(1, 1, (7.2, 2.4))
    ax.hist(omega, bins=30, color=COLORS["midpoint"], alpha=0.75)
    ax.set(xlabel="frequency ω", ylabel="how many", title="frequencies of a layer")
    words = f"Histogram of {omega.size} frequencies from {omega.min():.2f} to {omega.max():.2f}."
    if h is not None:
        ax.axvline(1 / h, color=INK, linewidth=1.2)
        ax.annotate(f"midpoint's limit 1/h at h = {h:.3g}", (1 / h, 0.92), xycoords=("data", "axes fraction"),
                    xytext=(-6, 0), textcoords="offset points", ha="right", va="top")  # fmt: skip
        words += f" Midpoint allows at most {1 / h:.2f} at h = {h:.3g}."
    return show(figure, words)


# --- drawings side by side, pictures and tables ---------------------------------------------------------------


def serial() -> int:
    """A number not used before in this process, for the ids of a drawing."""
    return next(_serial)


class Group(Drawing):
    """Drawings that stand side by side, and one below the other on a phone. Made by :func:`beside`.

    Attributes:
        drawings: The drawings, each with its own text alternative.
    """

    def __init__(self, drawings: Sequence[Drawing], caption: str):
        super().__init__("".join(d.svg for d in drawings), " ".join(d.alt for d in drawings), caption)
        self.drawings = tuple(drawings)

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        # Narrow enough for a phone as they are; three to a row where there is room.
        width = 190 if len(self.drawings) > 2 else 230
        svgs = [d.svg.replace('style="', 'style="min-width: 0; ', 1) for d in self.drawings]
        items = "".join(f'<div style="flex: 1 1 {width}px; min-width: 0">{svg}</div>' for svg in svgs)
        return (
            f'<figure class="rv-figure"><div style="display: flex; flex-wrap: wrap; gap: 0.6rem 1.2rem">{items}</div>'
            f"{caption}</figure>"
        )


def beside(*drawings: Drawing, caption: str = "") -> Drawing:
    """Several drawings side by side, with one caption.

    Args:
        *drawings: At least one.
        caption: Text under them.
    """
    return Group(drawings, caption)


class Film(Drawing):
    """Rows of small images, each with its text alternative. Made by :func:`film`.

    Attributes:
        rows: Title of each row and its images, as PNG files in base64.
        columns: Title of each column.
    """

    def __init__(self, rows: dict[str, list[str]], columns: Sequence[str], caption: str):
        super().__init__("", f"Rows of images: {'; '.join(rows)}. Columns: {', '.join(columns)}.", caption)
        self.rows, self.columns = rows, tuple(columns)

    def _repr_html_(self) -> str:
        cells = [
            f'<div aria-hidden="true" style="font-size: 0.8rem; text-align: center">{html.escape(c)}</div>'
            for c in self.columns
        ]
        for title, images in self.rows.items():
            cells.append(f'<div style="grid-column: 1 / -1; font-size: 0.85rem">{html.escape(title)}</div>')
            cells += [
                f'<img class="dark-light" src="data:image/png;base64,{png}" alt="{html.escape(f"{title}, {c}")}" '
                'style="width: 100%; margin: 0; padding: 0; background: none; image-rendering: pixelated">'
                for c, png in zip(self.columns, images)
            ]
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>" if self.caption else ""
        width = 104 * len(self.columns)
        return (
            f'<figure class="rv-figure"><div style="display: grid; grid-template-columns: repeat({len(self.columns)}, '
            f'minmax(0, 1fr)); gap: 0.25rem 0.4rem; max-width: {width}px">{"".join(cells)}</div>{caption}</figure>'
        )


def film(
    rows: dict[str, Sequence], columns: Sequence[str], caption: str = "", low: float = -1, high: float = 1
) -> Film:
    """Images in rows, for example states of a network over depth.

    Args:
        rows: Title of each row, and its images: arrays or tensors (3, H, W).
        columns: Title of each column.
        caption: Text under them.
        low: Value drawn black.
        high: Value drawn with full brightness; what lies outside is cut off.

    Raises:
        ValueError: if a row has not one image for each column.
    """
    made = {}
    for title, images in rows.items():
        if len(images) != len(columns):
            raise ValueError(f"row {title!r} has {len(images)} images for {len(columns)} columns")
        made[title] = []
        for image in images:
            pixels = (np.moveaxis(np.asarray(image, dtype=float), 0, -1) - low) / (high - low)
            out = io.BytesIO()
            imsave(out, np.rint(pixels.clip(0, 1) * 255).astype(np.uint8), format="png")
            made[title].append(base64.b64encode(out.getvalue()).decode("ascii"))
    return Film(made, columns, caption)


class Table(Drawing):
    """A table as HTML. Made by :func:`table`."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence], caption: str):
        super().__init__("", caption)
        self.columns, self.rows = tuple(columns), [tuple(row) for row in rows]

    def _repr_html_(self) -> str:
        numeric = [all(isinstance(row[k], int | float) for row in self.rows) for k in range(len(self.columns))]
        align = ["right" if right else "left" for right in numeric]
        head = "".join(
            f'<th scope="col" style="padding: 0.35rem 0.4rem; text-align: {a}">{html.escape(c)}</th>'
            for c, a in zip(self.columns, align)
        )
        lines = []
        for first, *others in self.rows:
            cells = [f'<th scope="row" style="{_style("left", first)}">{html.escape(_cell(first))}</th>']
            cells += [f'<td style="{_style(a, v)}">{html.escape(_cell(v))}</td>' for v, a in zip(others, align[1:])]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        label = html.escape(self.alt)
        return (
            f'<figure class="rv-figure"><div class="pst-scrollable-table-container" role="region" tabindex="0" '
            f'aria-label="{label}" style="overflow-x: auto"><table class="table" style="width: 100%; '
            f'font-size: 0.85rem"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
            f"<figcaption>{label}</figcaption></figure>"
        )


def _style(align: str, value) -> str:
    return f"padding: 0.35rem 0.4rem; text-align: {align}" + ("; white-space: nowrap" if len(_cell(value)) < 20 else "")


def _cell(value) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def table(columns: Sequence[str], rows: Sequence[Sequence], caption: str) -> Table:
    """A table with a heading row and a heading column.

    Args:
        columns: Titles.
        rows: One value for each column; columns of numbers are set to the right.
        caption: What the table shows; also its name for screen readers.

    Raises:
        ValueError: if the caption is empty or a row has another length.
    """
    if not caption.strip():
        raise ValueError("caption is empty: say in a sentence what the table shows")
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"row {row!r} has {len(row)} values for {len(columns)} columns")
    return Table(columns, rows, caption)


# --- networks as differential equations -----------------------------------------------------------------------


@styled
def depth_is_time(problem: str = "spiral", time: float = 6.0, depths: Sequence[int] = (16, 32, 128)) -> Drawing:
    """The plain residual network of several depths on one problem, one panel each, over the exact solution.

    Args:
        problem: Name of a linear problem in :data:`revode.stability.PROBLEMS`.
        time: Final time T; the step size is T / depth.
        depths: Numbers of blocks.
    """
    chosen, panels = PROBLEMS[problem], []
    exact = chosen.exact(np.linspace(0, time, 200))
    for n in depths:
        y = stability.trajectory("euler", chosen, time / n, n)
        figure, ax = axes(1, 1, (2.5, 2.5))
        ax.plot(exact[:, 0], exact[:, 1], color=SOFT, linestyle=(0, (1, 1.6)), linewidth=1.6)
        ax.plot(y[:, 0], y[:, 1], ".-", color=COLORS["euler"], linewidth=1, markersize=6 if n < 40 else 4)
        ax.set(title=f"N = {n}, h = {time / n:.3g}", aspect="equal", xticks=[], yticks=[])
        ax.set(xlim=(-1.6, 1.8), ylim=(-1.7, 1.7))
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color(LINE)
        gap = np.linalg.norm(y[-1] - exact[-1])
        panels.append(show(figure, f"{n} blocks of step {time / n:.3g}: the last is {gap:.2g} from the exact end."))
    return beside(
        *panels,
        caption=f"One input and the values that the blocks give it, for one final time T = {time:g}. "
        "Dotted: the solution of the differential equation.",
    )


@styled
def slopes(h, errors: dict[str, Sequence[float]], title: str, ylabel: str = "", caption: str = "") -> Drawing:
    """Errors over the step size on logarithmic axes, with the slope at the fine end: the observed order.

    Args:
        h: Step sizes, two or more.
        errors: One error for each step size, by name; names of schemes get their colours.
        title: Over the axes.
        ylabel: What the error is.
        caption: Text under it.
    """
    figure, ax = axes(1, 1, (4.8, 3.1))
    said = []
    for k, (name, values) in enumerate(errors.items()):
        slope = observed_order(h, values)
        label = f"{LABELS.get(name, name)}: slope {slope:.2f}"
        line(ax, h, values, name if name in COLORS else list(COLORS)[k], label=label, marker="o", markersize=4)
        said.append(f"{label}, from {min(values):.1e} to {max(values):.1e}")
    ax.set(xscale="log", yscale="log", xlabel="step size h", ylabel=ylabel, title=title)
    ax.set_xticks(h, [f"{value:.2g}" for value in h])
    ax.set_xticks([], minor=True)
    ax.legend(loc="best", fontsize=9)
    words = f"{title}, over the step size from {min(h):.2g} to {max(h):.2g}. {'. '.join(said)}."
    return beside(show(figure, words), caption=caption)


def observed_order(h, errors, last: int = 3) -> float:
    """Slope of log error over log h: the order that a computation shows.

    Args:
        h: Step sizes.
        errors: One error for each.
        last: How many of the smallest step sizes count; the law holds for small ones.
    """
    fine = np.argsort(h)[:last]
    return float(np.polyfit(np.log(np.asarray(h)[fine]), np.log(np.asarray(errors)[fine]), 1)[0])


@styled
def three_fates(rates: Sequence[float] = (0.3, 0.0, -0.3), omega: float = 1.0, time: float = 3.0) -> Drawing:
    """A disc of inputs under y' = lambda y for three real parts of lambda: it grows, turns, or shrinks to a point.

    Args:
        rates: Real parts of lambda.
        omega: Imaginary part.
        time: Final time.
    """
    turn = np.linspace(0, 2 * np.pi, 80)
    disc = 1 + 0.38 * np.exp(1j * turn)
    panels = []
    for rate, word in zip(rates, ("grows", "is kept", "dies out")):
        figure, ax = axes(1, 1, (2.5, 2.5))
        for t in np.linspace(0, time, 6):
            moved = np.exp((rate + 1j * omega) * t)
            ax.fill((moved * disc).real, (moved * disc).imag, color=COLORS["hamiltonian"], alpha=0.22, linewidth=0)
            two = moved * np.array([1 - 0.25, 1 + 0.25])
            ax.plot(two.real, two.imag, ".-", color=COLORS["hamiltonian"], linewidth=1, markersize=5)
        path = np.exp((rate + 1j * omega) * np.linspace(0, time, 100))
        ax.plot(path.real, path.imag, color=SOFT, linestyle=(0, (1, 1.6)), linewidth=1)
        ax.set(title=f"Re λ = {rate:g}: {word}".replace("-", "−"), aspect="equal", xlim=(-3.3, 2.2), ylim=(-1.9, 3.0))
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color(LINE)
        gap = np.exp(rate * time)
        panels.append(show(figure, f"Real part {rate:g}: the distance of two inputs becomes {gap:.2g} times as large."))
    return beside(
        *panels,
        caption=f"Inputs from a disc, two of them joined by a line, at six times up to {time:g}. The distance of the "
        "two is what a classifier has to tell them apart.",
    )


@styled
def spectra(eigenvalues: dict[str, Sequence[complex]]) -> Drawing:
    """Eigenvalues of Jacobians in the complex plane, one panel each, on one scale.

    Args:
        eigenvalues: Title and eigenvalues of each panel.
    """
    reach = 1.1 * max(np.abs(values).max() for values in eigenvalues.values())
    panels = []
    for (title, values), color in zip(eigenvalues.items(), COLORS.values()):
        values = np.asarray(values)
        figure, ax = axes(1, 1, (2.5, 2.6))
        ax.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        ax.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        ax.plot(values.real, values.imag, ".", color=color, markersize=3.5)
        ax.set(title=title, xlabel="Re λ", ylabel="Im λ", aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
        part = np.abs(values.real).max() / np.abs(values).max()
        panels.append(show(figure, f"{title}: {values.size} eigenvalues, largest real part {part:.1e} of the largest."))
    return beside(*panels, caption="Eigenvalues λ of the Jacobian J at one state.")


# --- forward and back -----------------------------------------------------------------------------------------


@styled
def round_trip_errors(ratios: Sequence[float], errors: dict[str, dict[str, Sequence[float]]]) -> Drawing:
    """Relative error of a state sent through a network and back, over the step size, in panels on one scale.

    Args:
        ratios: Step sizes in units of the largest stable one.
        errors: For each panel's title, by scheme, one error for each step size.
    """
    values = [e for by_scheme in errors.values() for curve in by_scheme.values() for e in curve]
    panels = []
    for title, by_scheme in errors.items():
        figure, ax = axes(1, 1, (3.5, 3.1))
        said = []
        for scheme, error in by_scheme.items():
            line(ax, ratios, error, scheme, marker="o", markersize=3.5)
            said.append(f"{LABELS[scheme]} from {error[0]:.0e} to {error[-1]:.0e}")
        ax.axhline(1, color=LINE, zorder=0)
        ax.axvline(1, color=LINE, zorder=0)
        ax.set(yscale="log", xlabel="step size / largest stable one", title=title)
        ax.set(ylim=(min(values) / 3, 10 * min(max(values), 10)), xlim=(0, 1.02 * max(ratios)))
        ax.legend(loc="upper left", fontsize=9)
        panels.append(show(figure, f"{title}: error {', '.join(said)}."))
    caption = "Relative error of the state that comes back. At 1 nothing of it is left."
    return beside(*panels, caption=caption)


# --- training -----------------------------------------------------------------------------------------------

#: Settings that all runs of the book's shortened training share; the rest is each network's recipe.
PROTOCOL = {"data": "cifar10", "subset": 10_000, "subset_seed": 0, "steps": 2_000, "batch": 100}
#: Networks and seeds of these runs.
PLANNED = {"hamiltonian-74": (0, 1, 2), "resnet-32": (0, 1, 2), "leapfrog-26": (0,), "midpoint-26": (0,)}

#: How the papers write the names of their networks.
_FAMILY = {"hamiltonian": "Hamiltonian", "midpoint": "MidPoint", "leapfrog": "Leapfrog"}
_FAMILY |= {"resnet": "ResNet", "revnet": "RevNet"}


def _title(model: str) -> str:
    family, _, rest = model.partition("-")
    return f"{_FAMILY.get(family, family)}-{rest}"


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def in_protocol(record: dict) -> bool:
    """Whether a training result is one of :data:`PROTOCOL`, whatever its network and seed."""
    return record["kind"] == "training" and PROTOCOL.items() <= record["settings"].items()


def planned_results() -> list[tuple[str, int, dict | None]]:
    """The runs of :data:`PLANNED`: network, seed, and the bundled result if there is one, a finished one first."""
    there: dict[tuple[str, int], dict] = {}
    for record in filter(in_protocol, results.everything("training")):
        key = record["settings"]["model"], record["seed"]
        if key not in there or record["status"] == "finished":
            there[key] = record
    return [(model, seed, there.get((model, seed))) for model, seeds in PLANNED.items() for seed in seeds]


def augmented_images(images, draws: int = 6, seed: int = 0, pad: int = 4) -> Film:
    """Images as a network is given them in consecutive epochs: padded by zeros, cropped and mirrored at random.

    Args:
        images: A :class:`revode.data.ImageSet`, one row each.
        draws: Number of draws.
        seed: Of the first draw.
        pad: Pixels of padding on each side.
    """
    columns = [np.pad(images.images.cpu().numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)))]
    columns += [augment.random_crop_flip(images.images, pad, seed + k).cpu().numpy() for k in range(draws)]
    labels = images.labels.tolist()
    return film(
        {f"{images.classes[k]} ({i})": [column[i] for column in columns] for i, k in enumerate(labels)},
        ["padded", *(f"draw {k + 1}" for k in range(draws))],
        f"Left, the image with {pad} black pixels around it; then {draws} draws, each a window of the old size at a "
        "random place, mirrored with probability 1/2.",
        low=0,
        high=255,
    )


@styled
def loss_per_step(runs: dict, scheme: str = "midpoint") -> Drawing:
    """Training loss of each step of some runs, and how far it is from the first run's.

    Args:
        runs: Label to the folder of the run; the others are compared with the first one.
        scheme: Whose colour is taken for the first.
    """
    logs = {label: _log(folder) for label, folder in runs.items()}
    first, *others = logs
    (losses, left), (distances, right) = (axes(1, 1, (3.6, 2.9)) for _ in range(2))
    step = np.array([entry["step"] for entry in logs[first]])
    loss = {label: np.array([entry["loss"] for entry in entries]) for label, entries in logs.items()}
    line(left, step, loss[first], scheme, linestyle="-", label=first)
    styles = (("o", 7, INK), ("x", 4, SOFT), ("+", 6, SOFT))
    worst = []
    for other, (marker, size, color) in zip(others, styles):
        mark = {"color": color, "marker": marker, "markersize": size, "linestyle": "none", "markerfacecolor": "none"}
        left.plot(step, loss[other], label=other, **mark)
        gap = np.abs(loss[other] - loss[first])
        right.plot(step[gap > 0], gap[gap > 0], label=other, **mark)
        exact = ", ".join(str(k) for k in step[gap == 0])
        worst.append(
            f"{other} from {first} by at most {gap.max():.2g}" + (f", not at all in step {exact}" if exact else "")
        )
    rate = np.array([entry["lr"] for entry in logs[first]])
    for k in np.flatnonzero(rate[1:] != rate[:-1]):
        left.axvline(step[k] + 0.5, color=LINE, zorder=0)
    left.set(xlabel="step", title="training loss", ylim=(0, None))
    left.legend()
    right.set(xlabel="step", title=f"distance from {first}", xlim=left.get_xlim())
    if any((loss[o] != loss[first]).any() for o in others):
        right.set(yscale="log")
        right.legend()
    return beside(
        show(losses, f"Training loss over {step[-1]} steps, from {loss[first][0]:.3g} to {loss[first][-1]:.3g}."),
        show(distances, f"The losses differ: {'; '.join(worst) or 'one run only'}."),
        caption="Training loss, grey where the rate is cut; and the absolute difference of the losses: where they are "
        "equal bit for bit, nothing is drawn.",
    )


def _log(folder: str | Path) -> list[dict]:
    """The lines that :func:`revode.fit` writes for each step."""
    return [json.loads(text) for text in (Path(folder) / "log.jsonl").read_text("utf-8").splitlines()]


def protocol(model: str = "hamiltonian-74") -> Table:
    """The paper's recipe beside the shortened one of :data:`PROTOCOL`.

    Args:
        model: Name in :data:`revode.models.MODELS`.
    """
    from .train import TrainConfig  # brings torchvision with it

    recipe = MODELS[model].recipe
    ours = TrainConfig(model, **PROTOCOL, device="cpu").resolved(PROTOCOL["subset"])
    status = {name: source.status for name, source in recipe.sources.items()}
    cuts = ", ".join(f"{m:,}" for m in recipe.milestones)
    epochs = ", ".join(f"{m:g}" for m in recipe.milestone_epochs)
    per_epoch = PROTOCOL["subset"] // ours.batch
    smooth = "not in the gradient of the released code: see below" if recipe.smoothness else "0 for ResNet and RevNet"
    spec = MODELS[model]
    rows = [
        ("step size h", spec.h, spec.sources["h"].status, spec.h, "same: batch normalization rescales each layer"),
        ("training images", f"{recipe.train_images:,}", status["train_images"],
         f"{PROTOCOL['subset']:,}, the same number of each class", "two CPU cores; fixed by a seed"),
        ("batch", recipe.batch_size, status["batch_size"], ours.batch, "same"),
        ("steps", f"{recipe.steps:,} ({recipe.epochs:g} epochs)", status["steps"],
         f"{ours.steps:,} ({ours.steps / per_epoch:g} epochs)", f"{recipe.steps / ours.steps:g} times fewer: time"),
        ("rate at the start", recipe.lr, status["lr"], ours.lr, "same"),
        (f"rate times {recipe.lr_factor:g} after step", f"{cuts} (epochs {epochs})", status["milestones"],
         ", ".join(f"{m:,}" for m in ours.milestones), "the same fractions of the run"),
        ("momentum", recipe.momentum, status["momentum"], ours.momentum, "same"),
        ("weight decay", f"{recipe.weight_decay:g}", status["weight_decay"], f"{ours.weight_decay:g}",
         "kernels and last matrix only, as in the code"),
        ("weight smoothness", f"{recipe.smoothness:g}", status["smoothness"], f"{ours.smoothness:g}", smooth),
        ("padding before the crop", "2 pixels; the text says 4", "code, V", "4 pixels", "the text, and custom since"),
        ("what is subtracted", "mean image of training and test images", "code, V", "mean of each channel, and divided "
         "by its deviation; training images alone", "the test set stays unseen"),
        ("tested on", "10,000 test images", "V", f"10,000 at the end, {ours.eval_images:,} on the way", "time"),
    ]  # fmt: skip
    return table(
        ("setting", "paper", "status", "here", "why"),
        rows,
        f"{_title(model)} on CIFAR-10. Status: V, read in a source; code, read in the authors' code; unverified, "
        "recalled, no source at hand shows it.",
    )


def planned_runs() -> Table:
    """Each run of :data:`PLANNED` with its status, and any other training result there is."""
    runs = planned_results()
    of_plan = [record["name"] for *_, record in runs if record]
    rows = [_run_row(model, seed, record) for model, seed, record in runs]
    rows += [
        _run_row(r["settings"]["model"], r["seed"], r, other=not in_protocol(r))
        for r in results.everything("training")
        if r["name"] not in of_plan
    ]
    done = sum(bool(r) and r["status"] == "finished" for *_, r in runs)
    return table(
        ("network", "seed", "activations", "status", "test accuracy", "minutes", "commit", "date"),
        rows,
        f"{done} of {len(runs)} planned runs are finished. Minutes are wall-clock time, with evaluation and "
        "whatever else the machine did. Activations are rebuilt in the backward pass, or stored, by which the gradient "
        "is the same up to rounding, in less time; ResNet has no other way. Accuracies of unfinished runs are on fewer "
        "images and prove nothing yet. "
        "A + marks a commit with changes that were not committed.",
    )


def _run_row(model: str, seed: int, record: dict | None, other: bool = False) -> tuple:
    title = _title(model)
    if record is None:
        return (title, seed, "–", "not run yet", "–", "–", "–", "–")
    settings, evidence = record["settings"], record["evidence"]
    if other:
        images = f"{settings['subset']:,} images" if settings["subset"] else "all images"
        title += f" ({settings['data']}, {images}, {settings['steps']:,} steps)"
    status = record["status"]
    if status != "finished":
        status += f" at step {record['final']['step']:,} of {settings['steps']:,}"
    curve = record["curve"]
    accuracy = f"{_percent(curve[-1]['test_accuracy'])} of {curve[-1]['test_images']:,}" if curve else "–"
    minutes, date = f"{record['wall_seconds'] / 60:.0f}", evidence["date"][:10]
    commit = (evidence["commit"] or "–")[:9] + "+" * bool(evidence.get("uncommitted_changes"))
    return title, seed, _activations(record), status, accuracy, minutes, commit, date


def _activations(record: dict) -> str:
    settings = record["settings"]
    return "stored" if settings["memory"] == "stored" or settings["model"].startswith("resnet") else "rebuilt"


def _hardware(record: dict) -> str:
    hardware = record["evidence"]["hardware"]
    return hardware["gpu"] or f"{hardware['cpu']}, {hardware['threads']} thread{'s' * (hardware['threads'] != 1)}"


def _finished() -> dict[str, list[dict]]:
    """Finished runs of the plan, by network."""
    found: dict[str, list[dict]] = {model: [] for model in PLANNED}
    for model, _, record in planned_results():
        if record and record["status"] == "finished":
            found[model].append(record)
    return found


def accuracy_summary() -> Table:
    """Mean and standard deviation over the finished seeds of each planned network, beside the paper's full run."""
    rows, longer = [], {MODELS[model].recipe.steps / PROTOCOL["steps"] for model in PLANNED}
    for model, records in _finished().items():
        values = [record["final"]["test_accuracy"] for record in records]
        spec = MODELS[model]
        mean = "–" if not values else _percent(np.mean(values))
        if len(values) > 1:
            mean = f"{100 * np.mean(values):.2f} ± {100 * np.std(values, ddof=1):.2f} %"
        train = f"{100 * np.mean([r['curve'][-1]['train_accuracy'] for r in records]):.2f} %" if records else "–"
        paper = f"{spec.accuracy['cifar10']} % ({spec.sources['accuracy'].status})"
        errors = [r["final"]["inverse_error"] for r in records if r["final"].get("inverse_error") is not None]
        back = "not reversible" if model.startswith("resnet") else f"{max(errors):.1e}" if errors else "–"
        rows.append((_title(model), f"{len(values)} of {len(PLANNED[model])}", mean, train, back, paper))
    return table(
        (
            "network",
            "finished seeds",
            "test accuracy",
            "training accuracy",
            "error of the way back",
            "paper, full recipe (status)",
        ),
        rows,
        "Mean over the finished seeds; ± is the standard deviation between seeds (n − 1), given from two seeds on. "
        "Training accuracy is over the last steps, with augmentation. The way back: largest relative error of a "
        "trained stage's input, rebuilt from its output. The last column is another protocol: all images, "
        f"{'/'.join(f'{k:g}' for k in sorted(longer))} times the steps.",
    )


def compare_networks(first: str = "hamiltonian-74", second: str = "resnet-32") -> str:
    """A sentence: the difference of two networks' mean test accuracies, with its standard error over seeds."""
    a, b = ([100 * r["final"]["test_accuracy"] for r in _finished()[model]] for model in (first, second))
    names = f"{_title(first)} against {_title(second)}"
    if min(len(a), len(b)) < 2:
        return f"{names}:\n{len(a)} and {len(b)} finished runs; a difference can be judged from two seeds each on."
    difference = np.mean(a) - np.mean(b)
    error = np.sqrt(np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b))
    verdict = "more than" if abs(difference) > 2 * error else "within"
    return (
        f"{names}:\n{difference:+.2f} points, standard error {error:.2f} ({len(a)} and {len(b)} seeds); "
        f"{verdict} two standard errors."
    )


@styled
def training_curves() -> Drawing:
    """Training loss and test accuracy over the steps of all results of the plan, finished or not."""
    (losses, left), (accuracies, right) = (axes(1, 1, (3.6, 3.2)) for _ in range(2))
    words, titles = [], set()
    runs = [(model, seed, record) for model, seed, record in planned_results() if record and record["curve"]]
    for model, seed, record in runs:
        step, loss, accuracy = (
            np.array([p[key] for p in record["curve"]]) for key in ("step", "train_loss", "test_accuracy")
        )
        finished = record["status"] == "finished"
        label = None if model in titles else _title(model)
        titles.add(model)
        style = {"linewidth": 1.5, "alpha": 1 if seed == 0 else 0.6}
        line(left, step, loss, MODELS[model].scheme, label=label, **style)
        line(right, step, 100 * accuracy, MODELS[model].scheme, label=label, **style)
        right.plot(
            step[-1], 100 * accuracy[-1], "o", color=COLORS[MODELS[model].scheme], markersize=5,
            markerfacecolor=COLORS[MODELS[model].scheme] if finished else "none",
        )  # fmt: skip
        end = "" if finished else f", {record['status']} at step {step[-1]:,}"
        words.append(f"{_title(model)} seed {seed} {_percent(accuracy[-1])}{end}")
    if runs:
        for milestone in runs[0][2]["settings"]["milestones"]:
            left.axvline(milestone, color=LINE, zorder=0)
            right.axvline(milestone, color=LINE, zorder=0)
        left.legend(loc="upper right")
        right.legend(loc="lower right")
    else:
        for ax in (left, right):
            ax.text(0.5, 0.5, "no result file yet", transform=ax.transAxes, ha="center", color=SOFT)
    steps = PROTOCOL["steps"]
    left.set(xlabel="step", title="training loss", xlim=(0, steps * 1.03))
    right.set(xlabel="step", title="test accuracy, %", xlim=(0, steps * 1.03))
    return beside(
        show(losses, f"Training loss over the steps of {len(runs)} of {len(planned_results())} planned runs."),
        show(accuracies, f"Last test accuracies: {'; '.join(words) or 'none, there is no result file yet'}."),
        caption="One line a seed, the first one strong. Grey: where the rate is cut. Full dot: finished, on all test "
        "images; open dot: the last evaluation of a run that is not.",
    )


def training_time() -> Table:
    """Speed and minutes from result files: of the shortened run, and what the paper's full recipe would take."""
    rows, gpu = [], False
    for record in results.everything("training"):
        if not record["curve"] or (record["status"] != "finished" and not in_protocol(record)):
            continue
        gpu |= bool(record["evidence"]["hardware"]["gpu"])
        settings = record["settings"]
        recipe = MODELS[settings["model"]].recipe
        timed = [p["images_per_second"] for p in record["curve"] if p["images_per_second"] is not None]
        speed = float(np.median(timed)) if timed else float("nan")
        finished = record["status"] == "finished"
        minutes = f"{record['wall_seconds'] / 60:.0f}" if finished else "– (unfinished)"
        hours = recipe.steps * recipe.batch_size / speed / 3600
        run = f"{_title(settings['model'])}, seed {record['seed']}, {_activations(record)}"
        rows.append((run, _hardware(record), f"{speed:.0f}", f"{settings['steps']:,}", minutes, f"{hours:.0f}"))
    if not rows:
        rows.append(("CPU", "not measured yet", "–", "–", "–", "–"))
    if not gpu:
        rows.append(("GPU", "not measured: no result file from a GPU yet", "–", "–", "–", "–"))
    return table(
        ("run, activations", "hardware", "images/s", "steps", "minutes", "hours, full recipe (calc)"),
        rows,
        "Images/s is the median over the run, without evaluation; minutes are wall-clock with it. Both hold for the "
        "machine and whatever else it did. Hours of the full recipe are computed from images/s.",
    )


# --- the picture of the README -------------------------------------------------------------------------------


def hero() -> str:
    """The step-size overview as an SVG file of its own: opaque, own colours and fonts, for light and dark pages.

    ``python -m revode.figures hero book/_static/hero.svg`` writes it.
    """
    svg = re.sub(r"var\(--[\w-]+, (#[0-9a-f]{6})\)", r"\1", step_size_overview(h=0.5).svg).replace("currentColor", INK)
    head, body = re.match(r"(<svg[^>]*>)(.*)", svg, re.DOTALL).groups()
    x, y, width, height = (float(v) for v in re.search(r'viewBox="([^"]*)"', head)[1].split())
    margin = 14
    x, y, width, height = x - margin, y - margin, width + 2 * margin, height + 2 * margin
    alt = re.search(r'aria-label="([^"]*)"', head)[1]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" role="img" '
        f'width="{1.6 * width:.0f}" height="{1.6 * height:.0f}" viewBox="{x:g} {y:g} {width:g} {height:g}" '
        f'fill="{INK}" stroke-linejoin="round" font-family="system-ui, -apple-system, \'Segoe UI\', \'Noto Sans\', '
        f"'DejaVu Sans', Helvetica, Arial, sans-serif\">\n<title>{alt}</title>\n"
        f'<rect x="{x + 1:g}" y="{y + 1:g}" width="{width - 2:g}" height="{height - 2:g}" rx="12" fill="#ffffff" '
        f'stroke="{LINE}"/>\n{body}\n'
    )


# --- memory without storing activations ----------------------------------------------------------------------

#: Colour, dashes and name of each way of keeping activations.
WAYS = {
    "plain": ("euler", "stored"),
    "checkpoint per branch": ("midpoint", "checkpoint per branch"),
    "revode": ("hamiltonian", "reversible"),
}
MIB, GIB = 2**20, 2**30


@styled
def memory_against_depth(blocks: Sequence[int], bytes_of: dict[str, Sequence[float]], title: str = "") -> Drawing:
    """Measured memory over depth, one line a way of keeping activations.

    Args:
        blocks: Depths.
        bytes_of: Name to bytes at these depths. "stored" and "reversible" have colours of their own.
        title: Over the axes.
    """
    colours = {"stored": "euler", "reversible": "hamiltonian"}
    spare = iter(("midpoint", "leapfrog", "revnet"))
    figure, ax = axes(1, 1, (7.2, 2.9))
    words = []
    for name, values in bytes_of.items():
        scheme = colours.get(name) or next(spare)
        mib = np.asarray(values) / MIB
        line(ax, blocks, mib, scheme, marker="o", markersize=4, label=name)
        ax.annotate(name, (blocks[-1], mib[-1]), xytext=(7, 0), textcoords="offset points", va="center")
        words.append(f"{name} from {mib[0]:.1f} MiB at {blocks[0]} blocks to {mib[-1]:.1f} MiB at {blocks[-1]}")
    ax.set(
        xlabel="blocks N", ylabel="MiB", title=title or "Activations of one training step", xlim=(0, 1.22 * blocks[-1])
    )
    ax.set_ylim(bottom=0)
    return show(figure, f"Memory of activations over depth: {'; '.join(words)}.")


def _memory_rows(record: dict, case: str, family: str = "revnet") -> list[dict]:
    """Memory rows of one case, by depth."""
    rows = [r for r in record["final"]["memory"] if (r["family"], r["case"]) == (family, case) and "peak" in r]
    return sorted(rows, key=lambda r: r["blocks"])


def _growth(rows: list[dict]) -> tuple[float, float]:
    """Bytes at depth 0 and per block, of the line through the first and the last depth."""
    first, last = rows[0], rows[-1]
    slope = (last["peak"] - first["peak"]) / (last["blocks"] - first["blocks"])
    return first["peak"] - slope * first["blocks"], slope


def _time_rows(record: dict, layout: str = "contiguous", family: str = "revnet", blocks: int = 32) -> dict[str, dict]:
    rows = record["final"]["time"]
    return {r["case"]: r for r in rows if (r["family"], r["blocks"], r["layout"]) == (family, blocks, layout)}


@styled
def memory_to_24_gib(record: dict) -> Drawing:
    """Peak memory of a training step over depth from a benchmark's result file, up to where stored fills 24 GiB.

    Args:
        record: Result of kind "benchmark". Measured depths are dots; what is extrapolated is dotted and marked so.
    """
    figure, ax = axes(1, 1, (7.2, 3.7))
    curves = {case: rows for case in WAYS if (rows := _memory_rows(record, case))}
    end = max(24 * GIB / _growth(curves["plain"])[1] * 1.08, max(r["blocks"] for r in curves["revode"]))
    words = []
    for case, rows in curves.items():
        scheme, name = WAYS[case]
        base, slope = _growth(rows)
        last = rows[-1]["blocks"]
        n = np.array([0, *(r["blocks"] for r in rows)])
        line(ax, n, (base + slope * n) / GIB, scheme, label=name)
        ax.plot([r["blocks"] for r in rows], [r["peak"] / GIB for r in rows], "o", color=COLORS[scheme], markersize=5)
        if last < end:
            ax.plot([last, end], [(base + slope * m) / GIB for m in (last, end)], color=COLORS[scheme],
                    linestyle=(0, (1, 2.2)), linewidth=1.4)  # fmt: skip
        full = (24 * GIB - base) / slope
        words.append(f"{name}: {slope / MIB:.2f} MiB a block, {rows[-1]['peak'] / GIB:.2f} GiB at {last} blocks")
        if full < end:
            ax.plot([full], [24], marker="X", color=COLORS[scheme], markersize=9, clip_on=False, zorder=5)
            leader = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.8, "shrinkB": 7, "relpos": (1, 1)}
            ax.annotate(f"{name}\nfull at about {full:.0f} blocks", (full, 24), xytext=(full, 13), ha="right", va="top",
                        arrowprops=leader)  # fmt: skip
            words[-1] += f", full at about {full:.0f} (extrapolated)"
        else:
            at = 0.8 * end
            ax.annotate(name, (at, (base + slope * at) / GIB), xytext=(0, 7), textcoords="offset points", ha="center",
                        va="bottom")  # fmt: skip
    ax.axhline(24, color=SOFT, linewidth=1)
    ax.annotate("24 GiB", (0, 24), xytext=(4, 4), textcoords="offset points", color=SOFT)
    ax.set(xlim=(0, end), ylim=(0, 26.5), xlabel="blocks N", ylabel="GiB")
    ax.set_title("Peak memory of a training step, measured (dots) and extrapolated (dotted)")
    s = record["settings"]
    return show(
        figure,
        f"Peak memory of a training step over depth. {'. '.join(words)}.",
        f"RevNet coupling, {s['channels']} channels, {s['size']}×{s['size']}, batch {s['batch']}, {s['dtype']}. Peak "
        "of all tensors that a step allocates, gradients of the parameters among them, in a fresh process each. From "
        f"the result file {record['name']}.",
    )


def _timed_depth(record: dict, blocks: int | None) -> int:
    """The depth asked for, or 32, or the nearest one that was timed."""
    timed = {r["blocks"] for r in record["final"]["time"] if r["family"] == "revnet"}
    return blocks or min(timed, key=lambda n: abs(n - 32))


@styled
def memory_against_time(record: dict, blocks: int | None = None) -> Drawing:
    """What each way of training costs: time ratio over memory, from a benchmark's result file.

    Args:
        record: Result of kind "benchmark".
        blocks: Depth; None takes 32, or the nearest one that was timed.
    """
    blocks = _timed_depth(record, blocks)
    figure, grid = axes(1, 2, (7.4, 3.3), sharey=True)
    words = []
    top = 0.08 + max(r["ratio"] for r in record["final"]["time"] if r["family"] == "revnet" and r["blocks"] == blocks)
    short = {"plain": "stored", "revode": "revode", "checkpoint per branch": "per branch",
             "checkpoint per block": "per block", "checkpoint sequential": "√N"}  # fmt: skip
    for ax, layout in zip(grid, ("contiguous", "channels_last")):
        rows = _time_rows(record, layout, blocks=blocks)
        points = []
        for case, row in rows.items():
            used = [r["peak"] for r in _memory_rows(record, case) if r["blocks"] == blocks]
            if used:
                points.append((used[0] / MIB, row["ratio"], case))
        for mib, ratio, case in points:
            own, check = case in ("revode",), case.startswith("checkpoint")
            colour = COLORS["hamiltonian" if own else "midpoint" if check else "euler" if case == "plain" else "revnet"]
            ax.plot([mib], [ratio], "D" if own else "s" if check else "o", color=colour, markersize=7 if own else 5.5)
            words.append(f"{case}, {layout}: {mib:.0f} MiB, time {ratio:.2f}")
        for mib, ratio, case, dy in _apart(points, 0.055):
            right = mib > 200
            ax.annotate(short.get(case, case), (mib, ratio), xytext=(-7 if right else 7, dy * 60), fontsize=8.5,
                        textcoords="offset points", ha="right" if right else "left", va="center")  # fmt: skip
        if "one more forward" in rows:
            limit = rows["one more forward"]["ratio"]
            ax.axhline(limit, color=LINE, zorder=0)
            ax.annotate("one more forward", (0.98, limit), xycoords=("axes fraction", "data"), xytext=(0, 3),
                        textcoords="offset points", fontsize=8, color=SOFT, ha="right")  # fmt: skip
        ax.set(xscale="log", xlabel="peak memory, MiB", title=layout, ylim=(0.92, top))
        ax.xaxis.set_major_locator(LogLocator(2))
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    grid[0].set_ylabel("time of a step / stored")
    return show(
        figure,
        f"Time over memory at {blocks} blocks. {'; '.join(words)}.",
        f"{blocks} blocks. Diamond: revode; squares: checkpoints (√N: of so many segments); other dots: stored "
        "activations and other reversible packages. Left and down is better.",
    )


def _apart(points: list[tuple], gap: float) -> list[tuple]:
    """The points with a shift for each label, so that labels of neighbours do not lie over each other."""
    out, last = [], {}
    for mib, ratio, case in sorted(points, key=lambda p: p[1]):
        near = [y for x, y in last.items() if abs(np.log(x / mib)) < 0.9]
        y = max([ratio, *(n + gap for n in near)])
        last[mib] = y
        out.append((mib, ratio, case, (y - ratio) / gap * 0.2))
    return out


def memory_choices(record: dict, blocks: int | None = None) -> Table:
    """Time ratio, memory and gradient of every case of the RevNet network, from a benchmark's result file.

    Args:
        record: Result of kind "benchmark".
        blocks: Depth of the time ratios; None takes 32, or the nearest one that was timed.
    """
    blocks, rows = _timed_depth(record, blocks), []
    contiguous, last = (_time_rows(record, layout, blocks=blocks) for layout in ("contiguous", "channels_last"))
    for case in contiguous:
        used = _memory_rows(record, case)
        slope = (_growth(used)[1] - (used[-1]["parameter_gradients"] / used[-1]["blocks"])) / MIB if used else None
        off = contiguous[case]["gradient_difference"]
        rows.append((
            {"plain": "stored (plain autograd)", "revode": "reversible (revode)"}.get(case, case),
            f"{contiguous[case]['ratio']:.2f}",
            f"{last[case]['ratio']:.2f}" if case in last else "–",
            "–" if slope is None else f"{abs(slope):.2f}",
            "–" if off is None else "equal" if off == 0 else f"{off:.0e}",
        ))  # fmt: skip
    load = record["final"]["parts"]["time"]["load"]
    hardware = record["evidence"]["hardware"]
    return table(
        ("way", "time", "time, channels_last", "MiB per block", "gradient differs by"),
        rows,
        f"{blocks} blocks: time of a step over that with stored activations, medians of an interleaved run "
        f"({hardware['gpu'] or hardware['cpu']}, one thread, load {load:.1f} at the start); activations per added "
        "block; largest relative difference of a parameter's gradient in float32.",
    )


def time_over_depth(record: dict) -> Table:
    """Time ratios of the reversible networks by scheme and depth, from a benchmark's result file."""
    rows = [r for r in record["final"]["time"] if r["layout"] == "contiguous"]
    depths = sorted({r["blocks"] for r in rows})
    names = {"revnet": "RevNet", "hamiltonian": "Hamiltonian", "hamiltonian-bn": "Hamiltonian, batch norm",
             "midpoint": "midpoint", "leapfrog": "leapfrog", "momentum": "momentum, c = 0.9"}  # fmt: skip
    out = []
    for family in dict.fromkeys(r["family"] for r in rows):
        for case, label in (("revode", "reversible"), ("one more forward", "one more forward")):
            found = {r["blocks"]: r["ratio"] for r in rows if (r["family"], r["case"]) == (family, case)}
            values = (f"{found[n]:.2f}" if n in found else "–" for n in depths)
            out.append((f"{names.get(family, family)}, {label}", *values))
    noise = [r for r in rows if r["case"] == "plain again"]
    ends = min(r["ratio"] for r in noise), max(r["ratio"] for r in noise)
    return table(
        ("time of a step / stored", *(f"{n} blocks" for n in depths)),
        out,
        f"Medians of interleaved runs; stored activations against themselves gave {ends[0]:.2f} to {ends[1]:.2f}. "
        '"One more forward": the measured share of the forward pass, added to 1.',
    )


# --- where numbers come from ----------------------------------------------------------------------------------


def numbers_with_status(status: str) -> Table:
    """The papers' numbers in :data:`revode.models.MODELS` that have this status, and what they rest on.

    Args:
        status: One of :data:`revode.models.STATUS`.

    Raises:
        ValueError: for another status.
    """
    if status not in STATUS:
        raise ValueError(f"status = {status!r} must be one of {STATUS}")
    names: dict[tuple[str, str], list[str]] = {}
    for spec in MODELS.values():
        for number, source in spec.sources.items():
            if source.status == status:
                names.setdefault((number, source.text), []).append(spec.name)
    rows = [(number.replace("_", " "), ", ".join(of), text) for (number, text), of in names.items()]
    return table(("number", "of", "where it comes from"), rows, f"Numbers of the papers with the status “{status}”.")


if __name__ == "__main__":
    import sys

    from .checkpoint import write_atomic

    if len(sys.argv) != 3 or sys.argv[1] != "hero":
        sys.exit("usage: python -m revode.figures hero FILE.svg")
    write_atomic(Path(sys.argv[2]), hero().encode())
