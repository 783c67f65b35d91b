"""Sphinx glue: a site that needs no network, weighs little, and passes axe, the theme's own parts included."""

from __future__ import annotations

import re
from html import escape
from importlib.metadata import files
from pathlib import Path
from shutil import copyfile

from sphinx.util.nodes import make_refnode

WHEEL = "sphinx-mathjax-offline"  # used as a data package only: MathJax 3.2.2


FOLDED = {"# @title Solution": "the solution", "# In Colab only": "the set-up for Colab"}


def copy_mathjax(static: Path) -> None:
    """tex-chtml.js and its fonts (1.6 MB) instead of the wheel's whole 24 MB."""
    for f in files(WHEEL) or []:
        name = f.as_posix()
        if "/static/mathjax/" in name and name.endswith(("/tex-chtml.js", ".woff")):
            to = static / "mathjax" / name.split("/static/mathjax/", 1)[1]
            to.parent.mkdir(parents=True, exist_ok=True)
            copyfile(f.locate(), to)


def drop_dead_weight(static: Path) -> None:
    """The theme ships each icon twice: the woff2 fonts are enough, drop the 1.5 MB script."""
    script = static / "scripts" / "fontawesome.js"
    if script.exists():
        script.write_text("/* icons come from the woff2 fonts */\n", "utf-8")
    for pattern in ("**/*.map", "**/fa-*.ttf"):
        for f in static.glob(pattern):
            f.unlink()


def mend_page(text: str) -> str:
    """What docutils and the theme write, as axe wants it."""
    # a list of citations has list items
    text = text.replace('role="doc-biblioentry"', 'role="listitem"')
    # what is folded says what it is
    for comment, what in FOLDED.items():
        pattern = rf"(Show|Hide) code cell (?:source|content)(?=(?:(?!<details).)*?{re.escape(comment)})"
        text = re.sub(pattern, rf"\1 {what}", text, flags=re.DOTALL)
    text = re.sub("(Show|Hide) code cell output", r"\1 what it prints", text)
    # a full stop or comma stays with its formula
    text = re.sub(
        r'(?<!rv-keep">)(<span class="math notranslate nohighlight">[^<]*</span>[.,;:?!)]+)',
        r'<span class="rv-keep">\1</span>',
        text,
    )
    # the arrow that unfolds a part of the contents has a name
    text = re.sub(
        r'(<a class="[^"]*reference internal[^>]*>([^<]*)</a><details[^>]*>)<summary>',
        r'\1<summary aria-label="pages of \2">',
        text,
    )
    # logo and search button stand in no landmark
    return text.replace('<div id="pst-primary-sidebar" class', '<div id="pst-primary-sidebar" role="complementary" '
                        'aria-label="Book" class')  # fmt: skip


def find_by_last_name(app, env, node, contnode):
    """`revode.build` is documented where it is written, as `revode.models.build`: find it by its last name."""
    if node.get("refdomain") != "py" or not (target := node.get("reftarget")):
        return None
    last = "." + target.rpartition(".")[2]
    found = {name: o for name, o in env.domains["py"].objects.items() if name.endswith(last) and not o.aliased}
    if len(found) != 1 or (target.count(".") and not target.startswith("revode.")):
        return None
    [(name, o)] = found.items()
    return make_refnode(app.builder, node["refdoc"], o.docname, o.node_id, contnode, name)


def skip_member(app, what, name, obj, skip, options):
    """Fields of a named tuple are told in its docstring; Python's own words on them say nothing."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def drop_launch_buttons(app, pagename, templatename, context, doctree):
    """A page written in Markdown has no notebook in the repository that Colab could open."""
    if doctree is not None and not app.env.doc2path(pagename).endswith(".ipynb"):
        buttons = context.get("header_buttons", [])
        buttons[:] = [b for b in buttons if b.get("label") != "launch-buttons"]


def finish(app, exc):
    if exc is not None or app.builder.format != "html":
        return
    out = Path(app.outdir)
    copy_mathjax(out / "_static")
    drop_dead_weight(out / "_static")
    for page in out.rglob("*.html"):
        text = page.read_text("utf-8")
        if (mended := mend_page(text)) != text:
            page.write_text(mended, "utf-8")
    root = app.config.root_doc
    if root != "index":  # sphinx-external-toc writes this redirect without a doctype
        to, title = escape(f"{root}.html"), escape(app.config.html_title or root)
        (out / "index.html").write_text(
            f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<link rel="icon" href="_static/favicon.svg">'
            f'<meta http-equiv="refresh" content="0; url={to}"></head>'
            f'<body><main><h1>{title}</h1><p><a href="{to}">Go to the book</a></p></main></body></html>\n',
            "utf-8",
        )


def setup(app):
    app.connect("autodoc-skip-member", skip_member)
    app.connect("missing-reference", find_by_last_name)
    app.connect("html-page-context", drop_launch_buttons, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
