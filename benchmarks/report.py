"""The result file of the benchmark as tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from .cases import FAMILIES, STORED_LAST

MIB = 2**20
CHECKPOINTS = {"checkpoint per branch", "checkpoint per block", "checkpoint sequential"}
OWN = {"plain", "plain again", "one more forward", "revode", "revode exact", *STORED_LAST}


def markdown(record: dict) -> str:
    """All tables of a result."""
    final, settings = record["final"], record["settings"]
    hardware = record["evidence"]["hardware"]
    unit = "process CPU time, 1 thread" if settings["device"] == "cpu" else "wall-clock time"
    parts = [
        f"{hardware['gpu'] or hardware['cpu']}, torch {record['evidence']['torch']}, {record['evidence']['date']}; "
        f"{settings['channels']} channels, {settings['size']}x{settings['size']}, batch {settings['batch']}, float32; "
        f"{unit}; load of the machine at the start: "
        + ", ".join(f"{part['load']:.1f} ({name})" for name, part in final["parts"].items())
    ]
    for family in dict.fromkeys(r["family"] for r in final["time"] + final["memory"]):
        parts.append(f"### {FAMILIES[family].title}\n\n{_family(family, final)}")
    if final["compiled"]:
        parts.append(f"### One compiled graph, whole network\n\n{_compiled(final['compiled'])}")
    if bars := _bars(final):
        parts.append(f"### Bars\n\n{bars}")
    parts += [f"Not measured: {case}: {why}." for case, why in final["missing"].items()]
    return "\n\n".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def slope(rows: Sequence[dict], key: str) -> float | None:
    """Bytes per added block, parameter gradients taken off, from the two smallest depths to the largest."""
    points = sorted((r["blocks"], r[key] - r["parameter_gradients"]) for r in rows if r.get(key) is not None)
    if len(points) < 2:
        return None
    (n, low), (m, high) = points[0], points[-1]
    return (high - low) / (m - n)


def _family(family: str, final: dict) -> str:
    timed = {(r["case"], r["blocks"], r["layout"]): r for r in final["time"] if r["family"] == family}
    used = [r for r in final["memory"] if r["family"] == family]
    columns = list(dict.fromkeys((b, layout) for _, b, layout in timed))
    depths = sorted({r["blocks"] for r in used})
    head = ["case", *(f"{'CL ' if layout != 'contiguous' else ''}n={b}" for b, layout in columns), "gradient off"]
    head += [f"MiB n={b}" for b in depths] + ["MiB/block", "resident MiB/block"]
    rows = []
    for case in dict.fromkeys([c for c, *_ in timed] + [r["case"] for r in used]):
        line = [case]
        for column in columns:
            row = timed.get((case, *column))
            line.append(
                "" if row is None else f"{row['ratio']:.2f}" + (f" ({row['seconds'] * 1e3:.0f} ms)" * (case == "plain"))
            )
        off = [
            r["gradient_difference"]
            for (c, *_), r in timed.items()
            if c == case and r["gradient_difference"] is not None
        ]
        line.append(f"{max(off):.0e}" if off else "")
        mine = [r for r in used if r["case"] == case]
        for b in depths:
            row = next((r for r in mine if r["blocks"] == b), {})
            line.append(f"{row['peak'] / MIB:.0f}" if "peak" in row else "fails" if "error" in row else "")
        for key in ("peak", "resident"):
            s = slope(mine, key)
            line.append("" if s is None else f"{s / MIB:.2f}")
        rows.append(line)
    return table(head, rows)


def _compiled(rows: Sequence[dict]) -> str:
    lines = []
    for r in rows:
        base = next(p for p in rows if p["case"] == "plain compiled" and p["layout"] == r["layout"])
        lines.append([
            r["case"], r["layout"], str(r["blocks"]), f"{r['ratio']:.2f}", f"{r['seconds'] / base['seconds']:.2f}",
            f"{r['peak'] / MIB:.0f}" if r["peak"] else "",
            f"{r['first_step_seconds']:.0f}" if r["first_step_seconds"] else "",
        ])  # fmt: skip
    return table(["case", "layout", "blocks", "to plain eager", "to plain compiled", "MiB", "first step, s"], lines)


def _bars(final: dict) -> str:
    """The goals of the project against what was measured."""
    lines = []

    def bar(what: str, value: float, goal: float, form: str = "{:.2f}") -> None:
        lines.append([what, form.format(value), "≤ " + form.format(goal), "met" if value <= goal else "**missed**"])

    for layout, goal in (("contiguous", 1.30), ("channels_last", 1.22)):
        rows = {
            r["case"]: r for r in final["time"] if (r["family"], r["blocks"], r["layout"]) == ("revnet", 32, layout)
        }
        if "revode" in rows:
            for case in ("revode", *(c for c in STORED_LAST if c in rows)):
                bar(f"time at 32 blocks, {layout}, {case}", rows[case]["ratio"], goal)
            others = {c: r["ratio"] for c, r in rows.items() if c not in OWN | CHECKPOINTS}
            if others:
                best = min(others, key=others.get)
                bar(f"... against the best reversible package, {best}", rows["revode"]["ratio"], others[best])
    for family in dict.fromkeys(r["family"] for r in final["memory"]):
        for case in ("revode", *STORED_LAST):
            mine = [r for r in final["memory"] if (r["family"], r["case"]) == (family, case)]
            s = slope(mine, "peak")
            if s is not None:
                # Kept beside the state: nothing but scalars and headers, less than a thousandth of what plain keeps.
                what = f"memory slope, {family}, {case}, MiB/block"
                bar(what, s / MIB, 0.5 if family == "momentum" else 0.02, "{:.3f}")
    for r in final["compiled"]:
        case = r["case"].removesuffix(" compiled")
        if case != r["case"] and case != "plain":
            bar(f"compiled whole network, {r['blocks']} blocks, {r['layout']}, {case}", r["ratio"], 1.15)
    return table(["goal", "measured", "bar", ""], lines) if lines else ""
