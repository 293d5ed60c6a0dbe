// Parallel coordinates: an axis a column, a line a trial. What a trial has nothing of lies below the axis.

const parallel = { box: document.querySelector("#parallel .plot"), top: 46, foot: 26, left: 56, right: 56, ys: [], scales: [], drag: null };
const PER_PATH = 40;  // lines of one path: one of thousands is slow, and does not darken where lines cross

parallel.x = k => {
  const n = view.axes.length, { left, right, width } = parallel;
  return n > 1 ? left + k * (width - left - right) / (n - 1) : width / 2;
};
parallel.y = t => parallel.top + (1 - t) * parallel.tall;
parallel.t = y => 1 - (y - parallel.top) / parallel.tall;

parallel.draw = () => {
  parallel.box.style.minWidth = `${Math.max(300, view.axes.length * 74)}px`;
  parallel.width = parallel.box.clientWidth;  // asked once a drawing: each time costs a layout
  parallel.tall = parallel.box.clientHeight - parallel.top - parallel.foot;
  parallel.scales = view.axes.map(scale);
  const letters = one => Math.max(4, label(one.name).length / 2, ...one.ticks.map(([, text]) => Math.min(14, text.length)));
  const reach = one => one ? 24 + 6.2 * letters(one) : 0;
  [parallel.left, parallel.right] = [reach(parallel.scales[0]), reach(parallel.scales.at(-1))];
  const empty = parallel.y(0) + 15;
  parallel.ys = parallel.scales.map(({ name, place }) => Float32Array.from({ length: data.n }, (_, i) => {
    const v = value(name, i);
    return v === null ? empty : parallel.y(place(v));
  }));
  const { context } = canvas(parallel.box, "lines");
  context.lineJoin = "round";
  const out = [];
  for (let i = 0; i < data.n; i++) if (!view.isShown[i]) out.push(i);
  context.strokeStyle = css("--ghost");
  context.lineWidth = 1;
  parallel.stroke(context, out);
  const buckets = view.hue.shades.map(() => []);
  for (const i of view.shown) buckets[view.hue.of(i)].push(i);
  context.globalAlpha = Math.min(.9, Math.max(.16, 13 / Math.sqrt(view.shown.length || 1)));
  context.lineWidth = view.shown.length < 200 ? 1.6 : 1.1;
  buckets.forEach((some, bucket) => {
    context.strokeStyle = view.hue.shades[bucket];
    parallel.stroke(context, some);
  });
  parallel.drawAxes();
  parallel.drawNames();
  parallel.drawOver();
};

parallel.stroke = (context, some) => {
  const xs = view.axes.map((_, k) => parallel.x(k));
  for (let first = 0; first < some.length; first += PER_PATH) {
    context.beginPath();
    for (const i of some.slice(first, first + PER_PATH))
      xs.forEach((x, k) => k ? context.lineTo(x, parallel.ys[k][i]) : context.moveTo(x, parallel.ys[k][i]));
    context.stroke();
  }
};

parallel.drawAxes = () => {
  const { context } = canvas(parallel.box, "axes");
  const ink = css("--ink"), faint = css("--faint"), mark = css("--mark"), card = css("--card");
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  view.axes.forEach((name, k) => {
    const x = parallel.x(k), { ticks, place } = parallel.scales[k], brush = filter.brushes.get(name);
    context.strokeStyle = ink;
    context.globalAlpha = .55;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, parallel.y(1));
    context.lineTo(x, parallel.y(0));
    context.stroke();
    context.globalAlpha = 1;
    const right = k === view.axes.length - 1 && view.axes.length > 1;
    context.textAlign = right ? "left" : "right";
    const gap = column(name)?.about().gaps;
    const marks = gap ? [...ticks, [null, "none"]] : ticks;
    let before = Infinity;
    for (const [t, text] of marks) {
      const y = t === null ? parallel.y(0) + 15 : parallel.y(t);
      if (t !== null && Math.abs(before - y) < 11) continue;
      before = t === null ? before : y;
      const cut = text.length > 14 ? `${text.slice(0, 13)}…` : text, at = x + (right ? 7 : -7);
      context.lineWidth = 3;
      context.strokeStyle = card;
      context.strokeText(cut, at, y);
      context.fillStyle = t === null ? faint : ink;
      context.fillText(cut, at, y);
      context.fillRect(x - 2.5, y - .5, 5, 1);
    }
    if (brush) {
      const [a, b] = parallel.extent(name, brush, place);
      context.fillStyle = mark;
      context.globalAlpha = .22;
      context.fillRect(x - 9, parallel.y(b), 18, parallel.y(a) - parallel.y(b));
      context.globalAlpha = 1;
      context.strokeStyle = mark;
      context.lineWidth = 1.5;
      context.strokeRect(x - 9, parallel.y(b), 18, parallel.y(a) - parallel.y(b));
    }
  });
};

// Where on its axis a brush begins and ends.
parallel.extent = (name, brush, place) => {
  if (brush.at) return brush.at;
  return [Math.max(-.03, place(brush.low)), Math.min(1.03, place(brush.high))];
};

parallel.drawNames = () => {
  if (parallel.drag?.kind === "name") return;
  parallel.box.querySelectorAll(".name, .handle").forEach(one => one.remove());
  view.axes.forEach((name, k) => {
    const made = element("button", { className: "name", title: `${name}: click to colour by it, drag to move it, arrows too` }, label(name));
    made.classList.toggle("colours", view.colour === name);
    made.style.left = `${parallel.x(k)}px`;
    made.style.top = k % 2 && view.axes.length > 1 && parallel.x(1) - parallel.x(0) < 110 ? "20px" : "2px";
    made.dataset.name = name;
    const handle = element("div", { className: "handle" });  // a finger brushes here and scrolls elsewhere
    Object.assign(handle.style, { left: `${parallel.x(k)}px`, top: `${parallel.top}px`, height: `${parallel.tall + parallel.foot}px` });
    parallel.box.append(handle, made);
  });
};

parallel.drawOver = () => {
  const { context } = canvas(parallel.box, "over");
  const line = (i, colour, width) => {
    context.strokeStyle = css("--card");
    context.lineWidth = width + 3;
    parallel.stroke(context, [i]);
    context.strokeStyle = colour;
    context.lineWidth = width;
    parallel.stroke(context, [i]);
  };
  if (!data.n) return;
  view.kept.forEach((id, k) => data.at.has(id) && line(data.at.get(id), KINDS[k % KINDS.length], 2.4));
  if (view.over >= 0) line(view.over, css("--ink"), 2.4);
};

// The trial whose line passes nearest to a place, if it is near.
parallel.nearest = (px, py) => {
  const n = view.axes.length;
  if (n < 2) return -1;
  const wide = parallel.x(1) - parallel.x(0);
  const k = Math.min(n - 2, Math.max(0, Math.floor((px - parallel.left) / wide))), t = (px - parallel.x(k)) / wide;
  let best = -1, least = 7;
  for (const i of view.shown) {
    const off = Math.abs(parallel.ys[k][i] * (1 - t) + parallel.ys[k + 1][i] * t - py);
    if (off < least) { least = off; best = i; }
  }
  return best;
};

parallel.brush = (k, a, b) => {
  const { name, numeric, value: at, values } = parallel.scales[k];
  const [low, high] = [Math.max(-.03, Math.min(a, b)), Math.min(1.03, Math.max(a, b))];
  const brush = numeric ? { low: at(low), high: at(high) } : { among: new Set(values(low, high).map(String)), at: [low, high] };
  if (numeric && column(name).about().distinct.length === 1) [brush.low, brush.high] = low <= .5 && high >= .5 ? [at(0), at(0)] : [1, 0];
  brush.gaps = Math.min(a, b) < -.05;
  filter.brushes.set(name, brush);
};

parallel.begin = event => {
  const [px, py] = inside(event, parallel.box), button = event.target.closest(".name");
  if (button) {
    parallel.drag = { kind: "name", button, from: px, name: button.dataset.name, moved: false };
    button.setPointerCapture(event.pointerId);
    return;
  }
  const k = view.axes.findIndex((_, j) => Math.abs(parallel.x(j) - px) < 16);
  if (k < 0 || py < parallel.top - 10) return;
  const brush = filter.brushes.get(view.axes[k]), t = parallel.t(py);
  parallel.drag = { kind: "brush", k, from: t, y: py, moved: false };
  if (brush) {
    const [a, b] = parallel.extent(view.axes[k], brush, parallel.scales[k].place), edge = 7 / parallel.tall;
    if (Math.abs(t - a) < edge) parallel.drag.from = b;
    else if (Math.abs(t - b) < edge) parallel.drag.from = a;
    else if (t > a && t < b) Object.assign(parallel.drag, { kind: "slide", a, b });
  }
  parallel.box.setPointerCapture(event.pointerId);
  event.preventDefault();
};

parallel.move = event => {
  const [px, py] = inside(event, parallel.box), drag = parallel.drag;
  if (!drag) {
    if (event.pointerType !== "touch") hover(event.target.closest(".name") ? -1 : parallel.nearest(px, py), event);
    return;
  }
  if (drag.kind === "name") {
    drag.moved ||= Math.abs(px - drag.from) > 5;
    if (!drag.moved) return;
    drag.button.style.left = `${px}px`;
    const to = view.axes.findIndex((_, j) => Math.abs(parallel.x(j) - px) < (parallel.x(1) - parallel.x(0)) / 2);
    if (to >= 0 && view.axes[to] !== drag.name) {
      pick("axes", move(view.axes, drag.name, to));
      later();
    }
    return;
  }
  drag.moved ||= Math.abs(py - drag.y) > 3;
  if (!drag.moved) return;
  const t = parallel.t(py);
  if (drag.kind === "slide") parallel.brush(drag.k, drag.a + t - drag.from, drag.b + t - drag.from);
  else parallel.brush(drag.k, drag.from, t);
  refilter();
};

parallel.end = event => {
  const drag = parallel.drag;
  parallel.drag = null;
  if (!drag) {
    if (event.type === "pointerup" && !event.target.closest(".name")) keep(parallel.nearest(...inside(event, parallel.box)));
    return;
  }
  if (drag.kind === "name" && !drag.moved) pick("colour", drag.name);
  if (drag.kind !== "name" && !drag.moved) filter.brushes.delete(view.axes[drag.k]);
  refilter();
  remember();
};

function move(list, one, to) {
  const rest = list.filter(other => other !== one);
  return [...rest.slice(0, to), one, ...rest.slice(to)];
}

function inside(event, box) {
  const at = box.getBoundingClientRect();
  return [event.clientX - at.left, event.clientY - at.top];
}

parallel.box.addEventListener("pointerdown", parallel.begin);
parallel.box.addEventListener("pointermove", parallel.move);
parallel.box.addEventListener("pointerup", parallel.end);
parallel.box.addEventListener("pointercancel", parallel.end);
parallel.box.addEventListener("pointerleave", () => parallel.drag || hover(-1));
parallel.box.addEventListener("keydown", event => {
  const name = event.target.dataset?.name, by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!name) return;
  if (event.key === "Enter" || event.key === " ") pick("colour", name);
  else if (by) pick("axes", move(view.axes, name, Math.max(0, view.axes.indexOf(name) + by)));
  else return;
  event.preventDefault();
  draw();
  remember();
  parallel.box.querySelector(`.name[data-name="${CSS.escape(name)}"]`)?.focus();
});
