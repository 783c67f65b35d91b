"""Static figures of the book: matplotlib drawings that follow the page's light or dark theme.

A drawing is shown as inline SVG: its ink is the text colour of the page and its scheme colours are CSS variables, so one
picture serves both themes, in the book, in JupyterLab and in Colab. Make one with :func:`axes`, hand it to
:func:`show`.
"""

from __future__ import annotations

import html
import io
import itertools
import re

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from . import stability
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


#: Decorator: everything that a function draws is in the book's style.
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
    figure, (left, middle, right) = axes(1, 3, (7.4, 2.9))
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
    middle.set(title="hλ, midpoint", xlabel="Re hλ", xlim=(-2.1, 2.1))
    right.plot(circle.real, circle.imag, color=COLORS["hamiltonian"])
    right.plot([-2.5, -0.4], [0, 0], color=COLORS["hamiltonian"], linestyle=(0, (2, 2)))
    for value in (0.5, 1, 1.5, 2, 2.1):
        pair = stability.roots("hamiltonian", 1j * value)
        right.plot(pair.real, pair.imag, "o", markersize=4.5, color=COLORS["hamiltonian"])
        top = pair[np.argmax(pair.imag)] if value < 2 else pair[0]
        place = {"xytext": (4, 4)} if value < 2 else {"xytext": (0, 7 if value == 2.1 else -14), "ha": "center"}
        right.annotate(f"{value:g}", (top.real, abs(top.imag)), textcoords="offset points", fontsize=8, **place)
    right.set(title="roots r, Verlet", xlabel="Re r", xlim=(-2.5, 1.7))
    for ax in (left, middle, right):
        ax.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        ax.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        ax.set(aspect="equal", ylim=(-2.1, 2.1))
    return show(
        figure,
        "Three planes. Euler is stable in the disc of radius 1 around −1, which meets the imaginary axis in 0 only; "
        "midpoint on the interval from −i to i of the imaginary axis; the roots of Verlet and leapfrog move along the "
        "unit circle until they meet at −1 for h ω = 2 and leave it along the real axis.",
        "Left and middle: coloured, where hλ must lie; grey, curves of equal growth per block. Right: the two roots of "
        "Verlet and leapfrog for the written values of hω.",
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
