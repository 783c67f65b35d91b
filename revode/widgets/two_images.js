// Two nearby images on their way through a trained network: the pictures, their distance over depth, their classes.
// Stands behind shared.js. Draws what revode.widgets.two_images_data computed; only the changed pictures are made here,
// by the same sum and the same clipping.

function render({ model, el: host }) {
  const spec = model.get("spec"), { changes, classes, pictures, blocks } = spec;
  const names = ["picture", "direction", "h", "change"], directions = Object.keys(spec.directions);
  const [pixels, patterns] = [unpack(spec.pixels, Uint8Array), unpack(spec.patterns, Int8Array)];
  const [distances, sizes] = [spec.distances, spec.sizes].map((s) => unpack(s, Int16Array));
  const [answers, probabilities] = [unpack(spec.answers, Uint8Array), unpack(spec.probabilities, Uint16Array)];
  const states = blocks.reduce((n, b) => n + b + 1, 0), plane = pixels.length / pictures.length / 3, side = Math.sqrt(plane);
  const values = (a, row) => Array.from(a.subarray(row * states, (row + 1) * states), (v) => 10 ** (v * spec.quantum));

  const ui = skeleton(host, "images", model.get("title"));
  const state = { picture: "", direction: "", h: 0, change: 0 };
  const user = (change) => { choose(change); shared.push(state); };
  const which = choice(ui, "picture", "Picture", pictures.map((p) => ({ name: p.class, title: p.class })), (picture) => user({ picture }));
  const way = choice(ui, "direction", "Changed in a direction that is", directions.map((d) => ({ name: d, title: spec.directions[d] })), (direction) => user({ direction }));
  const amount = slider(ui, "change", "size of the change", (k) => user({ change: changes[k] }));
  const step = slider(ui, "h", "step size h", (k) => user({ h: spec.h[k] }));
  for (const [s, grid] of [[amount, changes], [step, spec.h]]) { s.strip.remove(); s.bounds(0, grid.length - 1); }
  ui.controls.append(which.box, way.box, amount.box, step.box);
  const photos = ["one", "other", "difference"].map((kind) => {
    const canvas = make("canvas", { width: side, height: side, role: "img", class: `rv-${kind}` });
    const head = make("p", { class: "rv-photo-head" }), foot = make("p", { class: "rv-photo-foot" });
    return { canvas, head, foot, box: make("div", { class: "rv-photo" }, head, canvas, foot) };
  });
  ui.panels.before(make("div", { class: "rv-photos" }, ...photos.map((p) => p.box)));
  const depth = svg("svg", { class: "rv-depth rv-wide", "aria-hidden": "true" });
  ui.panels.append(depth);

  // ---- what was computed
  /** All that belongs to the present choice. */
  function look() {
    const i = pictures.findIndex((p) => p.class === state.picture), d = directions.indexOf(state.direction);
    const k = spec.h.indexOf(state.h), e = changes.indexOf(state.change), { greys, left } = pictures[i];
    const row = ((i * directions.length + d) * spec.h.length + k) * (changes.length + 1);
    const answer = (n) => {
      const at = (i * spec.h.length + k) * (1 + directions.length * changes.length) + n;
      return { name: classes[answers[at]], probability: probabilities[at] / 65535 };
    };
    const near = changes.map((_, n) => answer(1 + d * changes.length + n)), own = answer(0);
    const [apart, law, norm] = [values(distances, row + e), values(distances, row + changes.length), values(sizes, i * spec.h.length + k)];
    const pattern = patterns.subarray(3 * plane * (d ? i + 1 : 0), 3 * plane * (d ? i + 2 : 1));
    const strongest = pattern.reduce((m, v) => Math.max(m, Math.abs(v)), 0) * greys[d]; // grey levels at a change of 1
    return {
      i, e, own, other: near[e], greys: state.change * greys[d], strongest, left: left[d][e] / state.change, pattern,
      // all divided by the first distance, as in the chapter
      distance: apart.map((v) => v / apart[0]), law: law.map((v) => v / law[0]), size: norm.map((v) => v / apart[0]),
      first: near.findIndex((a) => a.name !== own.name),
    };
  }
  /** [unit, block] of a state, both counted from 1, block 0 before the first. */
  function place(j) {
    let u = 0;
    while (j > blocks[u]) { j -= blocks[u] + 1; u += 1; }
    return [u + 1, j];
  }
  const beginning = (u) => blocks.slice(0, u).reduce((n, b) => n + b + 1, 0);

  // ---- drawing
  function drawPhotos(r) {
    const image = pixels.subarray(3 * plane * r.i, 3 * plane * (r.i + 1));
    const other = Float64Array.from(image, (v, n) => clamp(v + r.greys * r.pattern[n], 0, 255));
    const most = other.reduce((m, v, n) => Math.max(m, Math.abs(v - image[n])), 0);
    const factor = [10000, 5000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1].find((f) => f * most <= 127.5) || 0.5;
    const shown = [image, other, other.map((v, n) => 127.5 + factor * (v - image[n]))];
    const grey = `${words(most)} of 255 grey levels`;
    const names = [`a ${state.picture}`, most < 0.5 ? "its neighbour, equal in 8 bits" : "its neighbour", `difference × ${factor}`];
    const change = `a change of ${state.change} times its norm in a direction that is ${spec.directions[state.direction]}`;
    const alts = [
      `The picture of ${names[0]}, ${side} by ${side} pixels.`,
      `Its neighbour: the same picture with ${change}, at most ${grey}.`,
      `The difference of the two pictures, ${factor} times as strong, around grey.`,
    ];
    const said = (a) => [make("b", {}, a.name), ` ${percent(a.probability)}`];
    const feet = [said(r.own), said(r.other), [`at most ${grey}`]];
    photos.forEach(({ canvas, head, foot }, n) => {
      const ink = canvas.getContext("2d", { willReadFrequently: true }), drawing = ink.createImageData(side, side);
      for (let p = 0; p < plane; p++) {
        for (let c = 0; c < 3; c++) drawing.data[4 * p + c] = Math.round(shown[n][c * plane + p]);
        drawing.data[4 * p + 3] = 255;
      }
      ink.putImageData(drawing, 0, 0);
      canvas.setAttribute("aria-label", alts[n]);
      head.textContent = names[n];
      foot.replaceChildren(...feet[n]);
    });
    photos[1].foot.classList.toggle("rv-differs", r.own.name !== r.other.name);
    return { most, factor };
  }

  function drawDepth(r) {
    const narrow = depth.getBoundingClientRect().width < 480;
    const floor = Math.min(...r.law) < 0.15 ? -2 : -1;
    const ticks = blocks.flatMap((b, u) => [[beginning(u), u && narrow ? "" : "0"], [beginning(u) + b, String(b)]]);
    const axes = decades(ui, depth, "depth", {
      heading: "distance of the two states / first distance", height: 300, floor, ceil: 3, x: { from: -0.3, to: states - 0.7, ticks, title: "blocks of each unit" },
    });
    const { g, X, Y, y0, y1 } = axes;
    blocks.forEach((_, u) => {
      const x = X(beginning(u));
      if (u) g.append(svg("line", { class: "rv-pool", x1: X(beginning(u) - 0.5), x2: X(beginning(u) - 0.5), y1: y0, y2: y1 }));
      label(g, x, y1 - 6, `unit ${u + 1}`, "rv-faint rv-halo");
      if (u && !narrow) label(g, X(beginning(u) - 0.5) - 4, y1 - 20, "pooling", "rv-faint rv-halo", "end");
    });
    const broken = (k) => place(k)[1] === 0;
    const curve = (v, cls, name) => {
      const points = v.map((d, k) => [X(k), Y(d)]);
      g.append(svg("path", { class: cls, d: path(points, broken) }));
      return { text: name, cls: cls.startsWith("rv-path") ? cls.replace("rv-path", "rv-end rv-mine") : "rv-exact-text", y: points.at(-1)[1] };
    };
    const list = [curve(r.size, "rv-size", "state’s norm"), curve(r.law, "rv-exact", "linear law")];
    const growth = spec.exponents.growth?.[String(state.h)];
    if (growth) { // of the state, by revode lyapunov
      const points = growth.map((v, k) => [X(k), Y(v)]), [x, y] = points.at(-1);
      g.append(svg("path", { class: "rv-leading rv-leapfrog", d: path(points) }));
      label(g, x, y - 8, narrow ? "λ₁" : "worst change, λ₁", "rv-end rv-leapfrog rv-halo", "end");
    } else if (spec.exponents.growth) {
      const measured = Object.keys(spec.exponents.growth).sort((v, w) => v - w).join(", ");
      label(g, X(0), y1 - 38, narrow ? `λ₁: at h = ${measured}` : `λ₁ was measured at h = ${measured}`, "rv-faint rv-halo");
    }
    list.push(curve(r.distance, "rv-path rv-hamiltonian", "distance"));
    r.distance.forEach((v, k) => g.append(svg("circle", { class: "rv-dot rv-hamiltonian", cx: X(k).toFixed(2), cy: Y(v).toFixed(2), r: 3 })));
    ends(depth, list, axes);
    state.axes = axes;
    return { ...axes.scale, growth: growth || null };
  }

  const percent = (p) => (p > 0.9995 ? "over 99.9\u00a0%" : `${(100 * p).toFixed(p > 0.985 ? 1 : 0)}\u00a0%`);
  const a = (name) => `${/^[aeiou]/.test(name) ? "an" : "a"} ${name}`;

  function sentence(r) {
    const { distance, law, size } = r, end = blocks[0], own = state.h === spec.own_h;
    const where = state.direction === "random" ? "a random direction" : "the direction that the network stretches most";
    let text = `Step size ${state.h}: the picture of ${a(state.picture)} and its neighbour, changed by ${state.change} of its norm in ${where}`;
    text += `${own || state.direction === "random" ? "" : ` at h = ${spec.own_h}`}. `;
    if (r.left < 0.9995) text += `What would be darker than black or lighter than white is clipped, which leaves ${words(r.left)} of the change. `;
    text += `After unit 1 their distance is ${words(distance[end])} times the first one, after all blocks ${words(distance.at(-1))} times; `;
    text += `the linear law says ${words(law[end])} and ${words(law.at(-1))}. `;
    text += `At the end it is ${words((100 * distance.at(-1)) / size.at(-1))}\u00a0% of the norm of the picture’s own state. `;
    const off = distance.findIndex((v, k) => Math.abs(v / law[k] - 1) > 0.1);
    if (off < 0) text += "The law is nowhere off by more than a tenth. ";
    else {
      const [u, b] = place(off);
      text += `The law is first off by more than a tenth ${b ? `after block ${b}` : "at the entry"} of unit ${u}. `;
    }
    text += own ? "The network calls " : `The network, trained at h = ${spec.own_h}, calls `;
    if (r.own.name === r.other.name) text += `both ${a(r.own.name)} (${percent(r.own.probability)} and ${percent(r.other.probability)})`;
    else text += `the picture ${a(r.own.name)} (${percent(r.own.probability)}), its neighbour ${a(r.other.name)} (${percent(r.other.probability)})`;
    return `${text}. ${r.first < 0 ? "No change on this slider gets another name." : `The smallest change on this slider that gets another name is ${changes[r.first]}.`}`;
  }

  function marks(r) {
    const seen = changes.findIndex((e) => e * r.strongest >= 0.5), list = [];
    const mark = (k, text) => list.push({
      at: k / (changes.length - 1), value: String(changes[k]), text, title: `set the size of the change to ${changes[k]}, ${text}`,
      mine: k === r.e, click: () => user({ change: changes[k] }),
    });
    if (seen >= 0) mark(seen, "8 bits differ");
    if (r.first >= 0) mark(r.first, "another class");
    amount.marks(list);
    const k = spec.h.indexOf(spec.own_h);
    step.marks([{
      at: k / (spec.h.length - 1), value: String(spec.own_h), text: "the network’s own", title: `set h to ${spec.own_h}, the network’s own`,
      mine: state.h === spec.own_h, click: () => user({ h: spec.own_h }),
    }]);
  }

  function draw() {
    const r = look();
    which.show(state.picture);
    way.show(state.direction);
    amount.show(r.e, String(state.change), `change ${state.change}, the neighbour is called ${a(r.other.name)}`);
    step.show(spec.h.indexOf(state.h), String(state.h), `h = ${state.h}, the picture is called ${a(r.own.name)}`);
    marks(r);
    const photo = drawPhotos(r), scale = drawDepth(r);
    ui.tell(sentence(r));
    host.dataset.same = String(r.own.name === r.other.name);
    host.revode = {
      ...Object.fromEntries(names.map((n) => [n, state[n]])), distance: r.distance, law: r.law, size: r.size, left: r.left,
      own: r.own, other: r.other, first: r.first < 0 ? null : changes[r.first], ...photo, scale,
    };
  }

  // ---- one state pointed at
  depth.addEventListener("pointermove", (event) => {
    depth.querySelectorAll(".rv-cursor").forEach((e) => e.remove());
    const box = depth.getBoundingClientRect(), { x0, x1, y0, y1, X, Y, g } = state.axes, { distance, law } = host.revode;
    const x = ((event.clientX - box.left) / box.width) * depth.viewBox.baseVal.width;
    const k = clamp(Math.round(((x - x0) / (x1 - x0)) * (states - 0.4) - 0.3), 0, states - 1), [u, b] = place(k);
    const right = k > states / 2, text = `${b ? `block ${b}` : "entry"} of unit ${u}: ${words(distance[k])}, law ${words(law[k])}`;
    g.append(svg("line", { class: "rv-cursor rv-needle", x1: X(k), x2: X(k), y1: y0, y2: y1 }));
    g.append(svg("circle", { class: "rv-cursor rv-mark rv-hamiltonian", cx: X(k), cy: Y(distance[k]), r: 5 }));
    g.append(svg("text", { class: "rv-cursor rv-note rv-halo", x: X(k) + (right ? -9 : 9), y: y0 + 13, "text-anchor": right ? "end" : "start" }, text));
  });
  depth.addEventListener("pointerleave", () => depth.querySelectorAll(".rv-cursor").forEach((e) => e.remove()));

  function choose(change) { Object.assign(state, change); draw(); }
  const shared = bind(model, names, (change) => { if (names.some((n) => change[n] !== state[n])) choose(change); });
  choose(Object.fromEntries(names.map((n) => [n, model.get(n)])));
  const unwatch = watchWidth(ui.panels, draw);
  return () => { unwatch(); ui.silence(); shared.off(); };
}
export default { render };
