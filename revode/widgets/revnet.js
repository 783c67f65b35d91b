// The linear RevNet Y <- Y + alpha Z, Z <- Z + beta Y: its two slopes on a pad, its two roots, growth there and back.
// Stands behind shared.js. A second implementation of revode.stability.coupling_roots and of the network itself;
// tests/test_site_revnet.py holds the two together.

/** Roots of r^2 - (2 + alpha beta) r + 1, the larger first. */
function couplingRoots(alpha, beta) {
  const m = 1 + (alpha * beta) / 2, d = m * m - 1;
  if (d < 0) return [[m, Math.sqrt(-d)], [m, -Math.sqrt(-d)]];
  const first = m >= 0 ? m + Math.sqrt(d) : m - Math.sqrt(d);
  return [[first, 0], [1 / first, 0]];
}

/** Norms after 0, ..., layers layers, forward and by the inverse. */
function norms(alpha, beta, layers, start) {
  const there = [], back = [];
  let [y, z] = start, [u, v] = start;
  for (let j = 0; j <= layers; j++) {
    there.push(Math.hypot(y, z));
    back.push(Math.hypot(u, v));
    y += alpha * z; z += beta * y;
    v -= beta * u; u -= alpha * v;
  }
  return { there, back };
}

/** Relative error of the input after all layers there and back, each operation rounded to float32. */
function roundTrip(alpha, beta, layers, start) {
  const f = Math.fround, [a, b, y0, z0] = [alpha, beta, ...start].map(f);
  let [y, z] = [y0, z0];
  for (let j = 0; j < layers; j++) { y = f(y + f(a * z)); z = f(z + f(b * y)); }
  for (let j = 0; j < layers; j++) { z = f(z - f(b * y)); y = f(y - f(a * z)); }
  return Math.hypot(y - y0, z - z0) / Math.hypot(y0, z0);
}

function render({ model, el: host }) {
  const { layers, start, reach, unit } = model.get("spec");
  const ui = skeleton(host, "revnet", model.get("title"));
  const state = { alpha: 0, beta: 0 };
  const user = (change) => { choose(change); shared.push(state); };
  const first = slider(ui, "alpha", "slope α of the first branch", (k) => user({ alpha: k * unit }));
  const second = slider(ui, "beta", "slope β of the second branch", (k) => user({ beta: k * unit }));
  const count = Math.round(reach / unit);
  for (const s of [first, second]) { s.strip.remove(); s.bounds(-count, count); }
  const pad = svg("svg", { class: "rv-pad rv-square", "aria-hidden": "true" });
  const plane = svg("svg", { class: "rv-square", "aria-hidden": "true" });
  const depth = svg("svg", { class: "rv-depth rv-wide", "aria-hidden": "true" });
  ui.controls.append(first.box, second.box);
  ui.panels.append(pad, plane, depth);

  const snap = (v) => Math.round(clamp(v, -reach, reach) / unit) / Math.round(1 / unit);
  function choose(change) {
    for (const k of Object.keys(change)) state[k] = snap(change[k]) || 0; // no minus zero
    draw();
  }

  const inWindow = (p) => p >= -4 && p <= 0;
  function drawPad() {
    const s = square(ui, pad, "pad", { heading: "slopes α and β: pull the dot", reach });
    const { g, w, X, Y } = s;
    // the stable part: signs differ, and the hyperbola alpha beta = -4
    for (const sign of [1, -1]) {
      const edge = [];
      for (let i = 0; i <= 120; i++) {
        const a = (reach * (i + 0.01)) / 120;
        edge.push([X(sign * a), Y(-sign * Math.min(4 / a, 2 * reach))]);
      }
      g.append(svg("path", { class: "rv-area rv-hamiltonian", d: `${path(edge)}L${X(sign * reach)} ${Y(0)}L${X(0)} ${Y(0)}Z` }));
    }
    for (const rate of [1.5, 2.618, 5]) { // equal growth, the larger root of either sign
      for (const product of [rate + 1 / rate - 2, -(rate + 1 / rate) - 2]) {
        for (const sign of [1, -1]) {
          const curve = [];
          for (let i = 1; i <= 160; i++) {
            const a = sign * reach * (i / 160);
            curve.push([X(a), Y(product / a)]);
          }
          g.append(svg("path", { class: "rv-level", d: path(curve) }));
        }
      }
      const a = Math.sqrt(rate + 1 / rate - 2);
      if (a < reach) label(g, X(a) + 3, Y(a) - 3, String(rate), "rv-faint rv-halo");
    }
    g.append(svg("path", { class: "rv-exact", d: path([[X(-reach), Y(reach)], [X(reach), Y(-reach)]]) }));
    label(g, X(-0.55 * reach), Y(0.62 * reach), "β = −α", "rv-note rv-halo");
    label(g, X(0.5 * reach), Y(-0.26 * reach), "stable", "rv-note", "middle");
    label(g, w - 8, s.cy - 6, "α", "rv-var", "end");
    label(g, s.cx + 7, 38, "β", "rv-var");
    line(g, "rv-needle", X(state.alpha), Y(0), X(state.alpha), Y(state.beta));
    line(g, "rv-needle", X(0), Y(state.beta), X(state.alpha), Y(state.beta));
    g.append(svg("circle", { class: "rv-knob", cx: X(state.alpha), cy: Y(state.beta), r: 9 }));
    state.pad = s.scale;
  }

  function drawPlane(r) {
    const { g, w, h, k, X, Y } = square(ui, plane, "plane", { heading: "the two roots of a layer", reach: 3.2 });
    g.append(svg("circle", { class: "rv-area rv-hamiltonian", cx: X(0), cy: Y(0), r: k }));
    label(g, X(0), Y(1) - 6, "unit circle", "rv-note", "middle");
    label(g, w - 7, Y(0) - 6, "Re", "rv-faint", "end");
    label(g, X(0) + 6, 36, "Im", "rv-faint");
    for (const z of r) {
      const x = X(z[0]), y = Y(z[1]);
      if (!beyond(g, w, h, x, y, "rv-mark rv-revnet")) g.append(svg("circle", { class: "rv-mark rv-revnet", cx: x, cy: y, r: 5.5 }));
    }
  }

  function drawDepth(n, rate) {
    const most = Math.log10(Math.max(...n.there, ...n.back)), CEIL = [1, 2, 5, 10, 20, 30, 40].find((c) => most <= c) || 60;
    const FLOOR = CEIL > 5 ? 0 : -1;
    const axes = decades(ui, depth, "depth", {
      heading: "norm of the state over depth", height: 210, floor: FLOOR, ceil: CEIL,
      x: { from: 0, to: layers, ticks: [0, 1, 2, 3, 4].map((i) => [(i * layers) / 4, String((i * layers) / 4)]), title: "layers j" },
    });
    const { g, X, Y } = axes, norm = Math.hypot(...start);
    const names = [];
    if (rate > 1) {
      const law = n.there.map((_, j) => [X(j), Y(norm * rate ** j)]);
      g.append(svg("path", { class: "rv-exact", d: path(law) }));
      names.push({ text: "|r|ʲ", cls: "rv-exact-text", y: law.at(-1)[1] });
    }
    for (const [text, values, hue] of [["forward", n.there, "revnet"], ["inverse", n.back, "leapfrog"]]) {
      const pts = values.map((v, j) => [X(j), Y(v)]);
      g.append(svg("path", { class: `rv-path rv-${hue}`, d: path(pts), "stroke-dasharray": text === "inverse" ? "6 3" : "none" }));
      names.push({ text, cls: `rv-end rv-${hue}`, y: pts.at(-1)[1] });
    }
    ends(depth, names, axes);
    state.depth = axes.scale;
  }

  function sentence(r, rate, n, error) {
    const p = state.alpha * state.beta, stable = rate <= 1 + 1e-12;
    const where = p === 0 || p === -4 ? "at an end of the window −4 ≤ αβ ≤ 0" : `${stable ? "inside" : "outside"} the window −4 ≤ αβ ≤ 0`;
    let text = `Linear RevNet with α = ${signed(state.alpha, 2)} and β = ${signed(state.beta, 2)}: αβ = ${signed(p, 2)} lies ${where}. `;
    if (p === 0 || p === -4) text += `The two roots coincide at ${p === 0 ? "1" : "−1"}, and growth is linear at most. `;
    else if (stable) text += "Both roots lie on the unit circle: nothing grows in the long run, in either direction. ";
    else text += `The roots are ${signed(r[0][0], 3)} and ${signed(r[1][0], 3)}: forward and backward, a mode grows by ${rate.toFixed(3)} per layer. `;
    const there = words(n.there.at(-1) / n.there[0]), back = words(n.back.at(-1) / n.back[0]);
    text += `After ${layers} layers the norm is ${there} times that of the start, by the inverse ${back} times. `;
    if (error === 0) text += "There and back in float32 gives the input to the bit.";
    else if (!(error < 1)) text += "There and back in float32, nothing of the input is left.";
    else text += `There and back in float32, the input has a relative error of ${words(error)}.`;
    return text;
  }

  function draw() {
    const { alpha, beta } = state;
    const r = couplingRoots(alpha, beta), rate = Math.max(...r.map(([a, b]) => Math.hypot(a, b)));
    const n = norms(alpha, beta, layers, start), error = roundTrip(alpha, beta, layers, start);
    const p = alpha * beta, stable = inWindow(p);
    first.show(Math.round(alpha / unit), signed(alpha, 2), `alpha = ${alpha.toFixed(2)}, ${stable ? "stable" : "unstable"}`);
    second.show(Math.round(beta / unit), signed(beta, 2), `beta = ${beta.toFixed(2)}, ${stable ? "stable" : "unstable"}`);
    const marks = [{ b: -alpha, text: "β = −α" }, { b: alpha, text: "β = α" }];
    if (Math.abs(alpha) >= 4 / reach) marks.push({ b: -4 / alpha, text: "αβ = −4" });
    second.marks(alpha === 0 ? [] : marks.map(({ b, text }) => ({
      at: (snap(b) + reach) / (2 * reach), value: signed(snap(b), 2), text, title: `set beta to ${snap(b).toFixed(2)}, ${text}`,
      mine: snap(b) === beta, click: () => user({ beta: b }),
    })));
    ui.tell(sentence(r, rate, n, error));
    drawPad();
    drawPlane(r);
    drawDepth(n, rate);
    host.dataset.stable = String(stable);
    host.revode = { alpha, beta, roots: r, growth: rate, there: n.there, back: n.back, error, scale: { pad: state.pad, depth: state.depth } };
  }

  // the pad: what a pointer can do, the two sliders do for the keyboard
  const point = (e) => {
    const box = pad.getBoundingClientRect(), s = state.pad, k = pad.viewBox.baseVal.width / box.width;
    user({ alpha: ((e.clientX - box.left) * k - s.cx) / s.k, beta: (s.cy - (e.clientY - box.top) * k) / s.k });
  };
  pad.addEventListener("pointerdown", (e) => { pad.setPointerCapture(e.pointerId); point(e); e.preventDefault(); });
  pad.addEventListener("pointermove", (e) => { if (pad.hasPointerCapture(e.pointerId)) point(e); });

  const shared = bind(model, ["alpha", "beta"], (change) => {
    if (change.alpha !== state.alpha || change.beta !== state.beta) choose(change);
  });
  choose({ alpha: model.get("alpha"), beta: model.get("beta") });
  const unwatch = watchWidth(ui.panels, draw);
  return () => { unwatch(); ui.silence(); shared.off(); };
}
export default { render };
