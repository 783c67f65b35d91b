// The image depth figure: one image at five moments of multilevel training. Stands behind shared.js.
// Nothing is computed here: the numbers are those of revode.widgets.image_depth_data, unpacked.

function render({ model, el: host }) {
  const data = model.get("data"), { classes, pictures, networks } = data;
  const N = Object.fromEntries(networks.map((n) => [n.name, n])), moments = networks[0].moments.length;
  const pixels = unpack(data.pixels, Uint8Array), side = Math.sqrt(pixels.length / pictures.length / 3);
  const levels = Object.fromEntries(networks.map((n) => [n.name, n.features.map((f) => unpack(f.levels, Uint8Array))]));
  const names = ["picture", "network", "moment"];

  const ui = skeleton(host, "moments", model.get("title"));
  const state = { picture: "", network: "", moment: 0 };
  const user = (change) => { choose(change); shared.push(state); };
  const which = choice(ui, "picture", "Image", pictures.map((p) => ({ name: p.class, title: p.class })), (picture) => user({ picture }));
  const whose = choice(ui, "network", "Network", networks, (network) => user({ network }), (n) => `rv-${n.hue}`);
  const time = slider(ui, "moment", "moment", (moment) => user({ moment }));
  time.strip.remove();
  time.bounds(0, moments - 1);
  ui.controls.append(which.box, whose.box);
  const photos = ["image", "unit1", "unit2", "unit3"].map((kind, n) => {
    const size = n ? networks[0].features[n - 1].side : side;
    const canvas = make("canvas", { width: size, height: size, role: "img", class: `rv-${kind}` });
    const head = make("p", { class: "rv-photo-head" }, n ? `end of unit ${n}` : "the image");
    const foot = make("p", { class: "rv-photo-foot" });
    return { canvas, head, foot, box: make("div", { class: "rv-photo" }, head, canvas, foot) };
  });
  ui.controls.after(time.box, make("div", { class: "rv-photos" }, ...photos.map((p) => p.box)));
  const bars = svg("svg", { class: "rv-bars rv-square", "aria-hidden": "true" });
  const moved = svg("svg", { class: "rv-moved rv-square", "aria-hidden": "true" });
  ui.panels.append(bars, moved);
  const why = make("p", { class: "rv-why" });
  ui.foot.after(why);

  // ---- words
  const percent = (p) => `${(100 * p).toFixed(p < 0.0995 || (p > 0.985 && p < 1) ? 1 : 0)}\u00a0%`;
  const list = (parts) => `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
  const blocks = (m) => m.units.join("-");
  const name = (m) => `${blocks(m)} ${m.kind === "doubled" ? "just doubled" : "trained"}`;
  const right = (m) => `${(100 * m.accuracy).toFixed(1)}\u00a0%`;

  function sentence(r) {
    const { net, m, probabilities, answer, truth } = r;
    let text = `${net.title}, ${name(m)}, h = ${m.h}: ${right(m)} of the first ${data.test_images.toLocaleString("en")} test images are told right. `;
    text += `The ${state.picture} is ${answer === truth ? "told right" : `taken for ${/^[aeiou]/.test(classes[answer]) ? "an" : "a"} ${classes[answer]}`}, `;
    text += `with a probability of ${percent(probabilities[answer])}`;
    text += answer === truth ? ". " : `; ${state.picture} has ${percent(probabilities[truth])}. `;
    if (!r.moved) return `${text}It is the first moment: there is none before it to compare with.`;
    const since = m.kind === "doubled" ? "The doubling" : `The training with ${blocks(m)} blocks`;
    return `${text}${since} moved its features at the ends of units 1, 2 and 3 by ${list(r.moved.map(percent))} of their norm.`;
  }

  // ---- drawing
  /** Fill a canvas; value(p, c) is channel c of pixel p, from 0 to 255. */
  function paint(canvas, value) {
    const ink = canvas.getContext("2d", { willReadFrequently: true }), drawing = ink.createImageData(canvas.width, canvas.height);
    for (let p = 0; p < canvas.width * canvas.height; p++) {
      for (let c = 0; c < 3; c++) drawing.data[4 * p + c] = value(p, c);
      drawing.data[4 * p + 3] = 255;
    }
    ink.putImageData(drawing, 0, 0);
  }

  function drawPhotos({ net, m, moved: by, i }) {
    paint(photos[0].canvas, (p, c) => pixels[3 * (side * side * i + p) + c]);
    photos[0].canvas.setAttribute("aria-label", `A test image of CIFAR-10: a ${state.picture}, ${side} by ${side} pixels.`);
    photos[0].foot.textContent = `${side} × ${side}, a ${state.picture}`;
    net.features.forEach((f, u) => {
      const { canvas, foot } = photos[u + 1], packed = levels[net.name][u];
      const first = (state.moment * pictures.length + i) * f.side * f.side;
      // two levels in a byte, from 0 to 15; 17 of 255 lie between two of them
      paint(canvas, (p, c) => { const k = 3 * (first + p) + c; return 17 * (k % 2 ? packed[k >> 1] & 15 : packed[k >> 1] >> 4); });
      canvas.setAttribute("aria-label", `Features at the end of unit ${u + 1}, ${name(m)}: ${f.side} by ${f.side} pixels, ` +
        `the three leading principal components of ${f.channels} channels as red, green and blue.`);
      foot.replaceChildren(`${f.side} × ${f.side}, ${f.channels} channels`, make("br"), make("b", {}, by ? `moved by ${percent(by[u])}` : "\u00a0"));
    });
  }

  function drawBars({ net, probabilities, truth, answer }) {
    const step = 20, [w] = frame(bars, 28 + step * classes.length, 330), x0 = 86, x1 = w - 46;
    label(bars, 0, 13, "probability of each class, ▸ the true one", "rv-head");
    const widths = probabilities.map((p, k) => {
      const y = 24 + step * k, width = (x1 - x0) * p;
      label(bars, x0 - 8, y + 13, `${k === truth ? "▸ " : ""}${classes[k]}`, k === truth ? "rv-note rv-mine" : "rv-note", "end");
      bars.append(svg("rect", { class: "rv-rail", x: x0, y: y + 3, width: x1 - x0, height: step - 6 }));
      bars.append(svg("rect", { class: `rv-bar rv-${net.hue}${k === answer ? "" : " rv-dim"}`, x: x0, y: y + 3, width, height: step - 6 }));
      label(bars, w, y + 13, percent(p), k === answer ? "rv-note rv-mine" : "rv-faint", "end");
      return width;
    });
    return { widths, full: x1 - x0 };
  }

  function drawMoved({ net, i }) {
    const most = Math.max(...net.moments.slice(1).flatMap((m) => m.moved.flat()));
    const every = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].find((s) => most / s <= 4) || 100, top = every * Math.ceil(most / every);
    const [w, h] = frame(moved, 228, 330), x0 = 44, x1 = w - 4, y0 = 26, y1 = h - 52;
    const Y = (v) => y1 - ((y1 - y0) * v) / top, group = (x1 - x0) / (moments - 1), step = Math.min(group / 3.6, 22);
    label(moved, 0, 13, "distance from the moment before / norm", "rv-head");
    for (let v = 0; v <= top + 1e-9; v += every) {
      line(moved, v ? "rv-grid" : "rv-axis", x0, Y(v), x1, Y(v));
      label(moved, x0 - 6, Y(v) + 4, `${(100 * v).toFixed(0)} %`, "rv-faint", "end");
    }
    net.moments.slice(1).forEach((m, k) => {
      const middle = x0 + group * (k + 0.5), mine = k + 1 === state.moment;
      m.moved[i].forEach((v, u) => {
        const x = middle + step * (u - 1);
        moved.append(svg("rect", {
          class: `rv-bar rv-${net.hue}${mine ? "" : " rv-dim"}`, x: x - 0.41 * step, width: 0.82 * step, y: Y(v), height: y1 - Y(v),
        }));
        label(moved, x, y1 + 15, String(u + 1), "rv-faint", "middle");
      });
      label(moved, middle, y1 + 32, blocks(m), mine ? "rv-note rv-mine" : "rv-faint", "middle");
      label(moved, middle, y1 + 46, m.kind, mine ? "rv-note rv-mine" : "rv-faint", "middle");
    });
    label(moved, x0 - 6, y1 + 15, "unit", "rv-faint", "end");
    return { y1, unit: (y1 - y0) / top };
  }

  function marks(net) {
    time.marks(net.moments.map((m, k) => ({
      at: k / (moments - 1), value: blocks(m), text: m.kind, title: `go to ${name(m)}`, mine: k === state.moment, click: () => user({ moment: k }),
    })));
  }

  function draw() {
    const net = N[state.network], m = net.moments[state.moment], i = pictures.findIndex((p) => p.class === state.picture);
    const probabilities = m.probabilities[i], answer = probabilities.indexOf(Math.max(...probabilities));
    const r = { net, m, i, probabilities, answer, truth: classes.indexOf(state.picture), moved: m.moved ? m.moved[i] : null };
    which.show(state.picture);
    whose.show(state.network);
    time.show(state.moment, `${blocks(m)} ${m.kind}: ${right(m)} right`, `${name(m)}, h = ${m.h}, ${right(m)} of the test images right`);
    marks(net);
    ui.tell(sentence(r));
    drawPhotos(r);
    const scale = { bars: drawBars(r), moved: drawMoved(r) };
    why.textContent = "Small pictures: the three leading principal components of the features in red, green and blue. Their basis and " +
      "their scale are those of all pixels, images and moments of a unit of this network, so that a colour means the same at all moments; " +
      `they hold ${list(net.features.map((f) => percent(f.variance)))} of the variance in the three units. Light distances: those of the other moments.`;
    Object.assign(host.dataset, state);
    // what has just been drawn, for tests and for the curious
    host.revode = { ...state, units: m.units, h: m.h, accuracy: m.accuracy, probabilities, moved: r.moved, scale };
  }

  function choose(change) { Object.assign(state, change); draw(); }
  const shared = bind(model, names, (change) => { if (names.some((n) => change[n] !== state[n])) choose(change); });
  choose(Object.fromEntries(names.map((n) => [n, model.get(n)])));
  const unwatch = watchWidth(ui.panels, draw);
  return () => { unwatch(); ui.silence(); shared.off(); };
}
export default { render };
