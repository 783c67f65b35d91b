"""Reversibility: what comes back, and with which error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .drawing import COLORS, LABELS, SOFT, Drawing, axes, line, show, styled

#: Colour and dashes of each arithmetic, those of a scheme.
_ARITHMETIC = {"float16": "revnet", "bfloat16": "leapfrog", "float32": "euler", "float64": "midpoint",
               "exact": "hamiltonian"}  # fmt: skip


@styled
def error_over_depth(
    depths: Sequence[int],
    errors: dict[str, Sequence[float]],
    predicted: dict[str, Sequence[float]] | None = None,
    title: str = "",
) -> Drawing:
    """Relative error of what comes back over the number of layers, on logarithmic axes; 0 and overflow have strips.

    Args:
        depths: Numbers of layers.
        errors: By the name of a scheme or an arithmetic, one error for each depth; inf or nan: the run overflowed.
        predicted: By the same names, what was predicted: a thin line.
        title: Over the axes.
    """
    figure, ax = axes(1, 1, (7.2, 3.6))
    values = np.concatenate([np.asarray(e, float) for e in errors.values()])
    drawn = values[np.isfinite(values) & (values > 0)]
    low = 10 ** np.floor(np.log10(drawn.min()) - 0.5)
    high = 10 ** np.ceil(np.log10(min(drawn.max(), 1e6)) + 0.5)
    zero, lost = low / 10**1.2, high * 10**0.6
    nothing = bool((values == 0).any())
    over = not np.isfinite(values).all() or drawn.max() > high
    said = []
    for name, error in errors.items():
        scheme = _ARITHMETIC.get(name, name)
        error = np.asarray(error, float)
        shown = np.where(error == 0, zero, np.where(error < high, error, lost))
        shown = np.where(np.isfinite(error), shown, lost)
        line(ax, depths, shown, scheme, marker="o", markersize=4, label=name if name in _ARITHMETIC else LABELS[name])
        last = error[-1]
        said.append(f"{name} {'0' if last == 0 else f'{last:.0e}' if np.isfinite(last) else 'overflows'}")
        if predicted and name in predicted:
            line_ = np.asarray(predicted[name], float)
            keep = np.isfinite(line_) & (line_ < high)
            ax.plot(np.asarray(depths)[keep], line_[keep], color=COLORS[scheme], linewidth=5, alpha=0.25, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="layers", ylabel="relative error", title=title)
    ax.set_ylim(zero / 3 if nothing else low, lost * 3 if over else high)
    for shown, at, word in ((nothing, zero, "exactly 0"), (over, lost, "lost")):
        if shown:
            ax.axhline(at, color=SOFT, linewidth=0.8, linestyle=(0, (1, 3)), zorder=0)
            ax.annotate(word, (0, at), xycoords=("axes fraction", "data"), xytext=(4, 3), textcoords="offset points",
                        fontsize=9, color=SOFT)  # fmt: skip
    ticks = [t for t in 10.0 ** np.arange(np.log10(low), np.log10(high) + 1, 2) if low <= t <= high]
    ax.set_yticks(ticks, [f"10{_superscript(round(np.log10(t)))}" for t in ticks])
    ax.set_yticks([], minor=True)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    caption = "Relative error of the state that comes back."
    caption += " Lines drawn broad and pale are predicted." if predicted else ""
    return show(figure, f"{title}. At {depths[-1]} layers: {', '.join(said)}.", caption)


def _superscript(n: int) -> str:
    return str(n).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
