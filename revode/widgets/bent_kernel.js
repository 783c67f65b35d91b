// A kernel bent from symmetric over general to antisymmetric: eigenvalues, numerical range, growth of a small change.
// Stands behind shared.js. Eigenvalues come precomputed; the Jacobian and its exponential are computed here, and
// tests/test_site_bent_kernel.py holds them against revode.analysis and scipy.

// ------------------------------------------------------------------------------------ matrices, row by row

function product(a, b, n) {
  const c = new Float64Array(n * n);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < n; k++) {
      const x = a[i * n + k];
      if (x !== 0) for (let j = 0; j < n; j++) c[i * n + j] += x * b[k * n + j];
    }
  }
  return c;
}
function apply(a, v, n) {
  return Float64Array.from({ length: n }, (_, i) => v.reduce((s, x, j) => s + a[i * n + j] * x, 0));
}
function applyTransposed(a, v, n) {
  const out = new Float64Array(n);
  for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) out[j] += a[i * n + j] * v[i];
  return out;
}
/** exp(t A) for so small a t that the series is short. */
function exponential(a, t, n) {
  let term = Float64Array.from({ length: n * n }, (_, i) => (i % (n + 1) === 0 ? 1 : 0));
  const sum = Float64Array.from(term);
  for (let k = 1; k <= 20; k++) {
    term = product(term, a, n).map((x) => (x * t) / k);
    term.forEach((x, i) => { sum[i] += x; });
  }
  return sum;
}
/** The largest singular value by the power method, from a vector that it moves to the singular one. */
function norm(a, v, n) {
  let last = 0;
  for (let k = 0; k < 200; k++) {
    const w = applyTransposed(a, apply(a, v, n), n), size = Math.hypot(...w);
    w.forEach((x, i) => { v[i] = x / size; });
    if (Math.abs(size - last) <= 1e-7 * size) return Math.sqrt(size);
    last = size;
  }
  return Math.sqrt(last);
}

function render({ model, el: host }) {
  const spec = model.get("spec");
  const P = Object.fromEntries(spec.kernels.map((k) => [k.name, readKernel(k)]));
  const activations = [{ name: "linear", title: "linear" }, { name: "tanh", title: "tanh" }];
  const ui = skeleton(host, "bent", model.get("title"));
  const state = { kernel: "", activation: "", bend: 0 };
  const user = (change) => { choose(change); shared.push(state); };
  const kernelBox = choice(ui, "kernel", "Kernel K", spec.kernels, (kernel) => user({ kernel }));
  const activationBox = choice(ui, "activation", "Activation", activations, (activation) => user({ activation }));
  const about = make("p", { class: "rv-about" });
  const bend = slider(ui, "bend", "bend κ of K − κ Kᵀ", (k) => user({ bend: k / spec.per_unit }));
  bend.strip.remove();
  bend.bounds(-spec.per_unit, spec.per_unit);
  ui.controls.append(kernelBox.box, activationBox.box);
  ui.controls.after(about, bend.box);
  const plane = svg("svg", { class: "rv-plane rv-square", "aria-hidden": "true" });
  const growth = svg("svg", { class: "rv-growth", "aria-hidden": "true" });
  ui.panels.append(plane, growth);

  function readKernel(k) {
    const spectra = {};
    for (const [name, s] of Object.entries(k.spectra)) {
      spectra[name] = {
        reach: s.reach, bounds: unpack(s.bounds, Float32Array),
        values: Float64Array.from(unpack(s.eigenvalues, Int16Array), (x) => x * s.quantum),
      };
    }
    const [kernel, at, change] = [k.kernel, k.state, k.change].map((x) => unpack(x, Float32Array));
    return { ...k, kernel, at, change, spectra };
  }

  // ---- what is computed
  const index = (kappa) => Math.round(kappa * spec.per_unit) + spec.per_unit;
  /** Eigenvalues at one bend. */
  function eigenvalues(problem, i) {
    const { values } = problem.spectra[state.activation], n = problem.size;
    return Array.from({ length: n }, (_, j) => [values[2 * (i * n + j)], values[2 * (i * n + j) + 1]]);
  }
  /** diag(s') (K - kappa K^T), and the slopes s'. */
  function jacobian(problem) {
    const { kernel, at, size: n } = problem;
    const j = Float64Array.from(kernel, (x, i) => x - state.bend * kernel[(i % n) * n + Math.floor(i / n)]);
    const slopes = state.activation === "tanh" ? apply(j, at, n).map((x) => 1 - Math.tanh(x) ** 2) : new Float64Array(n).fill(1);
    return { slopes, j: j.map((x, i) => x * slopes[Math.floor(i / n)]) };
  }
  /** Over the times: the norm of exp(t J), and that of one change, exact up to rounding at any length of a step. */
  function follow(problem, j) {
    const n = problem.size, step = exponential(j, spec.time / spec.points, n);
    let flow = step, v = Float64Array.from(problem.change);
    const direction = Float64Array.from({ length: n }, (_, i) => Math.cos(i + 1));
    const worst = [1], one = [Math.hypot(...v)];
    for (let k = 1; k <= spec.points; k++) {
      if (k > 1) flow = product(flow, step, n);
      v = apply(step, v, n);
      worst.push(norm(flow, direction, n));
      one.push(Math.hypot(...v));
    }
    return { worst, one };
  }

  // ---- drawing
  function drawPlane(problem, lam, at) {
    const reach = Math.max(...activations.map((a) => problem.spectra[a.name].reach)) * 1.08;
    const { g, w, h, cx, X, Y, scale } = square(ui, plane, "plane", { heading: "eigenvalues λ in the complex plane", reach });
    const x0 = X(at.low), x1 = X(at.high);
    g.append(svg("rect", { class: "rv-belt", x: x0, y: 22, width: Math.max(0, x1 - x0), height: w }));
    for (const x of [x0, x1]) line(g, "rv-belt-edge", x, 22, x, h);
    for (const v of [-1, 1]) {
      line(g, "rv-tick", X(v), Y(0) - 3, X(v), Y(0) + 3);
      label(g, X(v), Y(0) + 15, signed(v, 0), "rv-faint", "middle");
      line(g, "rv-tick", cx - 3, Y(v), cx + 3, Y(v));
      label(g, cx - 6, Y(v) + 4, v === 1 ? "i" : "−i", "rv-faint", "end");
    }
    // where they stand at kappa = 0, and the way from there
    const zero = index(0), here = index(state.bend);
    let trail = "";
    for (let i = Math.min(zero, here); i <= Math.max(zero, here); i++) {
      for (const [a, b] of eigenvalues(problem, i)) trail += `M${X(a).toFixed(1)} ${Y(b).toFixed(1)}h0`;
    }
    g.append(svg("path", { class: "rv-trail", d: trail }));
    for (const [a, b] of eigenvalues(problem, zero)) g.append(svg("circle", { class: "rv-ghost", cx: X(a), cy: Y(b), r: 4 }));
    for (const [a, b] of lam) {
      g.append(svg("circle", { class: "rv-mark rv-midpoint", cx: X(a).toFixed(2), cy: Y(b).toFixed(2), r: 4.5 }));
    }
    if (state.bend !== 0) label(g, w - 8, h - 9, "rings: κ = 0", "rv-faint", "end");
    state.plane = scale;
  }

  function drawGrowth(times, { worst, one }, at) {
    const beside = Math.abs(growth.getBoundingClientRect().top - plane.getBoundingClientRect().top) < 2;
    const seen = [...worst, ...one].map(Math.log10), law = times.map((t) => at.rate * t * Math.LOG10E);
    const FLOOR = -[0.3, 1, 2, 4].find((d) => Math.min(...seen, Math.max(law.at(-1), -4)) >= -d);
    const CEIL = [1, 2, 4, 8].find((d) => Math.max(...seen) <= d) || 16;
    const axes = decades(ui, growth, "growth", {
      heading: "growth of a small change", height: beside ? plane.viewBox.baseVal.height : 250, fallback: 380,
      floor: FLOOR, ceil: CEIL, right: 88,
      x: { from: 0, to: spec.time, ticks: [0, 1, 2, 3].map((i) => [(i * spec.time) / 3, String((i * spec.time) / 3)]), title: "time t" },
    });
    const { g, X, Y, Ylog } = axes;
    // nothing grows faster than the strip's right edge says, the eigenvalues say what remains in the long run
    const lines = [
      ["strip’s edge", "rv-slope", "rv-slope-text", times.map((t) => [X(t), Ylog(at.high * t * Math.LOG10E)])],
      ["eigenvalues", "rv-exact", "rv-exact-text", times.map((t, k) => [X(t), Ylog(law[k])])],
      ["one change", "rv-path rv-one rv-midpoint", "rv-end rv-midpoint", one.map((v, k) => [X(times[k]), Y(v)])],
      ["worst change", "rv-path rv-worst rv-euler", "rv-end rv-euler rv-mine", worst.map((v, k) => [X(times[k]), Y(v)])],
    ];
    for (const [, cls, , points] of lines) g.append(svg("path", { class: cls, d: path(points) }));
    ends(growth, lines.map(([text, , cls, points]) => ({ text, cls, y: points.at(-1)[1] })), axes);
    state.growth = axes.scale;
  }

  function sentence(problem, times, at, { worst, one }, slopes) {
    const n = problem.size, end = times.at(-1), last = worst.at(-1), most = Math.max(...worst), on = at.off < 1e-9;
    let text = `${capital(problem.name)} kernel, κ = ${signed(state.bend, 2)}, ${state.activation}: `;
    if (on) text += `all ${n} eigenvalues are on the imaginary axis, the largest |Re λ| is ${words(at.off)} of the largest |λ|. `;
    else if (state.bend === -1) text += `all ${n} eigenvalues are real, the rightmost is ${signed(at.rate, 2)}, the strip ends at ${signed(at.high, 2)}. `;
    else text += `the rightmost of ${n} eigenvalues has Re λ = ${signed(at.rate, 2)}, the strip ends at ${signed(at.high, 2)}. `;
    if (on && most < 1 + 1e-6) return `${text}The strip is the axis itself, and every change keeps its size.`;
    if (on) {
      const bound = Math.sqrt(Math.max(...slopes) / Math.min(...slopes));
      return `${text}The strip is not, since slopes stand before the antisymmetric matrix: the worst change grows, `
        + `up to ${words(most)} times by time ${end}, but never more than √(largest slope / smallest slope) = ${words(bound)} times.`;
    }
    if (at.rate < 0) {
      text += most > 1.05
        ? `Every eigenvalue says decay, yet the worst change first grows, to ${words(most)} times its size at time ${times[worst.indexOf(most)].toFixed(0)}. `
        : "Every eigenvalue says decay, and no change grows much. ";
    }
    return `${text}By time ${end} the worst change is ${words(last)} times its size, one change ${words(one.at(-1))} times; `
      + `exp(t max Re λ) is ${words(Math.exp(at.rate * end))}.`;
  }

  function draw() {
    const problem = P[state.kernel], i = index(state.bend);
    const [rate, off, low, high] = problem.spectra[state.activation].bounds.subarray(4 * i, 4 * i + 4);
    const at = { rate, off, low, high }, lam = eigenvalues(problem, i);
    const { j, slopes } = jacobian(problem), result = follow(problem, j);
    const times = result.worst.map((_, k) => (k * spec.time) / spec.points);
    kernelBox.show(state.kernel);
    activationBox.show(state.activation);
    about.textContent = `${problem.about}. ${state.activation === "tanh" ? "The slopes are those of tanh at a fixed random state. " : ""}`
      + "Time is measured so that the largest frequency of K − Kᵀ is 1.";
    bend.show(Math.round(state.bend * spec.per_unit), signed(state.bend, 2),
      `kappa = ${signed(state.bend, 2)}, ${off < 1e-9 ? "all eigenvalues on the imaginary axis" : `rightmost eigenvalue at ${signed(rate, 2)}`}`);
    bend.marks([[-1, "symmetric"], [0, "K itself"], [1, "antisymmetric"]].map(([kappa, text]) => ({
      at: (kappa + 1) / 2, value: signed(kappa, 0), text, title: `set kappa to ${kappa}, ${text}`,
      mine: kappa === state.bend, click: () => user({ bend: kappa }),
    })));
    ui.tell(sentence(problem, times, at, result, slopes));
    drawPlane(problem, lam, at);
    drawGrowth(times, result, at);
    Object.assign(host.dataset, { kernel: state.kernel, activation: state.activation, bend: state.bend });
    host.revode = {
      kernel: state.kernel, activation: state.activation, bend: state.bend, eigenvalues: lam, ...at,
      jacobian: Array.from(j), times, ...result, scale: { plane: state.plane, growth: state.growth },
    };
  }
  function choose(change) {
    Object.assign(state, change);
    state.bend = (index(clamp(state.bend, -1, 1)) - spec.per_unit) / spec.per_unit;
    draw();
  }

  const names = ["kernel", "activation", "bend"];
  const shared = bind(model, names, (change) => {
    if (P[change.kernel] && names.some((k) => change[k] !== state[k])) choose(change);
  });
  choose(Object.fromEntries(names.map((k) => [k, model.get(k)])));
  const unwatch = watchWidth(ui.panels, draw);
  return () => { unwatch(); ui.silence(); shared.off(); };
}
export default { render };
