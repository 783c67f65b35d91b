"""What browser tests do to an interactive figure: choose, move a slider, read what is drawn and said."""

from __future__ import annotations

import numpy as np


def figure_on(page, name: str):
    """The first interactive figure of this name on an open page, in view."""
    widget = page.locator(f".rv-{name}").first
    widget.scroll_into_view_if_needed()
    return widget


def choose(widget, value: str) -> None:
    widget.locator(f"input[value={value}]").evaluate("e => e.click()")


def set_slider(widget, k: int, name: str | None = None) -> None:
    """Move a slider to a whole number, as a reader's hand would; name: its label, where there are several."""
    move = "(e, k) => { e.value = k; e.dispatchEvent(new Event('input', { bubbles: true })); }"
    slider = widget.get_by_role("slider", name=name) if name else widget.locator("input[type=range]")
    slider.evaluate(move, k)


def points_of(path) -> np.ndarray:
    """The corners of a drawn path, (n, 2), in the drawing's pixels."""
    line = path.get_attribute("d")
    return np.array([[float(v) for v in c.split()] for c in line.replace("M", "L").split("L")[1:]])


def drawn(widget) -> dict:
    return widget.evaluate("e => e.revode")


def picture(widget) -> str:
    return widget.locator(".rv-panels").evaluate("e => e.innerHTML")


def spoken(widget) -> str:
    """The sentence for screen readers, once it has caught up: it waits for the end of a drag."""
    caught_up = "e => e.querySelector('[aria-live=polite]').textContent === e.querySelector('.rv-say').textContent"
    for _ in range(100):
        if widget.evaluate(caught_up):
            return widget.locator("[aria-live=polite]").inner_text()
        widget.page.wait_for_timeout(50)
    raise AssertionError(f"never spoken: {widget.locator('.rv-say').inner_text()}")


#: Mounts the page's first full figure once more, as #live, with the test in the kernel's place (window.model); with an
#: argument the first that has a trait of this name.
LIVE = """async (trait) => {
  const states = JSON.parse(document.querySelector('script[type$="widget-state+json"]').textContent).state;
  const state = Object.values(states).map((r) => r.state).find((s) => s._esm && !s.compact && (!trait || trait in s));
  const module = await import(URL.createObjectURL(new Blob([state._esm], { type: "text/javascript" })));
  const listeners = {};
  window.asked = [];
  window.model = {
    get: (k) => state[k],
    set: (k, v) => { state[k] = v; },
    save_changes() {},
    send: (m) => window.asked.push(m),
    on: (name, f) => { (listeners[name] ||= new Set()).add(f); },
    off: (name, f) => listeners[name]?.delete(f),
    told(k, v) { state[k] = v; for (const f of listeners[`change:${k}`] || []) f(); },
    listening: () => Object.values(listeners).reduce((n, s) => n + s.size, 0),
  };
  const el = document.createElement("div");
  el.id = "live";
  document.querySelector("main").append(el);
  window.stop = module.default.render({ model: window.model, el });
}"""
