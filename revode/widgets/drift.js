// The drift explorer: error of a round trip over depth, by scheme, step size and precision. Stands behind shared.js.
// Nothing is computed here: the numbers are those of revode.widgets.drift_data, unpacked.

const BAND = 24; // the broken-off foot of the axis, where an error of exactly 0 has its place
const FLOOR = -18, CEIL = 3;

/** Scheme by name, with arrays [value][dtype][depth] of what was measured; 0 stays 0, what overflowed is Infinity. */
function readSchemes({ schemes, depths, exact_depths: exactDepths, dtypes, quantum, codes }) {
  const number = (k) => (k === codes.zero ? 0 : k >= codes.largest ? Infinity : 10 ** (k * quantum));
  const rows = (flat, n) => Array.from({ length: flat.length / n }, (_, i) => flat.slice(i * n, (i + 1) * n));
  const numbers = (b64) => Array.from(unpack(b64, Int16Array), number);
  return Object.fromEntries(schemes.map((s) => [s.name, {
    ...s,
    measured: rows(rows(numbers(s.measured), depths.length), dtypes.length),
    predicted: rows(numbers(s.predicted), depths.length), // in units of the unit roundoff
    exact: rows(numbers(s.exact), exactDepths.length),
    overflow: rows(Array.from(unpack(s.overflow, Int16Array)), dtypes.length),
  }]));
}

function render({ model, el: host }) {
  const data = model.get("data"), { depths, dtypes, setting, schemes } = data;
  const S = readSchemes(data), last = depths.at(-1);
  const ui = skeleton(host, "drift", model.get("title"));
  const state = { scheme: "", dtype: "", h: 0, c: 0 };
  const user = (change) => { choose(change); shared.push(state); };
  const grid = Object.fromEntries(schemes.map((s) => [s.parameter, s.values]));
  const schemeBox = choice(ui, "scheme", "Scheme", schemes, (scheme) => user({ scheme }), (s) => `rv-${s.name}`);
  const types = dtypes.map(({ name }) => ({ name, title: name }));
  const typeBox = choice(ui, "dtype", "Precision", types, (dtype) => user({ dtype }));
  const sliders = {
    h: slider(ui, "h", "step size h", (k) => user({ h: grid.h[k] })),
    c: slider(ui, "c", "factor c of the momentum rule", (k) => user({ c: grid.c[k] })),
  };
  for (const [name, s] of Object.entries(sliders)) { s.strip.remove(); s.bounds(0, grid[name].length - 1); }
  const depth = svg("svg", { class: "rv-depth rv-wide", "aria-hidden": "true" });
  ui.controls.append(schemeBox.box, typeBox.box);
  ui.controls.after(sliders.h.box, sliders.c.box);
  ui.panels.append(depth);
  ui.foot.after(make("p", { class: "rv-why" },
    `Random networks of ${setting.width} channels, new weights in each block (seed ${setting.seed}), ${setting.batch} inputs. ` +
    "Dots: measured. Dashes: predicted. Thin lines: the other schemes. Exact: a state of 32-bit whole numbers."));

  function choose(change) {
    Object.assign(state, change);
    for (const p of Object.keys(grid)) state[p] = grid[p][nearest(grid[p], state[p])];
    draw();
  }

  /** What was measured of a scheme at the present settings. */
  function run(name) {
    const s = S[name], k = s.values.indexOf(state[s.parameter]), i = dtypes.findIndex((d) => d.name === state.dtype);
    return {
      ...s, value: s.values[k], u: dtypes[i].u, measured: s.measured[k][i], exact: s.exact[k], overflow: s.overflow[k][i],
      predicted: s.predicted[k].map((p) => p * dtypes[i].u),
    };
  }

  // ---- drawing
  function drawDepth(mine, others) {
    const axes = decades(ui, depth, "depth", {
      heading: "relative error of the input that comes back", height: 330, floor: FLOOR, ceil: CEIL, left: 44, right: 88, foot: 38 + BAND,
      x: { from: 1, to: last, log: true, ticks: [], title: "depth, number of blocks" },
    });
    const { g, x0, x1, y0, y1, X, Ylog } = axes, zero = y1 + 6 + BAND / 2;
    const log = (v) => Ylog(v > 0 ? Math.log10(v) : -400);
    drawBand(axes, zero);
    for (let d = 1; d <= last; d *= 10) {
      line(depth, "rv-tick", X(d), zero + BAND / 2, X(d), zero + BAND / 2 + 4);
      label(depth, X(d), zero + BAND / 2 + 16, String(d), "rv-faint", "middle");
    }
    const names = [];
    /** The measured line: it leaves the window at the top where it overflows. */
    const corners = (r) => {
      const seen = r.measured.map((e, i) => [X(depths[i]), log(e), e]).filter(([, , e]) => e > 0 && e < Infinity);
      if (r.overflow) seen.push([X(r.overflow), y0 - 12]);
      else if (r.measured.at(-1) === Infinity) seen.push([X(last), -9999]);
      return seen;
    };
    line(g, "rv-roundoff", x0, log(mine.u), x1, log(mine.u));
    names.push({ text: `u = 2${power(Math.log2(mine.u)).slice(2)}`, cls: "rv-exact-text", y: log(mine.u) });
    for (const r of others) {
      const pts = corners(r);
      g.append(svg("path", { class: `rv-other rv-${r.name}`, d: path(pts) }));
      names.push({ text: r.title, cls: `rv-end rv-${r.name}`, y: pts.at(-1)[1] });
    }
    const pts = corners(mine);
    g.append(svg("path", { class: `rv-path rv-${mine.name}`, d: path(pts) }));
    names.push({ text: mine.title, cls: `rv-end rv-${mine.name} rv-mine`, y: pts.at(-1)[1] });
    const guess = mine.predicted.map((p, i) => [X(depths[i]), log(p)]);
    g.append(svg("path", { class: "rv-predicted", d: path(guess) }));
    names.push({ text: "predicted", cls: "rv-exact-text", y: guess.at(-1)[1] });
    mine.measured.forEach((e, i) => {
      const y = e === 0 ? zero : log(e);
      if (y < y0) return;
      (e === 0 ? depth : g).append(svg("circle", { class: `rv-dot rv-${mine.name}`, cx: X(depths[i]).toFixed(2), cy: y.toFixed(2), r: 3 }));
    });
    ends(depth, names, axes);
    if (mine.overflow) drawOverflow(axes, mine);
    drawExact(axes, zero, mine);
    state.depthScale = { ...axes.scale, zero };
  }

  /** The foot of the axis, broken off, for an error of exactly 0. */
  function drawBand({ x0, x1, y1 }, zero) {
    depth.append(svg("rect", { class: "rv-band", x: x0, y: zero - BAND / 2, width: x1 - x0, height: BAND, rx: 3 }));
    label(depth, x0 - 6, zero + 4, "0", "rv-faint", "end");
    depth.append(svg("path", { class: "rv-break", d: `M${x0 - 5} ${y1 + 3}l10 -4M${x0 - 5} ${y1 + 7}l10 -4` }));
  }
  function drawExact({ x1, X }, zero, mine) {
    const pts = mine.exact.map((e, i) => [X(data.exact_depths[i]), zero, e]).filter(([, , e]) => e === 0);
    depth.append(svg("path", { class: "rv-zero", d: path(pts) }));
    for (const [x] of pts) depth.append(svg("circle", { class: "rv-zero-dot", cx: x.toFixed(2), cy: zero, r: 2.4 }));
    label(depth, x1 + 6, zero + 4, "exact", "rv-note");
  }
  /** A cross where the line leaves, and its block where there are no lines. */
  function drawOverflow({ x0, x1, y0, y1, X }, mine) {
    const x = X(mine.overflow), left = x > (x0 + x1) / 2, s = 4.5, hue = `rv-${mine.name}`;
    line(depth, `rv-way ${hue}`, x, y0, x, y1);
    depth.append(svg("path", {
      class: `rv-cross ${hue}`, transform: `translate(${x.toFixed(2)} ${y0})`, d: `M${-s} ${-s}L${s} ${s}M${s} ${-s}L${-s} ${s}`,
    }));
    label(depth, x + (left ? -7 : 7), y1 - 7, `overflow at block ${mine.overflow}`, "rv-note rv-halo", left ? "end" : "start");
  }

  // ---- words
  const lost = (errors) => depths[errors.findIndex((e) => !(e < 1))];
  function sentence(r) {
    const e = r.measured.at(-1), p = r.predicted.at(-1), h = r.parameter === "h";
    let text = `${capital(r.title)} in ${state.dtype}, ${r.parameter} = ${r.value}`;
    if (h) text += r.limit ? `, where each layer alone is ${r.value <= r.limit ? "" : "un"}stable` : ", with layers that are stable at no step size";
    text += ": ";
    if (r.overflow) {
      text += `the round trip overflows from ${r.overflow} blocks on, and from ${lost(r.measured)} on nothing of the input comes back; ` +
        `predicted was that from ${lost(r.predicted) ?? last} on. `;
    } else if (e === Infinity || p === Infinity) {
      text += `from ${lost(r.measured) ?? last} blocks on nothing of the input comes back; predicted was that from ${lost(r.predicted) ?? last} on. `;
    } else {
      text += `after ${last} blocks and back ${e < 1 ? "" : "nothing of the input is left, "}the error is ${words(e)}, ` +
        `predicted ${words(p)}, ${words(p / e)} times as much. `;
    }
    const same = r.exact.every((x) => x === 0);
    return `${text}Exact arithmetic returned ${same ? "every bit" : "not every bit"}.`;
  }

  function draw() {
    const mine = run(state.scheme), others = schemes.filter((s) => s.name !== state.scheme).map((s) => run(s.name));
    schemeBox.show(state.scheme);
    typeBox.show(state.dtype);
    for (const [p, s] of Object.entries(sliders)) {
      s.box.hidden = p !== mine.parameter;
      const at = !mine.limit ? "" : state.h <= mine.limit ? ", each layer alone is stable" : ", layers are unstable";
      s.show(grid[p].indexOf(state[p]), String(state[p]), `${p} = ${state[p]}${p === "h" ? at : ""}`);
    }
    const k = grid.h.indexOf(mine.limit);
    sliders.h.marks(mine.limit ? [{
      at: k / (grid.h.length - 1), value: String(mine.limit), text: "critical", title: `set h to ${mine.limit}, critical for ${mine.title}`,
      mine: state.h === mine.limit, click: () => user({ h: mine.limit }),
    }] : [], "its layers are stable at no step size");
    ui.tell(sentence(mine));
    drawDepth(mine, others);
    Object.assign(host.dataset, { scheme: state.scheme, dtype: state.dtype, h: state.h });
    // what has just been drawn, for tests and for the curious
    host.revode = {
      ...state, depths, measured: mine.measured, predicted: mine.predicted, exact: mine.exact, overflow: mine.overflow,
      limit: mine.limit, u: mine.u, others: Object.fromEntries(others.map((r) => [r.name, r.measured])), scale: state.depthScale,
    };
  }

  const names = ["scheme", "dtype", "h", "c"];
  const shared = bind(model, names, (change) => { if (names.some((n) => change[n] !== state[n])) choose(change); });
  choose(Object.fromEntries(names.map((n) => [n, model.get(n)])));
  const unwatch = watchWidth(ui.panels, draw);
  return () => { unwatch(); ui.silence(); shared.off(); };
}
export default { render };
