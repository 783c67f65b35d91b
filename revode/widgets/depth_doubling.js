// The depth doubling figure: features of a refined network. Stands behind shared.js.
// Nothing is computed here: the numbers are those of revode.widgets.depth_doubling_data, unpacked.

/** Networks by name, with the features [level][point] and the way [level][time] of either interpolation as [x, y]. */
function readNetworks({ networks, levels, classes }) {
  const pairs = (b64, q) => {
    const flat = unpack(b64, Int16Array);
    return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i] * q, flat[2 * i + 1] * q]);
  };
  const cut = (list, lengths) => { let at = 0; return lengths.map((n) => list.slice(at, (at += n))); };
  const one = (found, q) => ({
    ...found,
    features: cut(pairs(found.features, q), levels.map(() => classes.length)),
    ways: cut(pairs(found.ways, q), levels.map((l) => Math.min(2 ** l, 64) + 1)),
  });
  return Object.fromEntries(networks.map((n) => [n.name, { ...n, copy: one(n.copy, n.quantum), linear: one(n.linear, n.quantum) }]));
}

function render({ model, el: host }) {
  const data = model.get("data"), { levels, classes, time, followed } = data;
  const N = readNetworks(data), last = levels.at(-1);
  const ui = skeleton(host, "doubling", model.get("title"));
  const state = { network: "", interpolation: "", level: 0 };
  const user = (change) => { choose(change); shared.push(state); };
  const networkBox = choice(ui, "network", "Network", data.networks, (network) => user({ network }), (n) => `rv-${n.hue}`);
  const kinds = [{ name: "copy", title: "copies" }, { name: "linear", title: "linear" }];
  const kindBox = choice(ui, "interpolation", "New blocks", kinds, (interpolation) => user({ interpolation }));
  const depth = slider(ui, "level", "number of layers", (level) => user({ level }));
  depth.strip.remove();
  depth.bounds(levels[0], last);
  const plane = svg("svg", { class: "rv-plane rv-square", "aria-hidden": "true" });
  const gaps = svg("svg", { class: "rv-gaps rv-square", "aria-hidden": "true" });
  ui.controls.append(networkBox.box, kindBox.box);
  ui.controls.after(depth.box);
  ui.panels.append(plane, gaps);
  ui.foot.after(make("p", { class: "rv-why" },
    `Trained with ${2 ** levels[0]} layers, then refined without more training. Dots and rings: the first two features of the ` +
    `validation points at time ${time}, by class. Line: the way of one point.`));

  function choose(change) {
    Object.assign(state, change);
    draw();
  }

  // ---- drawing
  function drawPlane(net, found, k) {
    let reach = 0;
    for (const i of ["copy", "linear"]) for (const list of net[i].features) for (const p of list) reach = Math.max(reach, Math.abs(p[0]), Math.abs(p[1]));
    for (const list of found.ways) for (const p of list) reach = Math.max(reach, Math.abs(p[0]), Math.abs(p[1]));
    const axes = square(ui, plane, "plane", { heading: "two features at the end", reach: 1.05 * reach });
    const { g, X, Y } = axes;
    g.append(svg("path", { class: "rv-way-of-one", d: path(found.ways[k].map(([x, y]) => [X(x), Y(y)])) }));
    found.features[k].forEach(([x, y], i) => {
      const cls = classes[i] === "0" ? "rv-first" : "rv-second";
      g.append(svg("circle", { class: cls, cx: X(x).toFixed(2), cy: Y(y).toFixed(2), r: classes[i] === "0" ? 2.6 : 2.9 }));
    });
    const [x, y] = found.ways[k].at(-1);
    g.append(svg("circle", { class: "rv-followed", cx: X(x).toFixed(2), cy: Y(y).toFixed(2), r: 6 }));
    return axes.scale;
  }

  function drawGaps(net) {
    const at = Math.min(state.level, last - 1);
    const all = [...net.copy.gaps, ...net.linear.gaps].map(Math.log10);
    const axes = decades(ui, gaps, "gaps", {
      heading: "distance to twice the depth", height: (w) => Math.max(w, 240) + 22, fallback: 330, left: 40, right: 58,
      floor: Math.floor(Math.min(...all)), ceil: Math.max(0, Math.ceil(Math.max(...all))),
      x: { from: levels[0] - 0.2, to: last - 0.8, ticks: levels.slice(0, -1).map((l) => [l, String(2 ** l)]), title: "layers" },
    });
    const names = [];
    for (const { name, title } of kinds) {
      const pts = net[name].gaps.map((v, i) => [axes.X(levels[i]), axes.Y(v)]);
      const mine = name === state.interpolation;
      axes.g.append(svg("path", { class: `rv-path rv-${net.hue}${mine ? "" : " rv-dim"}`, d: path(pts) }));
      pts.forEach(([x, y], i) => axes.g.append(svg("circle", {
        class: `rv-dot rv-${net.hue}${mine ? "" : " rv-dim"}`, cx: x.toFixed(2), cy: y.toFixed(2), r: mine && levels[i] === at ? 5 : 3,
      })));
      names.push({ text: title, cls: `rv-end rv-${net.hue}${mine ? " rv-mine" : ""}`, y: pts.at(-1)[1] });
    }
    const first = axes.Y(net[state.interpolation].gaps[0]), run = axes.X(last - 1) - axes.X(levels[0]);
    const fall = axes.Ylog(0) - axes.Ylog(Math.log10(2) * (last - 1 - levels[0]));
    line(axes.g, "rv-roundoff", axes.X(levels[0]), first, axes.X(levels[0]) + run, first + fall);
    ends(gaps, names, axes);
    return axes.scale;
  }

  // ---- words
  function sentence(net, found, k) {
    const layers = 2 ** state.level, h = time / layers;
    const share = `${(100 * found.accuracy[k]).toFixed(1)} %`;
    let text = `${net.title}, ${layers} layers, h = ${h < 0.1 ? h.toPrecision(3) : h}: ${share} of the validation points are told right. `;
    if (k < found.gaps.length) {
      text += `Twice the depth moves the features by ${words(100 * found.gaps[k])} % of their size`;
      text += k ? `, ${words(found.gaps[k - 1] / found.gaps[k])} times less than the doubling before. ` : ". ";
    } else {
      text += `The last doubling moved the features by ${words(100 * found.gaps[k - 1])} % of their size. `;
    }
    return `${text}The dashed line falls as h does.`;
  }

  function draw() {
    const net = N[state.network], found = net[state.interpolation], k = levels.indexOf(state.level);
    networkBox.show(state.network);
    kindBox.show(state.interpolation);
    depth.show(state.level, String(2 ** state.level), `${2 ** state.level} layers, h = ${time / 2 ** state.level}`);
    ui.tell(sentence(net, found, k));
    const scale = drawPlane(net, found, k);
    drawGaps(net);
    Object.assign(host.dataset, state);
    // what has just been drawn, for tests and for the curious
    host.revode = {
      ...state, features: found.features[k], way: found.ways[k], gaps: found.gaps, accuracy: found.accuracy[k], scale, followed,
    };
  }

  const names = ["network", "interpolation", "level"];
  const shared = bind(model, names, (change) => { if (names.some((n) => change[n] !== state[n])) choose(change); });
  choose(Object.fromEntries(names.map((n) => [n, model.get(n)])));
  const unwatch = watchWidth(ui.panels, draw);
  return () => { unwatch(); ui.silence(); shared.off(); };
}
export default { render };
