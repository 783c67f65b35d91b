// The step-size explorer: one front end for the built page (no kernel) and for JupyterLab and Colab (kernel).
// Stands behind shared.js. The mathematics below is a second implementation of revode.stability; tests/test_site.py
// holds the two together.

// ------------------------------------------------------------------------------------------- mathematics

const C = {
  add: (a, b) => [a[0] + b[0], a[1] + b[1]],
  sub: (a, b) => [a[0] - b[0], a[1] - b[1]],
  mul: (a, b) => [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]],
  times: (k, a) => [k * a[0], k * a[1]],
  abs: (a) => Math.hypot(a[0], a[1]),
  div(a, b) {
    const d = b[0] * b[0] + b[1] * b[1];
    return [(a[0] * b[0] + a[1] * b[1]) / d, (a[1] * b[0] - a[0] * b[1]) / d];
  },
  sqrt(a) { // principal branch, without cancellation
    const m = C.abs(a);
    if (m === 0) return [0, 0];
    const t = Math.sqrt((m + Math.abs(a[0])) / 2);
    const u = a[1] / (2 * t);
    return a[0] >= 0 ? [t, u] : [Math.abs(u), a[1] < 0 ? -t : t];
  },
};

/** Roots of the characteristic polynomial at z = h lambda, the larger first (revode.stability.roots). */
function roots(scheme, z) {
  if (scheme === "euler") return [C.add([1, 0], z)];
  const zz = C.mul(z, z);
  let centre, root, product;
  if (scheme === "midpoint") {
    [centre, root, product] = [z, C.sqrt(C.add([1, 0], zz)), [-1, 0]];
  } else {
    centre = C.add([1, 0], C.times(0.5, zz));
    root = C.mul(z, C.sqrt(C.add([1, 0], C.times(0.25, zz))));
    product = [1, 0];
  }
  const a = C.add(centre, root), b = C.sub(centre, root);
  const first = C.abs(a) >= C.abs(b) ? a : b;
  return [first, C.div(product, first)];
}
const growth = (scheme, z) => Math.max(...roots(scheme, z).map(C.abs));

/** Right-hand side of q' = a q + b p, p' = c q + d p, or the pendulum. */
function field(problem, q, p) {
  const [[a, b], [c, d]] = problem.matrix;
  return [a * q + b * p, problem.nonlinear ? -Math.sin(q) : c * q + d * p];
}
const force = (problem, q) => (problem.nonlinear ? -Math.sin(q) : problem.matrix[1][0] * q);

/** The states after 0, ..., steps blocks, as [q0, p0, q1, p1, ...] (revode.stability.trajectory). */
function trajectory(scheme, problem, h, steps) {
  const out = new Float64Array(2 * (steps + 1));
  let [q, p] = problem.start;
  const put = (j, a, b) => { out[2 * j] = a; out[2 * j + 1] = b; };
  put(0, q, p);
  if (scheme === "euler" || scheme === "midpoint") {
    let [qOld, pOld] = [q, p];
    for (let j = 1; j <= steps; j++) {
      const [dq, dp] = field(problem, q, p);
      const two = scheme === "midpoint" && j > 1; // the first step is Euler's
      const k = two ? 2 * h : h;
      const [qn, pn] = two ? [qOld + k * dq, pOld + k * dp] : [q + k * dq, p + k * dp];
      [qOld, pOld, q, p] = [q, p, qn, pn];
      put(j, q, p);
    }
  } else if (scheme === "hamiltonian") {
    for (let j = 1; j <= steps; j++) {
      q += h * p;
      p += h * force(problem, q);
      put(j, q, p);
    }
  } else { // leapfrog: begins with half a kick
    let kick = (h / 2) * force(problem, q);
    let v = p - kick;
    for (let j = 1; j <= steps; j++) {
      v += 2 * kick;
      q += h * v;
      kick = (h / 2) * force(problem, q);
      put(j, q, v + kick);
    }
  }
  return out;
}

/** What is drawn over depth: the norm, or for the pendulum sqrt(2 H). */
const size = (problem, q, p) => Math.hypot(problem.nonlinear ? 2 * Math.sin(q / 2) : q, p);

/** exp(t A) y0 for a linear problem. */
function exact(problem, y0, t) {
  const [[a, b], [c, d]] = problem.matrix;
  const m = (a + d) / 2, s = ((a - d) ** 2) / 4 + b * c, w = Math.sqrt(Math.abs(s));
  const [co, si] = s < 0 ? [Math.cos(w * t), Math.sin(w * t) / w] : [Math.cosh(w * t), Math.sinh(w * t) / w];
  const e = Math.exp(m * t), [q, p] = y0;
  return [e * (co * q + si * ((a - m) * q + b * p)), e * (co * p + si * (c * q + (d - m) * p))];
}

/** An angle in [-pi, pi]. */
const wrap = (q) => q - 2 * Math.PI * Math.round(q / (2 * Math.PI));

// --------------------------------------------------------------------------------------------- the widget

function render({ model, el: host }) {
  const ui = skeleton(host, "step", model.get("title"));
  const { controls, panels, foot } = ui;
  const spec = model.get("spec");
  const compact = model.get("compact");
  const layerData = model.get("layer") || {};
  const N = spec.steps;
  const schemes = spec.schemes;
  const layer = layerData.h ? readLayer(layerData) : null;
  const problems = layer ? [...spec.problems, layer.problem] : spec.problems;
  const S = Object.fromEntries(schemes.map((s) => [s.name, s]));
  const P = Object.fromEntries(problems.map((p) => [p.name, p]));
  const state = { scheme: "", problem: "", h: 0, cursor: null, answer: null };

  // ---- skeleton
  if (compact) host.classList.add("rv-compact");
  host.dataset.mode = "page";
  const user = (change) => { stop(); choose(change); shared.push(state); };
  const problemBox = choice(ui, "problem", "Problem", problems, (problem) => user({ problem }));
  const schemeBox = choice(ui, "scheme", "Scheme", schemes, (scheme) => user({ scheme }), (s) => `rv-${s.name}`);
  const step = slider(ui, "h", "step size h", (k) => user({ h: k * state.unit }));
  const plane = svg("svg", { class: "rv-plane rv-square", "aria-hidden": "true" });
  const region = svg("svg", { class: "rv-region rv-square", "aria-hidden": "true" });
  const depth = svg("svg", { class: "rv-depth rv-wide", "aria-hidden": "true" });
  const play = make("button", { type: "button", class: "rv-play" }, "▶ run the blocks");
  if (!compact) controls.append(problemBox.box);
  controls.append(schemeBox.box);
  controls.after(schemeBox.why, step.box);
  panels.append(plane, ...(compact ? [] : [region]), depth);
  foot.prepend(play);

  function readLayer(d) {
    const f32 = unpack(d.eigenvalues, Float32Array);
    const lam = [];
    for (let i = 0; i < f32.length; i += 2) {
      lam.push([f32[i], f32[i + 1]]);
      if (f32[i + 1] > 0) lam.push([f32[i], -f32[i + 1]]);
    }
    return {
      h: d.h, steps: d.steps, quantum: d.quantum, schemes: d.schemes,
      plane: unpack(d.plane, Int16Array), norm: unpack(d.norm, Float32Array),
      problem: { ...d.problem, name: "layer", eigenvalues: lam, layer: true },
    };
  }

  // ---- what is computed
  const grid = (problem) => (problem.layer ? layer.h : null);
  const lambda = (problem) => problem.eigenvalues;
  const largest = (problem) => lambda(problem).reduce((a, b) => (C.abs(b) > C.abs(a) ? b : a));

  /** { states, sizes } of a scheme, or null where it has no meaning. */
  function run(scheme, problem, h) {
    if (problem.why[scheme]) return null;
    const a = state.answer;
    if (a && a.scheme === scheme && a.problem === problem.name && Math.abs(a.h - h) < 1e-12) return a;
    if (problem.layer) {
      const s = layer.schemes.indexOf(scheme), k = nearest(layer.h, h), n = layer.steps + 1;
      const o = (s * layer.h.length + k) * n;
      return {
        states: Float64Array.from(layer.plane.subarray(2 * o, 2 * (o + n)), (x) => x * layer.quantum),
        sizes: Float64Array.from(layer.norm.subarray(o, o + n)), source: "precomputed",
      };
    }
    const states = trajectory(scheme, problem, h, N);
    const sizes = Float64Array.from({ length: N + 1 }, (_, j) => size(problem, states[2 * j], states[2 * j + 1]));
    return { states, sizes, source: "page" };
  }
  const worst = (scheme, problem, h) =>
    Math.max(...lambda(problem).map((l) => growth(scheme, C.times(h, l))));
  const unstable = (g) => g > 1 + 1e-9;

  // ---- state in and out
  function bounds(problem) {
    const g = grid(problem);
    return g ? [g[0], g.at(-1), g[0]] : [spec.h_step, spec.h_max, spec.h_step];
  }
  const digits = (problem) => (problem.layer ? clamp(2 - Math.floor(Math.log10(layer.h[0])), 2, 6) : 2);
  const show = (h, problem) => h.toFixed(digits(problem));

  function choose(change) {
    const before = P[state.problem];
    Object.assign(state, change);
    const problem = P[state.problem];
    if (problem !== before) {
      const [lo, hi, unit] = bounds(problem);
      if (before && problem.layer !== before.layer) { // another unit of h: keep h * omega
        state.h *= C.abs(largest(before)) / C.abs(largest(problem));
      }
      // counted in steps, so that the slider's own rounding never enters
      step.bounds(Math.round(lo / unit), Math.round(hi / unit));
      state.unit = unit;
    }
    if (problem.why[state.scheme]) state.scheme = schemes.find((s) => !problem.why[s.name]).name;
    const k = clamp(Math.round(state.h / state.unit), Number(step.range.min), Number(step.range.max));
    state.h = problem.layer ? layer.h[k - 1] : k / Math.round(1 / state.unit);
    state.k = k;
    state.cursor = null;
    draw();
    askSoon();
  }
  let askTimer = 0;
  const askSoon = () => { // a kernel answers, a page does not
    clearTimeout(askTimer);
    const { scheme, problem, h } = state;
    askTimer = setTimeout(() => model.send({ kind: "recompute", scheme, problem, h }), 150);
  };

  // ---- drawing
  function drawPlane(problem, result) {
    // few choices for a layer, so that the window jumps seldom while the slider moves
    const far = problem.layer ? Math.max(...result.states.map(Math.abs)) : 0;
    const reach = problem.nonlinear ? Math.PI : problem.layer ? [1.6, 4, 10, 25].find((r) => far < 0.95 * r) || 25 : 2.2;
    const heading = problem.layer ? "a small change, in its main plane" : "state (q, p)";
    const { g, w, h, cx, cy, X, Y, scale } = square(ui, plane, "plane", { heading, reach });
    // the flow behind
    for (const d of flow(problem, reach)) {
      g.append(svg("path", { class: "rv-flow", d: path(d.map(([q, p]) => [X(q), Y(p)])) }));
    }
    const { states } = result, n = states.length / 2;
    if (!problem.layer && !problem.nonlinear) {
      const T = Math.min(state.h * N, problem.name === "centre" ? 2 * Math.PI : 12), m = 400;
      const pts = Array.from({ length: m + 1 }, (_, i) => exact(problem, problem.start, (T * i) / m));
      g.append(svg("path", { class: "rv-exact", d: path(pts.map(([q, p]) => [X(q), Y(p)])) }));
    } else if (problem.nonlinear) {
      g.append(svg("path", { class: "rv-exact", d: path(level(size(problem, ...problem.start) ** 2 / 2)[0].map(([q, p]) => [X(q), Y(p)])) }));
    }
    // the blocks
    const q = (j) => (problem.nonlinear ? wrap(states[2 * j]) : states[2 * j]);
    const pts = Array.from({ length: n }, (_, j) => [X(q(j)), Y(states[2 * j + 1])]);
    const jump = (j) => problem.nonlinear && j > 0 && Math.abs(q(j) - q(j - 1)) > Math.PI;
    g.append(svg("path", { class: `rv-path rv-${state.scheme}`, d: path(pts, jump) }));
    let left = null;
    pts.forEach(([x, y], j) => {
      const out = !(x >= 0 && x <= w && y >= 22 && y <= h);
      if (out && left === null && !problem.nonlinear) left = j;
      if (!out) {
        g.append(svg("circle", {
          class: `rv-dot rv-${state.scheme}`, cx: x.toFixed(2), cy: y.toFixed(2), r: 2.4,
          "fill-opacity": (0.3 + (0.7 * j) / n).toFixed(2),
        }));
      }
    });
    g.append(svg("circle", { class: "rv-start", cx: pts[0][0], cy: pts[0][1], r: 5 }));
    if (problem.layer) {
      for (const v of [-0.5, 0.5]) {
        const round = Number((v * reach).toPrecision(1));
        line(g, "rv-tick", X(round), cy - 3, X(round), cy + 3);
        label(g, X(round), cy - 7, String(round).replace("-", "−"), "rv-faint", "middle");
      }
    } else {
      label(g, w - 8, cy - 6, "q", "rv-var", "end");
      label(g, cx + 7, 38, "p", "rv-var");
    }
    if (left !== null) label(g, w / 2, h - 9, `leaves this window at block ${left}`, "rv-note rv-halo", "middle");
    state.planeScale = scale;
    state.marks = { plane: g, pts };
  }

  function flow(problem, reach) {
    if (problem.layer) return [];
    const curves = [];
    if (problem.nonlinear) {
      for (const e of [0.15, 0.7, 2, 3.2, 4.6]) curves.push(...level(e)); // energies; 2 is the separatrix
      return curves;
    }
    const starts = problem.name === "saddle"
      ? [0.35, 0.9, 1.6].flatMap((r) => [[r, 0], [-r, 0], [0, r], [0, -r]])
      : problem.name === "spiral" ? [0, 1, 2, 3].map((i) => [0, 0, i]) : [0.5, 1.5, 2].map((r) => [r, 0]);
    for (const s of starts) {
      const c = [];
      if (s.length === 3) { // four arms of the spiral
        const a = (s[2] * Math.PI) / 2;
        for (let i = 0; i <= 200; i++) c.push(exact(problem, [3 * Math.cos(a), 3 * Math.sin(a)], i * 0.12));
      } else {
        for (let i = -100; i <= 100; i++) {
          const y = exact(problem, s, i * (problem.name === "saddle" ? 0.025 : 0.0315));
          if (Math.hypot(...y) < 3 * reach) c.push(y);
        }
      }
      curves.push(c);
    }
    return curves;
  }
  /** The pendulum's curves of energy e: one round, or one over and one under. */
  function level(e) {
    const at = (q) => Math.sqrt(Math.max(0, 2 * (e - 1 + Math.cos(q))));
    const turn = Array.from({ length: 241 }, (_, i) => (2 * Math.PI * i) / 240);
    if (e < 2) {
      const top = Math.acos(1 - e);
      return [turn.map((a) => [top * Math.cos(a), Math.sign(Math.sin(a)) * at(top * Math.cos(a))])];
    }
    return [1, -1].map((sign) => turn.map((a) => [a - Math.PI, sign * at(a - Math.PI)]));
  }

  function drawRegion(problem, result) {
    const first = state.scheme === "euler" || state.scheme === "midpoint";
    const heading = first ? "hλ over the stability region" : "eigenvalues of one block";
    const { g, w, h, cx, cy, k, X, Y, scale } = square(ui, region, "region", { heading, reach: 2.9, dx: 0.3 });
    const arc = (r, x, cls) => g.append(svg("circle", { class: cls, cx: X(x), cy: Y(0), r: r * k }));
    const hue = `rv-${state.scheme}`;

    if (state.scheme === "euler") {
      for (const r of [2, 3]) { arc(r, -1, "rv-level"); label(g, X(-1), Y(r) + 4, String(r), "rv-faint rv-halo", "middle"); }
      arc(1, -1, `rv-area ${hue}`);
      label(g, X(-1), Y(0.42), "|1 + hλ| ≤ 1", "rv-note", "middle");
    } else if (state.scheme === "midpoint") {
      for (const r of [1.5, 2, 3, 4]) { // confocal ellipses: z = (r − 1/r)/2 turned by the argument of r
        const a = (r - 1 / r) / 2, b = (r + 1 / r) / 2;
        g.append(svg("ellipse", { class: "rv-level", cx: X(0), cy: Y(0), rx: a * k, ry: b * k }));
      }
      for (const r of [2, 3, 4]) label(g, X((r - 1 / r) / 2), Y(-0.55), String(r), "rv-faint rv-halo", "middle");
      g.append(svg("line", { class: `rv-segment ${hue}`, x1: X(0), y1: Y(-1), x2: X(0), y2: Y(1) }));
      label(g, X(0) + 8, Y(1) - 3, "i", "rv-note");
      label(g, X(0) + 8, Y(-1) + 12, "−i", "rv-note");
    } else {
      arc(1, 0, `rv-area ${hue}`);
      label(g, X(0), Y(1) - 6, "unit circle", "rv-note", "middle");
    }

    // where the dots go as h grows, then the dots themselves
    const [, hi] = bounds(problem);
    const dots = [];
    if (first) {
      const z = lambda(problem).map((l) => C.times(state.h, l));
      if (!problem.layer) {
        for (const l of lambda(problem)) line(g, `rv-way ${hue}`, X(0), Y(0), X(hi * l[0]), Y(hi * l[1]));
      }
      if (problem.nonlinear) { // the Jacobian moves with the state
        for (let j = 0; j < result.states.length / 2; j++) {
          const c = Math.cos(result.states[2 * j]), r = state.h * Math.sqrt(Math.abs(c));
          for (const s of [1, -1]) {
            g.append(svg("circle", {
              class: `rv-small ${hue}`, cx: X(c < 0 ? s * r : 0).toFixed(1), cy: Y(c < 0 ? 0 : s * r).toFixed(1), r: 1.5,
            }));
          }
        }
      }
      dots.push(...z.map((x) => [x, unstable(growth(state.scheme, x))]));
    } else {
      const ways = [[], []];
      for (let i = 0; i <= 240; i++) {
        const r = roots(state.scheme, C.times((hi * i) / 240, lambda(problem)[0]));
        r.forEach((v, n) => ways[n].push([X(v[0]), Y(v[1])]));
      }
      if (lambda(problem)[0][1] !== 0) {
        g.append(svg("path", { class: `rv-way ${hue}`, d: path([[X(-9), Y(0)], [X(-1), Y(0)]]) }));
      } else for (const d of ways) g.append(svg("path", { class: `rv-way ${hue}`, d: path(d) }));
      for (const r of roots(state.scheme, C.times(state.h, lambda(problem)[0]))) {
        dots.push([r, C.abs(r) > 1 + 1e-9]);
      }
    }
    for (const [z, bad] of dots) {
      const x = X(z[0]), y = Y(z[1]), r = problem.layer ? 2.2 : 5.5;
      if (beyond(g, w, h, x, y, `rv-mark ${hue}`)) {
        continue;
      } else if (bad && !problem.layer) {
        const s = 5;
        g.append(svg("path", {
          class: `rv-cross ${hue}`, transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})`,
          d: `M${-s} ${-s}L${s} ${s}M${s} ${-s}L${-s} ${s}`,
        }));
      } else {
        g.append(svg("circle", { class: `rv-mark ${hue}${problem.layer ? " rv-fine" : ""}`, cx: x.toFixed(2), cy: y.toFixed(2), r }));
      }
    }
    if (!first) interval(g, w, h, problem, hue);
    else label(g, w - 7, cy - 6, "Re", "rv-faint", "end");
    if (first) label(g, cx + 6, 36, "Im", "rv-faint");
    if (first) label(g, w - 8, h - 9, "lines: growth per block", "rv-faint rv-halo", "end");
    if (problem.layer) label(g, w - 8, h - 25, `largest |Re λ| = ${words(problem.real_part)} ρ`, "rv-faint rv-halo", "end");
    state.regionScale = scale;
    state.dots = dots.map(([z]) => z);
  }

  /** The interval h omega <= 2, under the unit circle. */
  function interval(g, w, h, problem, hue) {
    const y = h - 26, x0 = 22, x1 = w - 18, X = (v) => x0 + ((x1 - x0) * v) / 2.6;
    g.append(svg("rect", { class: "rv-paper", x: 1, y: y - 30, width: w - 2, height: 56 }));
    line(g, "rv-frame", X(0), y, X(2.6), y);
    g.append(svg("line", { class: `rv-segment ${hue}`, x1: X(0), y1: y, x2: X(2), y2: y }));
    for (const v of [0, 1, 2]) {
      line(g, "rv-tick", X(v), y + 4, X(v), y + 8);
      label(g, X(v), y + 20, String(v), "rv-faint", "middle");
    }
    label(g, x1, y + 20, "hω", "rv-faint", "end");
    const l = lambda(problem)[0];
    if (l[1] === 0) {
      label(g, X(0), y - 12, "no frequency ω here: λ = ±1 is real", "rv-note");
      return;
    }
    const v = state.h * C.abs(l);
    g.append(svg("path", { class: `rv-mark ${hue}`, d: "M0 -3L-6 -13L6 -13Z", transform: `translate(${X(v)} ${y})` }));
    label(g, clamp(X(v), 60, w - 60), y - 17, `hω = ${v.toFixed(2)}`, "rv-note", "middle");
  }

  function drawDepth(problem, result) {
    const beside = compact && Math.abs(depth.getBoundingClientRect().top - plane.getBoundingClientRect().top) < 2;
    // decades to show: few choices, so that the axis jumps seldom while the slider moves
    const s0 = problem.layer ? 1 : size(problem, ...problem.start);
    const seen = Array.from(result.sizes, (v) => Math.log10(v || 1e-9));
    if (!problem.layer && !problem.nonlinear) {
      for (let j = 0; j <= N; j++) seen.push(Math.log10(size(problem, ...exact(problem, problem.start, j * state.h))));
    }
    const CEIL = [1, 2, 4, 8].find((c) => Math.max(...seen) <= c) || 8;
    const FLOOR = [-1, -2, -4].find((c) => Math.min(...seen) >= c) || -4;
    const quantity = problem.layer ? "norm of a small change" : problem.nonlinear ? "√(2H), the size of the state" : "norm ‖y‖";
    const axes = decades(ui, depth, "depth", {
      heading: `${quantity} over depth`, height: beside ? plane.viewBox.baseVal.height : 220, floor: FLOOR, ceil: CEIL,
      x: { from: 0, to: N, ticks: [0, 25, 50, 75, 100].map((j) => [(j / 100) * N, String((j / 100) * N)]), title: "block j" },
    });
    const { g, x0, x1, y0, y1, X, Y, scale } = axes;
    const names = [];
    if (!problem.layer) {
      const pts = Array.from({ length: N + 1 }, (_, j) =>
        [X(j), Y(problem.nonlinear ? s0 : size(problem, ...exact(problem, problem.start, j * state.h)))]);
      g.append(svg("path", { class: "rv-exact", d: path(pts) }));
      names.push({ text: "exact", cls: "rv-exact-text", y: pts.at(-1)[1] });
    }
    const order = schemes.filter((s) => s.name !== state.scheme).concat(S[state.scheme]);
    for (const s of order) {
      const r = s.name === state.scheme ? result : run(s.name, problem, state.h);
      if (!r) continue;
      const pts = Array.from(r.sizes, (v, j) => [X(j), Y(v)]);
      const mine = s.name === state.scheme;
      g.append(svg("path", { class: `${mine ? "rv-path" : "rv-other"} rv-${s.name}`, d: path(pts) }));
      names.push({ text: s.title, cls: `rv-end rv-${s.name}${mine ? " rv-mine" : ""}`, y: pts.at(-1)[1], mine });
      if (mine) state.marks.depth = { g, pts, sizes: r.sizes, x0, x1, y0, y1 };
    }
    ends(depth, names, axes);
    state.depthScale = scale;
  }

  /** Over the slider: growth per block as a function of h, the stable part as a bar. */
  function drawStrip(problem) {
    const [w, h] = frame(step.strip, 52, 680);
    const [, hi] = bounds(problem), pad = 11; // half the slider's thumb
    const X = (v) => pad + ((w - 2 * pad) * (v - state.unit)) / (hi - state.unit);
    const base = h - 8, Y = (g) => base - (base - 5) * clamp(Math.log(g) / Math.log(6), 0, 1);
    const few = problem.layer ? [largest(problem)] : lambda(problem);
    const rate = (v) => Math.max(...few.map((l) => growth(state.scheme, C.times(v, l))));
    const pts = [];
    for (let i = 0; i <= 300; i++) {
      const v = state.unit + ((hi - state.unit) * i) / 300;
      pts.push([X(v), Y(rate(v))]);
    }
    const hue = `rv-${state.scheme}`;
    step.strip.append(svg("path", { class: `rv-hill ${hue}`, d: `${path(pts)}L${X(hi)} ${base}L${X(state.unit)} ${base}Z` }));
    step.strip.append(svg("path", { class: `rv-hill-line ${hue}`, d: path(pts) }));
    const crit = Math.min(problem.critical[state.scheme], hi);
    line(step.strip, "rv-grid", pad, base, w - pad, base);
    if (crit > state.unit) {
      step.strip.append(svg("line", { class: `rv-segment ${hue}`, x1: X(state.unit), y1: base, x2: X(crit), y2: base }));
      label(step.strip, X(state.unit), base - 6, X(crit) - X(state.unit) > 60 ? "stable" : "", "rv-note");
    }
    label(step.strip, w - pad - 2, base - 6, "growth per block", "rv-note rv-halo", "end");
    const x = X(state.h);
    line(step.strip, "rv-needle", x, Y(rate(state.h)), x, h);
    step.strip.append(svg("circle", { class: `rv-mark ${hue}`, cx: x, cy: Y(rate(state.h)), r: 3.5 }));
  }

  function drawTicks(problem) {
    const [, hi] = bounds(problem);
    const groups = new Map();
    for (const s of schemes) {
      const c = problem.why[s.name] ? 0 : problem.critical[s.name];
      if (c > 0 && c <= hi) {
        const key = c.toFixed(9);
        groups.set(key, { c, names: [...(groups.get(key)?.names || []), s] });
      }
    }
    for (const { h, text } of problem.marks || []) {
      if (h <= hi) groups.set(text, { c: h, names: [], text });
    }
    step.marks([...groups.values()].map(({ c, names, text: own }) => {
      const text = own || names.map((s) => s.title).join(", ");
      return {
        at: (c - state.unit) / (hi - state.unit), value: show(c, problem).replace(/\.?0+$/, ""), text,
        title: `set h to ${show(c, problem)}, ${own ? "" : "critical for "}${text}`,
        mine: names.some((s) => s.name === state.scheme), click: () => user({ h: c }),
      };
    }), "no step size is stable here");
  }

  function sentence(problem, result, g) {
    const name = capital(S[state.scheme].title), at = `h = ${show(state.h, problem)}`;
    const start = problem.layer ? 1 : result.sizes[0], end = result.sizes.at(-1) / start;
    const what = problem.layer ? "a small change of the state" : problem.nonlinear ? "the size of the state" : "the norm";
    const bad = unstable(g);
    const double = !bad && Math.abs(state.h - problem.critical[state.scheme]) < 1e-9 && state.scheme !== "euler";
    const where = problem.nonlinear ? "at rest" : problem.layer ? "at the first state" : "";
    let text = `${name} on the ${problem.title}, ${at}: `;
    if (problem.name === "saddle") text += `the largest root is ${g.toFixed(3)}; the equation itself grows, no step size can help. `;
    else if (bad) text += `unstable, ${where && `${where} `}the largest root is ${g.toFixed(3)} in modulus. `;
    else if (double) text += `exactly critical${where && ` ${where}`}: the roots coincide${problem.layer ? "" : ", and growth is linear in depth"}. `;
    else if (g < 1 - 1e-9) text += `stable, the largest root is ${g.toFixed(3)} in modulus. `;
    else text += `stable${where && ` ${where}`}, all roots have modulus 1. `;
    text += `After ${N} blocks ${what} is ${words(end)} times ${problem.layer ? "what it was" : "that of the start"}`;
    if (problem.layer) text += ".";
    else if (problem.nonlinear) text += "; exactly it would be 1.";
    else text += `; exactly it would be ${words(size(problem, ...exact(problem, problem.start, N * state.h)) / start)}.`;
    if (result.source === "kernel") text += ` Recomputed in Python (${result.device}).`;
    return text;
  }

  function draw() {
    const problem = P[state.problem];
    const result = run(state.scheme, problem, state.h);
    const g = worst(state.scheme, problem, state.h);
    const at = `h = ${show(state.h, problem)}`;
    problemBox.show(state.problem);
    schemeBox.show(state.scheme, problem.why);
    step.show(state.k, show(state.h, problem), `${at}, ${unstable(g) ? "unstable" : "stable"}`);
    ui.tell(sentence(problem, result, g));
    host.dataset.h = state.h;
    host.dataset.scheme = state.scheme;
    host.dataset.problem = state.problem;
    host.dataset.stable = String(!unstable(g));
    host.dataset.mode = result.source === "kernel" ? "live" : "page";
    drawStrip(problem);
    drawTicks(problem);
    drawPlane(problem, result);
    if (!compact) drawRegion(problem, result);
    drawDepth(problem, result);
    // what has just been drawn, for tests and for the curious
    host.revode = {
      h: state.h, scheme: state.scheme, problem: state.problem, source: result.source, growth: g,
      states: Array.from(result.states), sizes: Array.from(result.sizes), dots: state.dots,
      scale: { plane: state.planeScale, region: state.regionScale, depth: state.depthScale },
    };
    drawCursor();
  }

  // ---- one block pointed at, by the pointer or by playing
  function drawCursor() {
    host.querySelectorAll(".rv-cursor").forEach((e) => e.remove());
    const j = state.cursor;
    if (j === null || !state.marks) return;
    const { plane: g, pts, depth: d } = state.marks, hue = `rv-${state.scheme}`;
    if (!pts[j]) return;
    g.append(svg("circle", { class: `rv-cursor rv-mark ${hue}`, cx: clamp(pts[j][0], -99, 9999), cy: clamp(pts[j][1], -99, 9999), r: 6 }));
    const [x, y] = d.pts[j];
    d.g.append(svg("line", { class: "rv-cursor rv-needle", x1: x, y1: d.y0, x2: x, y2: d.y1 }));
    d.g.append(svg("circle", { class: `rv-cursor rv-mark ${hue}`, cx: x, cy: clamp(y, d.y0, d.y1), r: 5 }));
    const right = x > (d.x0 + d.x1) / 2;
    const t = svg("text", { class: "rv-cursor rv-note rv-halo", x: x + (right ? -9 : 9), y: d.y0 + 13, "text-anchor": right ? "end" : "start" },
      `block ${j}: ${words(d.sizes[j])}`);
    d.g.append(t);
  }
  depth.addEventListener("pointermove", (e) => {
    const box = depth.getBoundingClientRect(), d = state.marks?.depth;
    if (!d || !box.width) return;
    const x = ((e.clientX - box.left) / box.width) * depth.viewBox.baseVal.width;
    stop();
    state.cursor = clamp(Math.round(((x - d.x0) / (d.x1 - d.x0)) * N), 0, N);
    drawCursor();
  });
  depth.addEventListener("pointerleave", () => { state.cursor = null; drawCursor(); });
  let playing = 0;
  function stop() { cancelAnimationFrame(playing); playing = 0; play.textContent = "▶ run the blocks"; }
  play.addEventListener("click", () => {
    if (playing) { stop(); state.cursor = null; drawCursor(); return; }
    const begin = performance.now(), span = 4000;
    play.textContent = "■ stop";
    const tick = (now) => {
      const part = (now - begin) / span;
      state.cursor = part >= 1 ? null : Math.floor(part * (N + 1));
      drawCursor();
      if (part < 1) playing = requestAnimationFrame(tick); else stop();
    };
    playing = requestAnimationFrame(tick);
  });
  play.hidden = still();

  // ---- wiring
  const shared = bind(model, ["h", "scheme", "problem"], (change) => {
    if (!P[change.problem] || !S[change.scheme]) return;
    if (change.h !== state.h || change.scheme !== state.scheme || change.problem !== state.problem) choose(change);
  });
  const onExact = () => {
    const a = model.get("exact");
    if (!a || !a.states) return;
    state.answer = { ...a, states: unpack(a.states, Float64Array), sizes: unpack(a.sizes, Float64Array), source: "kernel" };
    if (a.scheme === state.scheme && a.problem === state.problem && Math.abs(a.h - state.h) < 1e-12) {
      draw();
    }
  };
  model.on("change:exact", onExact);
  const wanted = model.get("problem");
  choose({ scheme: model.get("scheme"), problem: P[wanted] ? wanted : problems[0].name, h: model.get("h") });
  const unwatch = watchWidth(panels, draw);
  return () => {
    stop();
    unwatch();
    clearTimeout(askTimer);
    ui.silence();
    shared.off();
    model.off("change:exact", onExact);
  };
}
export default { render };
