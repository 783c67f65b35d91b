// What the interactive figures share: elements, controls, axes, speech. revode.widgets.base puts this file before a
// figure's own, in one module without imports, so that nothing is fetched.

// ---------------------------------------------------------------------------------------------- elements

const NS = "http://www.w3.org/2000/svg";

function make(tag, attrs = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs)) {
    if (v === true) e.setAttribute(k, "");
    else if (v !== false && v !== undefined) e.setAttribute(k, v);
  }
  e.append(...children);
  return e;
}
function svg(tag, attrs = {}, text) {
  const e = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}
/** A typed array from base64 text; little-endian, as every browser platform is. */
function unpack(b64, Type) {
  const s = atob(b64), u = new Uint8Array(s.length);
  for (let i = 0; i < s.length; i++) u[i] = s.charCodeAt(i);
  return new Type(u.buffer);
}

// ------------------------------------------------------------------------------------- numbers and words

const SUP = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const power = (n) => "10" + [...String(n)].map((c) => SUP[c]).join("");
/** A positive number for people. */
function words(x) {
  if (!Number.isFinite(x)) return "beyond all numbers";
  if (x === 0 || (x >= 0.01 && x < 1000)) return x.toFixed(x < 10 ? 2 : x < 100 ? 1 : 0);
  let n = Math.floor(Math.log10(x)), m = x / 10 ** n;
  if (m >= 9.95) { m = 1; n += 1; }
  return `${m.toFixed(1)} × ${power(n)}`;
}
/** With a true minus sign. */
const signed = (x, digits) => x.toFixed(digits).replace(/^-0(\.0*)?$/, "0$1").replace("-", "−");
const capital = (s) => s[0].toUpperCase() + s.slice(1);
const clamp = (x, a, b) => Math.min(b, Math.max(a, x));
const nearest = (grid, x) => grid.reduce((b, v, i) => (Math.abs(v - x) < Math.abs(grid[b] - x) ? i : b), 0);
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// ---------------------------------------------------------------------------------------------- skeleton

/** Title, controls, panels and the sentence under them; a figure appends its own to these.
 *  `panels` is one picture to a screen reader: title and sentence are its name. */
function skeleton(host, name, titleText) {
  // by chance and not counted: in a notebook every figure has this module for itself
  const id = `rv-${name}-${Math.random().toString(36).slice(2, 10)}`;
  host.classList.add("rv-widget", `rv-${name}`);
  const title = make("figcaption", { id: `${id}-title`, class: "rv-title" }, titleText);
  const controls = make("div", { class: "rv-controls" });
  const panels = make("div", { class: "rv-panels", role: "img", "aria-labelledby": `${id}-title ${id}-say` });
  const say = make("p", { class: "rv-say", id: `${id}-say` });
  const spoken = make("p", { class: "rv-spoken", "aria-live": "polite" });
  const foot = make("div", { class: "rv-foot" }, say);
  const figure = make("figure", { "aria-labelledby": `${id}-title` }, title, controls, panels, foot, spoken);
  host.append(figure);
  let timer = 0;
  return {
    id, host, figure, controls, panels, foot, say,
    /** Say it under the drawing at once, aloud when the reader rests: not at every step of a drag. */
    tell(text, aloud = true) {
      say.textContent = text;
      if (!aloud) return;
      clearTimeout(timer);
      timer = setTimeout(() => { spoken.textContent = say.textContent; }, 350);
    },
    silence: () => clearTimeout(timer),
  };
}

/** Draw when the panels' width changes, and once when they have one; returns what stops it. */
function watchWidth(node, draw) {
  let width = 0;
  const watch = new ResizeObserver(() => {
    const w = node.getBoundingClientRect().width;
    if (Math.abs(w - width) > 1) { width = w; draw(); }
  });
  watch.observe(node);
  return () => watch.disconnect();
}

/** State shared with Python: push() sends ours, receive(values) gets theirs, but not our own echoed, one by one. */
function bind(model, names, receive) {
  let pushing = false;
  const hear = () => { if (!pushing) receive(Object.fromEntries(names.map((n) => [n, model.get(n)]))); };
  for (const n of names) model.on(`change:${n}`, hear);
  return {
    push(state) {
      pushing = true;
      for (const n of names) model.set(n, state[n]);
      pushing = false;
      model.save_changes();
    },
    off() { for (const n of names) model.off(`change:${n}`, hear); },
  };
}

// ---------------------------------------------------------------------------------------------- controls

/** A row of radio buttons that looks like one segmented control. items: { name, title }; key(item): class of a dot. */
function choice(ui, name, legend, items, change, key) {
  const box = make("fieldset", { class: "rv-choice" }, make("legend", {}, legend));
  const inputs = {};
  for (const item of items) {
    const input = make("input", { type: "radio", name: `${ui.id}-${name}`, value: item.name });
    // in command mode JupyterLab takes the arrow keys from a focused element that has not this attribute
    input.dataset.lmSuppressShortcuts = "true";
    input.addEventListener("change", () => change(item.name));
    inputs[item.name] = input;
    const mark = key ? [make("i", { class: `rv-key ${key(item)}` })] : [];
    box.append(make("label", {}, input, make("span", {}, ...mark, item.title)));
  }
  const why = make("p", { class: "rv-why", id: `${ui.id}-${name}-why`, hidden: true });
  return {
    box, inputs, why,
    /** Check one; reasons[name] tells why one is not offered. */
    show(value, reasons = {}) {
      const told = new Map();
      for (const { name: n, title } of items) {
        const input = inputs[n], reason = reasons[n];
        input.checked = n === value;
        input.disabled = Boolean(reason);
        input.title = reason || "";
        if (reason) { input.setAttribute("aria-describedby", why.id); told.set(reason, [...(told.get(reason) || []), title]); }
        else input.removeAttribute("aria-describedby");
      }
      why.textContent = `Not offered here. ${[...told].map(([r, who]) => `${capital(who.join(" and "))}: ${r}.`).join(" ")}`;
      why.hidden = !told.size;
    },
  };
}

/** A native slider over whole numbers min..max, with its name, its value in words, a strip over it and ticks under it.
 *  change(k) is called when the reader moves it. */
function slider(ui, name, text, change) {
  const range = make("input", { id: `${ui.id}-${name}`, type: "range", step: 1 });
  range.dataset.lmSuppressShortcuts = "true";
  const shown = make("output", { for: range.id });
  const strip = svg("svg", { class: "rv-strip", "aria-hidden": "true" });
  const ticks = make("div", { class: "rv-ticks" });
  const head = make("div", { class: "rv-slider-head" }, make("label", { for: range.id }, text), shown);
  range.addEventListener("input", () => change(Number(range.value)));
  return {
    box: make("div", { class: "rv-slider" }, head, strip, range, ticks), range, shown, strip, ticks,
    bounds(min, max) { Object.assign(range, { min, max }); },
    show(k, valueText, spokenText = valueText) {
      range.value = k;
      shown.textContent = valueText;
      range.setAttribute("aria-valuetext", spokenText);
    },
    /** Buttons under the slider: { at: 0..1, value, text, title, mine, click }. */
    marks(list, none = "") {
      ticks.replaceChildren();
      for (const m of list) {
        const b = make("button", { type: "button", class: `rv-tick-button${m.mine ? " rv-mine" : ""}`, "aria-label": m.title },
          make("b", {}, m.value), ` ${m.text}`);
        b.style.setProperty("--at", m.at);
        b.addEventListener("click", () => { m.click(); range.focus(); });
        ticks.append(b);
        // a name near an end stays over the slider, its line where it belongs
        const place = b.getBoundingClientRect(), over = ticks.getBoundingClientRect();
        const shift = Math.max(0, over.left - place.left) - Math.max(0, place.right - over.right);
        if (shift) b.style.setProperty("--shift", `${shift}px`);
      }
      if (!list.length && none) ticks.append(make("span", { class: "rv-none" }, none));
      // names that would lie over each other stand in a second row
      let end = -1;
      for (const b of [...ticks.querySelectorAll("button")].sort((x, y) => x.style.getPropertyValue("--at") - y.style.getPropertyValue("--at"))) {
        const place = b.getBoundingClientRect();
        if (place.left < end) b.classList.add("rv-below");
        else end = place.right;
      }
      ticks.classList.toggle("rv-two", ticks.querySelector(".rv-below") !== null);
    },
  };
}

// ----------------------------------------------------------------------------------------------- drawing

/** An empty drawing in the pixels it has on the page; height may depend on width. */
function frame(node, height, fallback) {
  const w = Math.round(node.getBoundingClientRect().width) || fallback;
  const h = typeof height === "function" ? height(w) : height;
  node.setAttribute("viewBox", `0 0 ${w} ${h}`);
  node.replaceChildren();
  return [w, h];
}
const line = (node, cls, x1, y1, x2, y2) => node.append(svg("line", { class: cls, x1, y1, x2, y2 }));
const label = (node, x, y, text, cls = "", anchor = "start") =>
  node.append(svg("text", { class: cls, x, y, "text-anchor": anchor }, text));
/** A group that shows nothing outside a rectangle. */
function clip(ui, node, name, x, y, width, height) {
  const c = svg("clipPath", { id: `${ui.id}-${name}` });
  c.append(svg("rect", { x, y, width, height }));
  const g = svg("g", { "clip-path": `url(#${ui.id}-${name})` });
  node.append(c, g);
  return g;
}
/** An SVG path; points out of [-9999, 9999] are drawn at its edge, gaps where broken(k) says so. */
function path(points, broken = () => false) {
  let d = "";
  points.forEach(([x, y], k) => {
    if (Number.isNaN(x) || Number.isNaN(y)) return;
    d += `${d && !broken(k) ? "L" : "M"}${clamp(x, -9999, 9999).toFixed(2)} ${clamp(y, -9999, 9999).toFixed(2)}`;
  });
  return d;
}

/** A square window on the complex plane or a phase plane, under a heading: X, Y, a clipped group, and its scale. */
function square(ui, node, name, { heading, reach, dx = 0, fallback = 330 }) {
  const [w, h] = frame(node, (x) => x + 22, fallback);
  const k = w / 2 / reach, cx = w / 2 + dx * k, cy = 22 + w / 2;
  label(node, 0, 13, heading, "rv-head");
  node.append(svg("rect", { class: "rv-frame", x: 0.5, y: 22.5, width: w - 1, height: w - 1, rx: 4 }));
  const g = clip(ui, node, name, 1, 23, w - 2, w - 2);
  line(g, "rv-axis", 0, cy, w, cy);
  line(g, "rv-axis", cx, 22, cx, h);
  return { g, w, h, cx, cy, k, X: (x) => cx + k * x, Y: (y) => cy - k * y, scale: { cx, cy, k } };
}

/** Axes under a heading, a logarithmic ordinate from 10^floor to 10^ceil, an abscissa with the given ticks.
 *  x: { from, to, ticks: [[value, text]], title, log }; Y takes the value itself, Ylog its logarithm to base 10. */
function decades(ui, node, name, { heading, height, fallback = 680, x, floor, ceil, right = 82, left = 40, foot = 34 }) {
  const [w, h] = frame(node, height, fallback);
  const x0 = left, x1 = w - right, y0 = 23, y1 = h - foot;
  const u = x.log ? Math.log : (v) => v;
  const X = (v) => x0 + ((x1 - x0) * (u(v) - u(x.from))) / (u(x.to) - u(x.from));
  const Ylog = (v) => y1 - ((y1 - y0) * (clamp(v, -400, 400) - floor)) / (ceil - floor);
  const Y = (v) => Ylog(v > 0 ? clamp(Math.log10(v), -20, 300) : floor - 1);
  label(node, 0, 13, heading, "rv-head");
  const every = [1, 2, 3, 5, 10, 20].find((n) => n >= (ceil - floor) / 6) || 50;
  for (let d = ceil; d >= floor; d--) {
    if (d % every !== 0) continue;
    line(node, d === 0 ? "rv-axis" : "rv-grid", x0, Ylog(d), x1, Ylog(d));
    label(node, x0 - 6, Ylog(d) + 4, d === 0 ? "1" : power(d), "rv-faint", "end");
  }
  for (const [v, text] of x.ticks) {
    line(node, "rv-tick", X(v), y1, X(v), y1 + 4);
    label(node, X(v), y1 + 16, text, "rv-faint", "middle");
  }
  label(node, (x0 + x1) / 2, h - 4, x.title, "rv-faint", "middle");
  const g = clip(ui, node, name, x0, y0, x1 - x0, y1 - y0);
  return { g, w, h, x0, x1, y0, y1, X, Y, Ylog, scale: { x0, x1, y0, y1, floor, ceil } };
}

/** Names at the ends of lines, pushed apart, an arrow where a line has left the window: { text, cls, y }. */
function ends(node, list, { x1, y0, y1 }) {
  for (const e of list) e.at = clamp(e.y, y0 + 4, y1 - 2);
  list.sort((a, b) => a.at - b.at);
  for (let i = 1; i < list.length; i++) list[i].at = Math.max(list[i].at, list[i - 1].at + 13);
  let over = list.length ? Math.max(0, list.at(-1).at - y1) : 0;
  for (let i = list.length - 1; i >= 0 && over > 0; i--) {
    list[i].at -= over;
    over = i ? Math.max(0, list[i - 1].at + 13 - list[i].at) : 0;
  }
  for (const e of list) {
    const arrow = e.y < y0 ? " ↑" : e.y > y1 ? " ↓" : "";
    label(node, x1 + 6, e.at + 4, e.text + arrow, e.cls);
  }
}
/** An arrow at the window's edge for a point beyond it; false where the point is inside. */
function beyond(g, w, h, x, y, cls) {
  if (x >= 0 && x <= w && y >= 22 && y <= h) return false;
  const ex = clamp(x, 9, w - 9), ey = clamp(y, 31, h - 9), a = (Math.atan2(y - ey, x - ex) * 180) / Math.PI;
  g.append(svg("path", { class: cls, d: "M7 0L-4 -5L-4 5Z", transform: `translate(${ex} ${ey}) rotate(${a})` }));
  return true;
}
