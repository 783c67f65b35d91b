"""What the interactive figures share: one front-end module and one style sheet before each figure's own."""

from __future__ import annotations

from pathlib import Path

import anywidget

HERE = Path(__file__).parent


class InteractiveFigure(anywidget.AnyWidget):
    """Base of the interactive figures: ``NAME.js`` and ``NAME.css`` beside the class's module, behind the shared ones.

    A page carries each figure's code once per figure, as text: there is nothing to fetch, and no build step.
    """

    def __init_subclass__(cls, **options):
        name = cls.__module__.rpartition(".")[2]
        for trait, kind in (("_esm", "js"), ("_css", "css")):
            if trait in vars(cls):  # made of a trait by add_traits
                continue
            parts = [HERE / f"shared.{kind}", HERE / f"{name}.{kind}"]
            setattr(cls, trait, "\n".join(p.read_text("utf-8") for p in parts))
        super().__init_subclass__(**options)
