"""Step size, stability, depth as time, and the way back."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .. import stability
from ..stability import PROBLEMS
from .drawing import COLORS, INK, LABELS, LINE, SOFT, Drawing, axes, beside, line, show, styled

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
