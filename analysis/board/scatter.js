// A score against either size, side by side: round marks are dense models, triangles mixtures of experts.

const scatters = [...document.querySelectorAll("#scatter figure")].map((figure, k) => ({
  k, box: figure.querySelector(".plot"), select: figure.querySelector("select"), left: 52, right: 12, top: 10, foot: 26, drag: null,
}));
const BARS = 250;  // trials up to which standard errors are drawn
const MARGIN = .04;  // of the axis, beyond its ends

for (const one of scatters) {
  one.px = t => one.left + (MARGIN + t * (1 - 2 * MARGIN)) * one.wide;
  one.py = t => one.top + (1 - MARGIN - t * (1 - 2 * MARGIN)) * one.tall;
  one.tx = x => ((x - one.left) / one.wide - MARGIN) / (1 - 2 * MARGIN);
  one.ty = y => (1 - MARGIN - (y - one.top) / one.tall) / (1 - 2 * MARGIN);

  one.draw = () => {
    one.x = scale(view.x[one.k]);
    one.y = scale(view.y);
    one.box.setAttribute("aria-label", `${label(view.y)} against ${label(view.x[one.k])}`);
    const { context, width, height } = canvas(one.box, "marks");
    one.wide = width - one.left - one.right;
    one.tall = height - one.top - one.foot;
    one.frame(context, width, height);
    const xs = column(view.x[one.k])?.values ?? [], ys = column(view.y)?.values ?? [];
    one.places = new Float32Array(2 * data.n).fill(NaN);
    for (let i = 0; i < data.n; i++) {
      if (xs[i] == null || ys[i] == null) continue;
      one.places[2 * i] = one.px(one.x.place(xs[i]));
      one.places[2 * i + 1] = one.py(one.y.place(ys[i]));
    }
    const count = view.shown.length, radius = count < 150 ? 4.5 : count < 1200 ? 3.4 : 2.6;
    context.fillStyle = css("--ghost");
    for (let i = 0; i < data.n; i++) if (!view.isShown[i]) one.mark(context, i, radius);
    if (count <= BARS) one.bars(context);
    context.globalAlpha = count < 150 ? .92 : count < 1200 ? .75 : .6;
    const buckets = view.hue.shades.map(() => []);
    for (const i of view.shown) buckets[view.hue.of(i)].push(i);
    buckets.forEach((some, bucket) => {
      context.fillStyle = view.hue.shades[bucket];
      for (const i of some) one.mark(context, i, radius);
    });
    one.drawOver();
  };

  one.frame = (context, width, height) => {
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    const each = (ticks, upright) => {
      let before = -Infinity;
      for (const [t, text] of [...ticks].sort((a, b) => a[0] - b[0])) {
        const at = upright ? one.py(t) : one.px(t), room = upright ? 12 : 12 + 6 * text.length;
        context.strokeStyle = css("--grid");
        context.beginPath();
        if (upright) { context.moveTo(one.left, at); context.lineTo(width - one.right, at); }
        else { context.moveTo(at, one.top); context.lineTo(at, height - one.foot); }
        context.stroke();
        if (Math.abs(at - before) < room) continue;
        before = at;
        context.fillStyle = css("--faint");
        context.textAlign = upright ? "right" : "center";
        context.textBaseline = upright ? "middle" : "top";
        context.fillText(text.slice(0, 12), upright ? one.left - 6 : at, upright ? at : height - one.foot + 6);
      }
    };
    each(one.x.ticks, false);
    each(one.y.ticks, true);
  };

  one.mark = (context, i, r) => {
    const x = one.places[2 * i], y = one.places[2 * i + 1];
    if (Number.isNaN(x)) return;
    context.beginPath();
    if (value("kind", i) === "MoE") {
      context.moveTo(x, y - 1.25 * r);
      context.lineTo(x + 1.15 * r, y + .9 * r);
      context.lineTo(x - 1.15 * r, y + .9 * r);
    } else context.arc(x, y, r, 0, 2 * Math.PI);
    context.fill();
  };

  one.bars = context => {
    context.strokeStyle = css("--faint");
    context.globalAlpha = .5;
    context.beginPath();
    for (const i of view.shown) {
      const e = column(view.y)?.error(i), x = one.places[2 * i], v = value(view.y, i);
      if (!e || Number.isNaN(x) || !one.y.numeric) continue;
      const y = by => Math.min(one.top + one.tall, Math.max(one.top, one.py(one.y.place(v + by))));
      context.moveTo(x, y(e) || one.top);
      context.lineTo(x, y(-e) || one.py(0));
    }
    context.stroke();
    context.globalAlpha = 1;
  };

  one.drawOver = () => {
    const { context } = canvas(one.box, "over");
    if (!one.places) return;
    const ring = (i, colour) => {
      if (Number.isNaN(one.places[2 * i])) return;
      context.fillStyle = colour;
      one.mark(context, i, 5.5);
      context.strokeStyle = css("--ink");
      context.lineWidth = 1.6;
      context.beginPath();
      context.arc(one.places[2 * i], one.places[2 * i + 1], 9, 0, 2 * Math.PI);
      context.stroke();
    };
    view.kept.forEach((id, k) => data.at.has(id) && ring(data.at.get(id), KINDS[k % KINDS.length]));
    if (view.over >= 0) ring(view.over, view.hue.shades[view.hue.of(view.over)]);
    if (one.drag?.moved) {
      const [x, y] = one.drag.from, [u, v] = one.drag.to;
      context.fillStyle = css("--mark");
      context.globalAlpha = .16;
      context.fillRect(Math.min(x, u), Math.min(y, v), Math.abs(u - x), Math.abs(v - y));
      context.globalAlpha = 1;
    }
  };

  one.nearest = (x, y) => {
    let best = -1, least = 14 ** 2;
    for (const i of view.shown) {
      const off = (one.places[2 * i] - x) ** 2 + (one.places[2 * i + 1] - y) ** 2;
      if (off < least) { least = off; best = i; }
    }
    return best;
  };

  one.choose = () => {
    const [x, y] = one.drag.from, [u, v] = one.drag.to;
    for (const [name, s, a, b] of [[view.x[one.k], one.x, one.tx(x), one.tx(u)], [view.y, one.y, one.ty(y), one.ty(v)]]) {
      const [low, high] = [Math.min(a, b), Math.max(a, b)];
      filter.brushes.set(name, s.numeric ? { low: s.value(low), high: s.value(high) } : { among: new Set(s.values(low, high).map(String)), at: [low, high] });
    }
  };

  one.box.addEventListener("pointerdown", event => {
    one.drag = { from: inside(event, one.box), to: inside(event, one.box), moved: false };
    if (event.pointerType !== "touch") one.box.setPointerCapture(event.pointerId);
  });
  one.box.addEventListener("pointermove", event => {
    const at = inside(event, one.box);
    if (!one.drag || event.pointerType === "touch") return hover(one.nearest(...at), event);
    one.drag.to = at;
    one.drag.moved ||= Math.hypot(at[0] - one.drag.from[0], at[1] - one.drag.from[1]) > 5;
    return one.drawOver();
  });
  one.box.addEventListener("pointerup", () => {
    const drag = one.drag;
    if (!drag) return;
    if (drag.moved) one.choose();
    else {
      const found = one.nearest(...drag.from);
      if (found >= 0) keep(found);
      else for (const name of [view.x[one.k], view.y]) filter.brushes.delete(name);
    }
    one.drag = null;
    refilter();
    remember();
  });
  for (const kind of ["pointercancel", "pointerleave"]) one.box.addEventListener(kind, () => { one.drag = null; hover(-1); });
}
