"""How a drawing becomes part of a page: style, theme, tables, groups and films.

A drawing is shown as inline SVG: its ink is the text colour of the page and its scheme colours are CSS variables, so
one picture serves both themes, in the book, in JupyterLab and in Colab. Make one with :func:`axes`, hand it to
:func:`show`.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imsave

#: Okabe and Ito's colours, darkened to stand on white; the page lightens them on dark ground.
COLORS = {
    "euler": "#b8460e",
    "midpoint": "#0064a0",
    "hamiltonian": "#00745a",
    "leapfrog": "#9a3f7e",
    "revnet": "#8a6a00",
    "momentum": "#5b4bb0",
}
INK, SOFT, LINE = "#1d2733", "#5a6572", "#c9d0d8"
LABELS = {
    "euler": "Euler",
    "midpoint": "midpoint",
    "hamiltonian": "Verlet",
    "leapfrog": "leapfrog",
    "revnet": "RevNet",
    "momentum": "momentum",
}
#: A second cue beside colour.
DASHES = {
    "euler": (0, (6, 2)),
    "midpoint": (0, (2, 1.5)),
    "hamiltonian": "-",
    "leapfrog": (0, (7, 2, 1.5, 2)),
    "revnet": (0, (1, 1)),
    "momentum": (0, (4, 1.5, 1, 1.5)),
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
    """Matplotlib's SVG file made fit to stand in a page: own ids, no global style, colours of the theme, no ballast."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*</defs>", "", text)
    prefix = f"rv{next(_serial)}-"
    ids = {name: f"{prefix}{i}" for i, name in enumerate(dict.fromkeys(re.findall(r"#([^\")]+)(?=[\")])", text)))}
    text = re.sub(r' id="([^"]+)"', lambda m: f' id="{ids[m[1]]}"' if m[1] in ids else "", text)
    text = re.sub(r'(url\(|href=")#([^")]+)', lambda m: f"{m[1]}#{ids[m[2]]}", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    text = _light(_dots(re.sub(r'(?<= d=")[^"]*', lambda d: _short(d[0]), text)))
    for color, variable in _THEME.items():
        text = re.sub(re.escape(color), variable, text, flags=re.IGNORECASE)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt" viewBox="([^"]*)"', text)
    attributes = (
        f'class="rv-drawing" role="img" aria-label="{html.escape(alt)}" viewBox="{size[3]}" '
        f'fill="currentColor" style="width: 100%; max-width: {float(size[1]) * 4 / 3:.0f}px; height: auto" '
        'stroke-linejoin="round" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    )
    return re.sub(r"<svg[^>]*>", f"<svg {attributes}>", text, count=1).strip()


def _light(text: str) -> str:
    """An SVG without what nobody sees: groups that group nothing, empty outlines, turns by 0, styles that repeat."""
    text = re.sub(r">\s*\n\s*<", "><", text)
    text = re.sub(r' transform="rotate\(-?0 [^"]*"|<path d="[^"]*" style="fill: none"/>', "", text)
    exact = r' (?:x|y|width|height)="[^"]*"|(?:rotate|translate)\([^)]*\)'
    text = re.sub(exact, lambda found: re.sub(r"-?\d+\.\d+", lambda n: _number(100 * float(n[0])), found[0]), text)

    # A marker that is drawn in one style only has that style itself.
    styles: dict[str, set[str]] = {}
    for name, style in re.findall(r'<use xlink:href="#([^"]+)"[^>]* style="([^"]*)"', text):
        styles.setdefault(name, set()).add(style)
    for name, (style, *others) in styles.items():
        own = rf'(<path id="{name}" d="[^"]*")(?: style="[^"]*")?/>'
        if not others and re.search(own, text):
            text = re.sub(own, rf'\1 style="{style}"/>', text)
            text = re.sub(rf'(<use xlink:href="#{name}"[^>]*) style="[^"]*"', r"\1", text)

    bare: list[bool] = []

    def group(tag: re.Match) -> str:
        if tag[1]:
            return "" if bare.pop() else tag[0]
        bare.append(not tag[2])
        return "" if bare[-1] else tag[0]

    return re.sub(r"<(/?)g\b([^>]*)>", group, text.replace("<g/>", ""))


def _number(hundredths: float) -> str:
    """A number of an SVG, to a hundredth of a point, which is finer than any screen."""
    text = f"{round(hundredths) / 100:.2f}".rstrip("0").rstrip(".")
    return re.sub(r"^(-?)0\.", r"\1.", text)


def _short(path: str, digits: int = 2) -> str:
    """The data of an SVG path in a quarter of the bytes: relative moves, rounded so that errors do not add up."""
    out, last, unit = [], "", 10 ** (2 - digits)
    at = start = (0, 0)
    for letter, numbers in re.findall(r"([MLCQz])([^MLCQz]*)", path):
        ends = [unit * round(100 / unit * float(n)) for n in re.findall(r"-?[\d.]+", numbers)]
        moves = [end - at[i % 2] for i, end in enumerate(ends)]
        letter = letter.lower()
        if letter == "l" and 0 in moves:  # along an axis
            letter, moves = ("h", moves[:1]) if moves[1] == 0 else ("v", moves[1:])
        said = [_number(move) for move in moves]
        repeated = letter == last and letter not in "mz"
        out.append(re.sub(r" (?=-)", "", (" " if repeated else letter) + " ".join(said)))
        at = tuple(ends[-2:]) if ends else start
        start, last = (at if letter == "m" else start), letter
    return "".join(out)


def _dots(text: str) -> str:
    """Clouds of round markers in one colour as one path of strokes without length, a tenth of the bytes.

    A dot that hides another one to a tenth of a point is drawn once.
    """
    marker = r'<use xlink:href="#{}" x="[^"]+" y="[^"]+" style="fill: {}; stroke: {}"/>\s*'
    first = marker.format(r'([^"]+)', r'([^;"]+)', r"\2")
    cloud = first + "(?:" + marker.format(r"\1", r"\2", r"\2") + "){29,}"

    def path(found: re.Match) -> str:
        circle = re.search(rf'id="{re.escape(found[1])}" d="m0 ([\d.]+)c', text)
        if circle is None:
            return found[0]
        places = [f"{float(x):.1f} {float(y):.1f}" for x, y in re.findall(r'x="([^"]+)" y="([^"]+)"', found[0])]
        d = _short("".join(f"M{place}L{place}" for place in dict.fromkeys(places)), digits=1)
        width = 2 * float(circle[1]) + 1  # the radius is that of the middle of the marker's edge
        return f'<path d="{d}" style="fill: none; stroke: {found[2]}; stroke-width: {width:g}; stroke-linecap: round"/>'

    return re.sub(cloud, path, text)


def line(ax, x, y, scheme: str, **kwargs) -> None:
    """Plot with a scheme's colour and dashes; the label is its name unless given."""
    style = {"color": COLORS[scheme], "linestyle": DASHES[scheme], "label": LABELS[scheme]}
    ax.plot(x, y, **style | kwargs)


# Decorator: everything that a function draws is in the book's style.
styled = mpl.rc_context(_STYLE)


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
