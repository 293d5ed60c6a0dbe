// The trials that were kept, side by side: how they went, what differs between them, how to get at them.

const panel = document.getElementById("trial");
const curves = new Map();  // of each kept trial, once they were asked for
let metric = "loss";

function keep(i) {
  const id = value("id", i);
  if (id === null) return;
  view.kept = view.kept.includes(id) ? view.kept.filter(one => one !== id) : [...view.kept, id].slice(-6);
  drawTrials();
  drawOver();
  table.fill();
  remember();
}

function drawTrials() {
  const ids = view.kept.filter(id => data.at.has(id)), at = ids.map(id => data.at.get(id));
  panel.hidden = !ids.length;
  document.body.classList.toggle("aside", ids.length > 0);
  if (!ids.length) return;
  const close = element("button", { onclick: () => { view.kept = []; drawTrials(); drawOver(); table.fill(); remember(); } }, "Close");
  const siblings = element("button", { onclick: () => alike(at[0]), title: "Look at all seeds and learning rates of the first one's model" }, "Its siblings");
  const top = element("div", { className: "row" }, element("h2", {}, ids.length > 1 ? `${ids.length} trials` : value("name", at[0]) ?? ids[0]), element("span", { className: "grow" }), siblings, close);
  const parts = [top];
  for (const i of at) if (value("reason", i)) parts.push(element("p", { className: "reason" }, `${value("state", i)}: ${value("reason", i)}`));
  if (ABOUT.live && at.some(i => ["done", "diverged"].includes(value("state", i)))) parts.push(curveBox(ids));
  parts.push(facts(at));
  for (const id of ids) parts.push(commands(id, value("state", data.at.get(id))));
  panel.replaceChildren(...parts);
  drawCurves(ids);
}

function alike(i) {
  const model = value("model", i), task = value("task", i);
  document.getElementById("query").value = filter.query = [model, `task=${task}`].join(" ");
  refilter();
  remember();
}

// A row a fact: what differs first, what is equal after it.
function facts(at) {
  const made = element("table"), names = element("tr", {}, element("th"));
  at.forEach((i, k) => {
    const name = element("th", {}, at.length > 1 ? value("name", i) ?? value("id", i) : "");
    name.style.borderTop = `3px solid ${KINDS[k % KINDS.length]}`;
    names.append(name);
  });
  const rows = [];
  for (const one of data.columns.values()) {
    if (["progress", "reason", "scores"].includes(one.name)) continue;
    const texts = at.map(i => one.group === "score" ? measured(one.name, i) + (one.n[i] ? `  (n ${told(one.n[i])})` : "") : one.name === "started" ? table.text("started", i) : shown(one.name, value(one.name, i)));
    if (texts.every(text => !text)) continue;
    const differs = texts.some(text => text !== texts[0]);
    const row = element("tr", { className: differs ? "differs" : "" }, element("th", { title: one.name }, label(one.name)), ...texts.map(text => element("td", {}, text)));
    rows.push([at.length > 1 ? !differs : 0, { score: 0, size: 1, field: 2, about: 3 }[one.group], row]);
  }
  rows.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  made.append(element("thead", {}, names), element("tbody", {}, ...rows.map(([, , row]) => row)));
  return made;
}

function commands(id, state) {
  const where = ABOUT.results === "results" ? "" : ` --results ${/^[\w./-]+$/.test(ABOUT.results) ? ABOUT.results : `'${ABOUT.results.replaceAll("'", "'\\''")}'`}`;
  const verbs = state === "missing" || state === "running" ? [] : state === "done" ? ["logs", "samples", "reproduce"] : ["logs", "reproduce"];
  return element("div", {}, ...verbs.map(verb => element("code", {}, `parrots ${verb} ${id}${where}`)));
}

function curveBox(ids) {
  const select = element("select", { ariaLabel: "Curve", onchange: event => { metric = event.target.value; drawCurves(ids); } });
  return element("div", {}, element("div", { className: "curve" }), select);
}

async function drawCurves(ids) {
  const box = panel.querySelector(".curve");
  if (!box) return;
  await Promise.all(ids.filter(id => !curves.has(id)).map(async id => {
    const reply = await fetch(`/curves?trial=${encodeURIComponent(id)}`).catch(() => null);
    if (reply?.ok) curves.set(id, await reply.json());
  }));
  if (!box.isConnected) return;
  const known = [...new Set(ids.flatMap(id => Object.keys(curves.get(id) ?? {})))], select = panel.querySelector(".curve ~ select");
  if (!known.includes(metric)) metric = known.includes("loss") ? "loss" : known[0];
  select.replaceChildren(...known.map(name => element("option", { value: name, selected: name === metric }, name)));
  const lines = ids.map(id => curves.get(id)?.[metric] ?? []), all = lines.flat();
  const { context, width, height } = canvas(box, "curve");
  if (!all.length) return;
  const xs = all.map(p => p[0]), ys = all.map(p => p[1]), [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  let [y0, y1] = [Math.min(...ys), Math.max(...ys)];
  const log = y0 > 0 && y1 / y0 > 20, f = log ? Math.log : v => v;
  if (y0 === y1) y1 = y0 + 1;
  const px = x => 46 + (x - x0) / (x1 - x0 || 1) * (width - 54), py = y => 8 + (f(y1) - f(y)) / (f(y1) - f(y0)) * (height - 30);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (const y of log ? decades(y0, y1) : steps(y0, y1)) {
    context.fillStyle = css("--faint");
    context.textAlign = "right";
    context.fillText(told(y), 40, py(y));
    context.strokeStyle = css("--grid");
    context.beginPath();
    context.moveTo(46, py(y));
    context.lineTo(width - 8, py(y));
    context.stroke();
  }
  context.fillStyle = css("--faint");
  context.textAlign = "center";
  for (const x of steps(x0, x1)) context.fillText(told(x), px(x), height - 8);
  context.lineWidth = 1.8;
  lines.forEach((line, k) => {
    context.strokeStyle = KINDS[k % KINDS.length];
    context.beginPath();
    line.forEach(([x, y], j) => j ? context.lineTo(px(x), py(y)) : context.moveTo(px(x), py(y)));
    context.stroke();
  });
}
