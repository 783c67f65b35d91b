// Points on their way through a trained residual or momentum network: four rings in the plane, or numbers on a line.
// Stands behind shared.js. Weights come from Python; the states are computed here, and tests/test_site_rings.py holds
// them against revode.Stage.

function render({ model, el: host }) {
  const spec = model.get("spec"), N = spec.depth, H = spec.hidden;
  const points = Float64Array.from(unpack(spec.points, Float32Array)), labels = spec.labels;
  const weights = Object.fromEntries(Object.entries(spec.problems).map(([name, p]) => [
    name, p.weights.map((list) => list.map((text) => unpack(text, Float32Array))),
  ]));
  const ui = skeleton(host, "rings", model.get("title"));
  const state = { problem: "", c: 0, trained: 0, block: 0 };
  const user = (change) => { stop(); choose(change); shared.push(state); };
  const problems = [{ name: "rings", title: "four rings" }, { name: "line", title: "x → −x³" }];
  const problemBox = choice(ui, "problem", "Problem", problems, (problem) => user({ problem }));
  const momentum = slider(ui, "c", "momentum c", (k) => user({ c: spec.momenta[k] }));
  const training = slider(ui, "trained", "steps of training", (trained) => user({ trained }));
  const depth = slider(ui, "block", "blocks", (block) => user({ block }));
  for (const s of [momentum, training, depth]) s.strip.remove();
  momentum.bounds(0, spec.momenta.length - 1);
  training.bounds(0, spec.problems.rings.kept.length - 1);
  depth.bounds(0, N);
  const small = make("div", { class: "rv-pair" }, training.box, depth.box);
  ui.controls.append(problemBox.box);
  ui.controls.after(momentum.box, small);
  const left = svg("svg", { class: "rv-now rv-square", "aria-hidden": "true" });
  const right = svg("svg", { class: "rv-input rv-square", "aria-hidden": "true" });
  ui.panels.append(left, right);
  const play = make("button", { type: "button", class: "rv-play" }, "▶ train");
  ui.foot.prepend(play);

  // ---- what is computed
  /** After 0, 1, ..., N blocks: the coordinates of all points, one after the other. */
  function states(w, x, d, c) {
    const b1 = H * d, w2 = b1 + H, b2 = w2 + d * H, all = [x];
    let v = new Float64Array(x.length);
    for (let j = 0; j < N; j++) {
      const now = all[j], next = new Float64Array(x.length), nextV = new Float64Array(x.length);
      for (let i = 0; i < x.length; i += d) {
        const f = new Float64Array(d);
        for (let k = 0; k < H; k++) {
          let u = w[b1 + k];
          for (let a = 0; a < d; a++) u += w[k * d + a] * now[i + a];
          const s = Math.tanh(u);
          for (let a = 0; a < d; a++) f[a] += w[w2 + a * H + k] * s;
        }
        for (let a = 0; a < d; a++) {
          nextV[i + a] = c * v[i + a] + (1 - c) * (f[a] + w[b2 + a]);
          next[i + a] = now[i + a] + nextV[i + a];
        }
      }
      v = nextV;
      all.push(next);
    }
    return all;
  }
  /** How many of 0..N blocks' points are where they belong: logit of class 1 minus that of class 0, for each point. */
  function margins(w, x) {
    const at = H * 2 + H + 2 * H + 2, normal = [w[at + 2] - w[at], w[at + 3] - w[at + 1]], offset = w[at + 5] - w[at + 4];
    return { normal, offset, value: labels.map((_, i) => normal[0] * x[2 * i] + normal[1] * x[2 * i + 1] + offset) };
  }

  // ---- drawing
  function axesOf(node, name, heading, x, y) {
    const [w, h] = frame(node, (v) => Math.min(v, 400) * 0.86 + 30, 330), x0 = 34, x1 = w - 8, y0 = 22, y1 = h - 34;
    label(node, 0, 13, heading, "rv-head");
    const X = (v) => x0 + ((x1 - x0) * (v - x.from)) / (x.to - x.from), Y = (v) => y1 - ((y1 - y0) * (v - y.from)) / (y.to - y.from);
    for (const v of y.ticks) {
      line(node, v === 0 ? "rv-axis" : "rv-grid", x0, Y(v), x1, Y(v));
      label(node, x0 - 6, Y(v) + 4, signed(v, 0), "rv-faint", "end");
    }
    for (const v of x.ticks) {
      line(node, "rv-tick", X(v), y1, X(v), y1 + 4);
      label(node, X(v), y1 + 16, signed(v, 0), "rv-faint", "middle");
    }
    label(node, (x0 + x1) / 2, h - 3, x.title, "rv-faint", "middle");
    return { g: clip(ui, node, name, x0, y0, x1 - x0, y1 - y0), x0, x1, y0, y1, X, Y };
  }
  function cloud(g, X, Y, x, wrong) {
    labels.forEach((k, i) => {
      const at = { cx: X(x[2 * i]).toFixed(2), cy: Y(x[2 * i + 1]).toFixed(2) };
      g.append(svg("circle", { class: `rv-point ${k ? "rv-midpoint" : "rv-euler"}${wrong[i] ? " rv-wrong" : ""}`, ...at, r: wrong[i] ? 4 : 2.6 }));
    });
  }
  function reachOf(x) {
    let most = 0;
    for (const v of x) most = Math.max(most, Math.abs(v));
    return most * 1.08 || 1;
  }
  function drawRings(w, c) {
    const all = states(w, points, 2, c), last = margins(w, all[N]), wrong = labels.map((k, i) => last.value[i] > 0 !== (k === 1));
    const now = all[state.block], reach = reachOf(now);
    const plane = square(ui, left, "now", { heading: `after ${state.block} of ${N} blocks`, reach });
    cloud(plane.g, plane.X, plane.Y, now, wrong);
    if (state.block === N) {
      const { normal: [a, b], offset } = last, size = Math.hypot(a, b) || 1, far = 4 * reach, p = [(-offset * a) / size ** 2, (-offset * b) / size ** 2];
      line(plane.g, "rv-needle rv-border", plane.X(p[0] - (b / size) * far), plane.Y(p[1] + (a / size) * far), plane.X(p[0] + (b / size) * far), plane.Y(p[1] - (a / size) * far));
    }
    const start = square(ui, right, "input", { heading: "the input, ringed where it ends wrong", reach: reachOf(points) });
    cloud(start.g, start.X, start.Y, points, wrong);
    const count = wrong.filter(Boolean).length, share = 1 - count / labels.length;
    const text = `${Math.round(100 * share)} % of ${labels.length} points end on the right side of the classifier’s line.`;
    return { text, accuracy: share, states: all.map((s) => Array.from(s)), scale: plane.scale };
  }
  function drawLine(w, c) {
    const x = Float64Array.from(spec.inputs), all = states(w, x, 1, c), now = all[state.block];
    const most = Math.max(1.1, ...all.map(reachOf)), top = most > 1.5 ? Math.ceil(most) : most;
    const ticks = Array.from({ length: 2 * Math.floor(top) + 1 }, (_, i) => i - Math.floor(top)).filter((v) => top < 5 || v % 2 === 0);
    const hue = c ? "rv-momentum" : "rv-euler", y = { from: -top, to: top, ticks };
    const way = axesOf(left, "now", "x over depth", { from: 0, to: N, ticks: [0, 5, 10, 15], title: "block" }, y);
    for (let i = 0; i < x.length; i += 10) {
      way.g.append(svg("path", { class: `rv-path rv-fine ${hue}`, d: path(all.map((s, j) => [way.X(j), way.Y(s[i])])) }));
    }
    line(way.g, "rv-needle", way.X(state.block), way.y0, way.X(state.block), way.y1);
    const map = axesOf(right, "input", `x after ${state.block} of ${N} blocks, over the input`, { from: -1, to: 1, ticks: [-1, 0, 1], title: "input" }, y);
    map.g.append(svg("path", { class: "rv-exact", d: path(spec.inputs.map((v) => [map.X(v), map.Y(-(v ** 3))])) }));
    map.g.append(svg("path", { class: `rv-path rv-out ${hue}`, d: path(spec.inputs.map((v, i) => [map.X(v), map.Y(now[i])])) }));
    label(right, map.X(-0.74), map.Y(0.74), "−x³", "rv-exact-text");
    // the trapezoidal rule: half weight at the two ends
    const average = (error) => x.reduce((s, v, i) => s + error(v, i) / (i % (x.length - 1) ? 1 : 2), 0) / (x.length - 1);
    const mse = average((v, i) => (all[N][i] + v ** 3) ** 2), zero = average((v) => v ** 6);
    let up = 0;
    for (let i = 1; i < x.length; i++) up += all[N][i] > all[N][i - 1];
    const order = up === x.length - 1 ? "All inputs keep their order." : up === 0 ? "The order of all inputs is reversed." : "The order of some inputs is reversed.";
    const text = `the mean squared error of the output is ${mse < 0.01 ? mse.toFixed(4) : mse.toFixed(3)}; the output 0 would have ${zero.toFixed(3)}. ${order}`;
    return { text, mse, states: all.map((s) => Array.from(s)), scale: { x0: map.x0, x1: map.x1, y0: map.y0, y1: map.y1, top } };
  }
  function draw() {
    const problem = spec.problems[state.problem], k = nearest(spec.momenta, state.c), steps = problem.kept[state.trained];
    const stepsText = steps.toLocaleString("en"), last = spec.momenta.length - 1;
    problemBox.show(state.problem);
    const cText = state.c === 0 ? "0, the ResNet" : String(state.c);
    momentum.show(k, cText, `momentum ${cText}`);
    momentum.marks([[0, "ResNet"], [nearest(spec.momenta, 0.9), ""], [last, ""]].map(([i, text]) => ({
      at: i / last, value: String(spec.momenta[i]), text, title: `set c to ${spec.momenta[i]}`, mine: i === k, click: () => user({ c: spec.momenta[i] }),
    })));
    training.show(state.trained, stepsText, `after ${stepsText} steps of training`);
    depth.show(state.block, String(state.block), `after ${state.block} of ${N} blocks`);
    const found = (state.problem === "rings" ? drawRings : drawLine)(weights[state.problem][k][state.trained], state.c);
    const who = state.c === 0 ? "ResNet (c = 0)" : `Momentum, c = ${state.c}`;
    ui.tell(`${who}, ${steps ? `after ${stepsText} steps of training` : "untrained"}: ${found.text}`, !playing);
    Object.assign(host.dataset, { problem: state.problem, c: state.c, trained: state.trained, block: state.block });
    host.revode = { ...state, steps, ...found };
  }
  function choose(change) {
    Object.assign(state, change);
    state.c = spec.momenta[nearest(spec.momenta, state.c)];
    state.trained = clamp(state.trained, 0, spec.problems.rings.kept.length - 1);
    state.block = clamp(state.block, 0, N);
    draw();
  }

  // ---- training, played step by step
  let playing = 0;
  function stop() { clearTimeout(playing); playing = 0; play.textContent = "▶ train"; }
  function next() {
    const end = spec.problems[state.problem].kept.length - 1;
    if (state.trained >= end) { stop(); draw(); shared.push(state); return; }
    choose({ trained: state.trained + 1 });
    playing = setTimeout(next, 650);
  }
  play.addEventListener("click", () => {
    if (playing) { stop(); draw(); shared.push(state); return; }
    play.textContent = "■ stop";
    playing = setTimeout(next, 650);
    choose({ trained: 0, block: N });
  });
  play.hidden = still();

  const names = ["problem", "c", "trained", "block"];
  const shared = bind(model, names, (change) => {
    if (spec.problems[change.problem] && names.some((n) => change[n] !== state[n])) { stop(); choose(change); }
  });
  choose(Object.fromEntries(names.map((n) => [n, model.get(n)])));
  const unwatch = watchWidth(ui.panels, draw);
  return () => { stop(); unwatch(); ui.silence(); shared.off(); };
}
export default { render };
