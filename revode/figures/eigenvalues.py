"""Eigenvalues and singular values of layers: clouds before and after training, shares, circles, growth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from .drawing import COLORS, DASHES, INK, LABELS, LINE, SOFT, Drawing, Table, axes, beside, line, show, styled, table

#: A cloud narrower than this share of its height is drawn as a line: the real axis is not magnified beyond it.
LEAST = 0.95e-3

#: What the keys of a spectra result stand for, in their order.
STATES = {"none": "equations as printed", "fresh": "before training", "trained": "after training"}


@styled
def eigenvalue_clouds(record: dict) -> Drawing:
    """Eigenvalues of one layer of each unit before and after training, the real axis magnified where they are near it.

    Args:
        record: A result of ``revode spectra``.
    """
    scheme, clouds = record["settings"]["scheme"], record["final"]["clouds"]
    pairs = list(zip(clouds["fresh"], clouds["trained"]))
    # one magnification for all units, a round number that uses the width of the panel
    magnify = _round_down(0.95 / max(LEAST, *(row["off_axis"] for pair in pairs for row in pair)))
    panels = []
    for before, after in pairs:
        figure, ax = axes(1, 1, (2.5, 2.7))
        ax.axhline(0, color=LINE, linewidth=0.8, zorder=0)
        ax.axvline(0, color=LINE, linewidth=0.8, zorder=0)
        for row, color, half, width in (
            (before, SOFT, 0.04 / magnify, 0.6),
            (after, COLORS[scheme], 0.004 / magnify, 2.0),
        ):
            re, im = (np.array(row[part]) / (row["radius"] or 1) for part in ("re", "im"))
            _marks(ax, np.r_[re, re], np.r_[im, -im], half, color, width)
        ax.set(title=f"unit {after['unit'] + 1}", xlabel="Re λ / max |λ|", ylabel="Im λ / max |λ|")
        ax.set(xlim=(-1.05 / magnify, 1.05 / magnify), ylim=(-1.05, 1.05))
        ax.locator_params(axis="both", nbins=4)
        ax.set_box_aspect(1)
        panels.append(
            show(
                figure,
                f"Unit {after['unit'] + 1}, {after['dimension']} eigenvalues: largest |Re λ| over largest |λ| "
                f"{before['off_axis']:.1e} before training, {after['off_axis']:.1e} after; real axis × {magnify:g}.",
            )
        )
    scale = "Both axes have one scale" if magnify == 1 else f"The real axis is magnified {magnify:g} times"
    sizes = ", ".join(f"{a['image']}×{a['image']}" for _, a in pairs)
    return beside(
        *panels,
        caption=f"{record['settings']['model']}, the middle layer of each unit at one test image (halved to {sizes}). "
        f"Grey dashes: before training. Coloured dots: after; each divided by its largest |λ|. {scale}.",
    )


def _marks(ax, x, y, half: float, color: str, width: float) -> None:
    """Dashes of a half length, or dots, as one path: as markers a thousand of them would make the page heavy.

    From the bottom to the top, so that the moves between them are short.
    """
    x, y = np.stack([x, y])[:, np.lexsort([x, y])]
    ends = np.stack([x - half, x + half, np.full_like(x, np.nan)], axis=1).ravel()
    (drawn,) = ax.plot(ends, np.repeat(y, 3), "-", color=color, linewidth=width, solid_capstyle="round")
    drawn.get_path().should_simplify = False


def _round_down(x: float) -> float:
    """The largest of 1, 2, 5, 10, 20, ... that is not above x; 1 below that."""
    x = max(x * (1 + 1e-12), 1)
    power = 10 ** np.floor(np.log10(x))
    return float(max(f * power for f in (1, 2, 5) if f * power <= x))


def distance_from_axis(records: Sequence[dict]) -> Table:
    r"""Largest \|Re lambda\| over largest \|lambda\| of one layer of each unit in three states, and the growth.

    Args:
        records: Results of ``revode spectra``.
    """
    rows = []
    for r in records:
        clouds = r["final"]["clouds"]
        for none, fresh, trained in zip(*(clouds[key] for key in STATES)):
            rows.append(
                (
                    f"{r['settings']['model']}, unit {trained['unit'] + 1}",
                    trained["dimension"],
                    *(f"{row['off_axis']:.1e}" for row in (none, fresh, trained)),
                    f"{100 * trained['share']:.0f} %",
                    f"{trained['radius']:.2f}",
                    f"{trained['growth']:.3f}",
                )
            )
    return table(
        ("layer", "eigenvalues", *STATES.values(), "off the axis", "largest |λ|", "growth per block"),
        rows,
        "Largest |Re λ| / largest |λ| of the middle layer of each unit in three states. After training also: the share "
        "of the eigenvalues that is off the axis by more than a millionth of the largest, the largest |λ|, and the "
        "largest root of the scheme at the network's h.",
    )


@styled
def off_axis_by_layer(records: Sequence[dict]) -> Drawing:
    r"""Every trained layer at the full size: \|Re lambda\| / \|lambda\| of extreme eigenvalues, and its bound.

    Args:
        records: Results of ``revode spectra``.
    """
    figure, ax = axes(1, 1, (7.2, 3.3))
    start, said, ticks, top = (
        0,
        [],
        [],
        max(row["off_axis_bound"] or 0 for r in records for row in r["final"]["extremes"]),
    )
    for r in records:
        rows, scheme = r["final"]["extremes"], r["settings"]["scheme"]
        x = start + np.arange(len(rows))
        found = np.array([row["off_axis"] for row in rows])
        bound = np.array([row["off_axis_bound"] or np.nan for row in rows], dtype=float)
        ax.plot(x, found, "o", color=COLORS[scheme], markersize=5)
        ax.plot(x, bound, "_", color=COLORS[scheme], markersize=8, markeredgewidth=1.6)
        for i, (before, after) in enumerate(pairwise(rows)):
            if after["unit"] != before["unit"]:
                ax.axvline(start + i + 0.5, color=LINE, linewidth=0.8, zorder=0)
        ax.axvline(start - 1, color=SOFT, linewidth=0.8, zorder=0) if start else None
        ticks.append((x.mean(), r["settings"]["model"]))
        said.append(f"{r['settings']['model']} up to {found.max():.1e}")
        start += len(rows) + 1
    tol = max(r["settings"]["extremes_tol"] for r in records)
    ax.axhspan(1e-9, tol, color=LINE, alpha=0.5, linewidth=0, zorder=0)
    ax.annotate("within the solver's tolerance", (1, tol), xycoords=("axes fraction", "data"), xytext=(-4, -4),
                textcoords="offset points", ha="right", va="top", fontsize=8, color=SOFT)  # fmt: skip
    ax.set(yscale="log", xlim=(-1, start - 1), ylim=(1e-8, 3 * max(top, 1)))
    ax.set_xticks(*zip(*ticks))
    ax.tick_params(axis="x", length=0)
    ax.set(title="|Re λ| / |λ| of the trained layers, full size")
    return show(
        figure,
        f"Largest real part of the extreme eigenvalues over their largest modulus, layer by layer: {'; '.join(said)}.",
        "Dots: from the eigenvalues of largest modulus, a lower bound. Dashes: from the numerical range, an upper "
        "bound. Thin lines separate the units.",
    )


@styled
def shares(eigenvalues: dict[str, Sequence[complex]], part: str = "imag", title: str = "") -> Drawing:
    """Which share of the eigenvalues lies below a value: one staircase for each spectrum.

    Args:
        eigenvalues: By name, all eigenvalues.
        part: "imag" or "real", of which the share is counted.
        title: Over the axes.
    """
    figure, ax = axes(1, 1, (7.2, 3.0))
    said = []
    for (name, values), key in zip(eigenvalues.items(), COLORS):
        at = np.sort(getattr(np.asarray(values), part))
        share = np.arange(1, len(at) + 1) / len(at)
        ax.step(at, share, where="post", color=COLORS[key], linestyle=DASHES[key], label=name)
        said.append(f"{name} from {at[0]:.2f} to {at[-1]:.2f}")
    label = "Im λ" if part == "imag" else "Re λ"
    ax.set(xlabel=label, ylabel="share below", ylim=(0, 1), title=title)
    ax.legend(loc="lower right", fontsize=9)
    return show(figure, f"Share of the eigenvalues below {label}: {'; '.join(said)}.")


@styled
def unit_circle(eigenvalues: dict[str, Sequence[complex]], scheme: str = "hamiltonian") -> Drawing:
    """Eigenvalues of one-step maps beside the unit circle, one panel each.

    Args:
        eigenvalues: Title and eigenvalues of each panel.
        scheme: Gives the colour.
    """
    circle = np.exp(1j * np.linspace(0, 2 * np.pi, 300))
    reach = 1.1 * max(1, *(np.abs(v).max() for v in eigenvalues.values()))
    panels = []
    for title, values in eigenvalues.items():
        values = np.asarray(values)
        figure, ax = axes(1, 1, (2.5, 2.6))
        ax.plot(circle.real, circle.imag, color=SOFT, linewidth=0.8)
        inside = np.abs(values) <= 1 + 1e-6
        ax.plot(values[inside].real, values[inside].imag, ".", color=COLORS[scheme], markersize=4)
        ax.plot(values[~inside].real, values[~inside].imag, "x", color=COLORS["euler"], markersize=4.5)
        ax.set(title=title, xlabel="Re r", ylabel="Im r", aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
        panels.append(show(figure, f"{title}: the largest of {values.size} has modulus {np.abs(values).max():.6g}."))
    return beside(*panels, caption="Eigenvalues r of the Jacobian of one step, with the unit circle. × outside it.")


@styled
def norm_of_map(depths: Sequence[int], norms: dict[str, Sequence[float]], title: str = "") -> Drawing:
    """Largest singular value of the map of so many blocks, on logarithmic axes.

    Args:
        depths: Numbers of blocks.
        norms: By the name of a scheme, one number for each depth.
        title: Over the axes.
    """
    figure, ax = axes(1, 1, (7.2, 2.8))
    for scheme, values in norms.items():
        line(ax, depths, values, scheme, marker="o", markersize=4)
    ax.axhline(1, color=INK, linewidth=0.8, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="blocks", ylabel="largest singular value", title=title)
    ax.set_xticks(depths, [str(d) for d in depths])
    ax.set_xticks([], minor=True)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    ends = ", ".join(f"{LABELS[s]} {v[-1]:.3g}" for s, v in norms.items())
    return show(figure, f"Largest singular value of the map after {depths[-1]} blocks: {ends}.")
