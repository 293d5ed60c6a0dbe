// What is looked at and how, kept in the address so that it can be sent; drawing; asking for what is new.

const POLL_MS = 2000, FIRST_MS = 150;
const view = { axes: [], colour: "", x: ["N_total", "N_active"], y: "", sort: ["", -1], columns: [], kept: [], over: -1, shown: [], isShown: [], hue: null };
const CHOSEN = ["axes", "colour", "x", "y", "sort", "columns", "kept"];
const byId = id => document.getElementById(id);
const touched = new Set();  // what somebody chose, which new trials do not change
let drawing = false;

// Defaults from what there is, until somebody chooses.
function defaults() {
  const main = score(), sizes = ["N_total", "N_active"].filter(name => column(name));
  const set = (name, wanted) => { if (!touched.has(name)) view[name] = wanted; };
  const tasks = column("task")?.about().varies ? ["task"] : [];
  set("y", main);
  set("colour", main);
  set("sort", [main, /loss|error/.test(main) ? 1 : -1]);
  set("columns", table.defaults());
  set("axes", [...tasks, ...telling().filter(name => name !== "seed" && name !== "kind").slice(0, innerWidth < 700 ? 3 : 6), ...sizes, main].filter((n, k, all) => all.indexOf(n) === k));
}

// Somebody chose: new trials do not change it, and the address has it.
function pick(name, wanted) {
  view[name] = wanted;
  touched.add(name);
}

// The next address: what was chosen and what is filtered.
function remember() {
  const said = Object.fromEntries(CHOSEN.filter(name => touched.has(name) || name === "kept").map(name => [name, view[name]]));
  said.filter = { query: filter.query, states: [...filter.states], tasks: [...filter.tasks],
    brushes: [...filter.brushes].map(([name, b]) => [name, { ...b, among: b.among && [...b.among] }]) };
  history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(said))}`);
}

function recall() {
  try {
    const said = JSON.parse(decodeURIComponent(location.hash.slice(1)) || "{}");
    for (const name of CHOSEN) if (said[name] !== undefined) pick(name, said[name]);
    filter.query = said.filter?.query ?? "";
    filter.states = new Set(said.filter?.states);
    filter.tasks = new Set(said.filter?.tasks);
    filter.brushes = new Map((said.filter?.brushes ?? []).map(([name, b]) => [name, { ...b, among: b.among && new Set(b.among) }]));
  } catch {
    history.replaceState(null, "", location.pathname);  // an address of another version, or cut short
  }
  byId("query").value = filter.query;
}

function refilter() {
  if (!data.columns.size) return;
  try {
    view.shown = chosen();
    byId("query").classList.remove("wrong");
    byId("query").title = "";
  } catch (problem) {
    if (typeof problem !== "string") throw problem;
    byId("query").classList.add("wrong");
    byId("query").title = problem;
    byId("shown").textContent = problem;
    return;
  }
  view.isShown = new Uint8Array(data.n);
  for (const i of view.shown) view.isShown[i] = 1;
  table.sort(view.shown);
  byId("shown").textContent = view.shown.length === data.n ? `${data.n.toLocaleString("en")} trials` : `${view.shown.length.toLocaleString("en")} of ${data.n.toLocaleString("en")}`;
  later();
}

function later() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; draw(); });
}

function draw() {
  if (!data.columns.size) return;
  view.hue = colours(view.colour);
  drawStates();
  drawBrushes();
  drawLegend();
  parallel.draw();
  for (const one of scatters) one.draw();
  if (!table.pressed) table.draw();
}

function drawOver() {
  parallel.drawOver();
  for (const one of scatters) one.drawOver();
}

function hover(i, event) {
  if (i !== view.over) {
    view.over = i;
    drawOver();
    table.over();
  }
  const tip = byId("tip");
  tip.hidden = i < 0 || !event;
  if (tip.hidden) return;
  const names = [...new Set([...view.axes, view.y])].filter(name => value(name, i) !== null);
  tip.textContent = [value("name", i) ?? value("id", i), ...names.map(name => `${label(name)}  ${measured(name, i)}`)].join("\n");
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
  tip.style.top = `${event.clientY - height - 12 > 4 ? event.clientY - height - 12 : event.clientY + 18}px`;
}

function chip(text, pressed, act, colour, title = "") {
  const made = element("button", { className: "chip", title });
  if (colour) {
    const dot = element("i");
    dot.style.background = colour;
    made.append(dot);
  }
  made.append(text);
  made.setAttribute("aria-pressed", pressed);
  made.addEventListener("click", () => { act(); refilter(); remember(); });
  return made;
}

function toggle(set, v) { if (!set.delete(v)) set.add(v); }

function drawStates() {
  const count = counted("state"), bar = element("div", { className: "bar" }), chips = element("div", { className: "chips" });
  for (const state of STATES.filter(one => count.has(one))) {
    const part = element("span");
    part.style.background = stateColour(state);
    part.style.flex = count.get(state);
    bar.append(part);
    chips.append(chip(`${count.get(state).toLocaleString("en")} ${state === "missing" ? "to run" : state}`, filter.states.has(state), () => toggle(filter.states, state), stateColour(state)));
  }
  byId("states").replaceChildren(bar, chips);
  const tasks = counted("task");
  byId("tasks").replaceChildren(...(tasks.size > 1 ? [...tasks.keys()].map(task => chip(task, filter.tasks.has(task), () => toggle(filter.tasks, task), null, `${tasks.get(task)} trials`)) : []));
}

function drawBrushes() {
  byId("brushes").replaceChildren(...[...filter.brushes].map(([name, brush]) => chip(`${brushed(name, brush)}  ×`, false, () => filter.brushes.delete(name), null, "Take this away")));
}

function drawLegend() {
  const { about, shades, at } = view.hue, box = byId("legend");
  if (!about) return box.replaceChildren();
  if (!at) {
    const ramp = element("span", { className: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${shades.slice(1).join(", ")})`;
    return box.replaceChildren(element("b", {}, label(view.colour)), shown(view.colour, about.low), ramp, shown(view.colour, about.high));
  }
  return box.replaceChildren(...[...at].slice(0, 16).map(([v, bucket]) => {
    const dot = element("i");
    dot.style.background = shades[bucket];
    return element("span", {}, dot, shown(view.colour, v));
  }));
}

const GROUPS = { score: "measured", size: "sizes", field: "declared", about: "how it went" };

// The columns there are, by group, as options of a select or as boxes to tick.
function grouped(wanted) {
  return Object.entries(GROUPS).map(([group, said]) => [said, [...data.columns.values()].filter(c => c.group === group && c.about().distinct.length && wanted(c)).map(c => c.name)]).filter(([, names]) => names.length);
}

function options(select, wanted, now) {
  select.replaceChildren(...grouped(wanted).map(([said, names]) => {
    const group = element("optgroup", { label: said });
    group.append(...names.map(name => element("option", { value: name, selected: name === now }, label(name))));
    return group;
  }));
}

function menu(box, list, wanted) {
  const inside = box.querySelector("div");
  inside.replaceChildren(...grouped(wanted).flatMap(([said, names]) => [element("b", {}, said), ...names.map(name => {
    const tick = element("input", { type: "checkbox", checked: view[list].includes(name) });
    tick.addEventListener("change", () => {
      pick(list, tick.checked ? [...view[list], name] : view[list].filter(one => one !== name));
      draw();
      remember();
    });
    return element("label", {}, tick, ` ${label(name)}`);
  })]));
}

function drawControls() {
  options(byId("colour"), c => !["id", "name", "started", "reason", "scores"].includes(c.name), view.colour);
  options(byId("y"), c => c.group === "score" || (c.group === "about" && c.about().numeric), view.y);
  for (const one of scatters) options(one.select, c => c.about().numeric && c.group !== "about", view.x[one.k]);
  menu(byId("axes-menu"), "axes", c => (c.about().varies || c.group === "score") && !["id", "name", "started", "reason", "commit", "scores"].includes(c.name));
  menu(byId("columns-menu"), "columns", c => !["name", "scores"].includes(c.name));
  const same = [...data.columns.values()].filter(c => c.group === "field" && !c.about().varies && !c.about().gaps && c.about().distinct.length);
  byId("same").textContent = data.n > 1 && same.length ? `The same in all: ${same.map(c => `${label(c.name)} ${told(c.about().distinct[0])}`).join(", ")}.` : "";
}

function received(reply) {
  if (take(reply)) {
    for (const id of curves.keys()) if ([null, "running"].includes(value("state", data.at.get(id)))) curves.delete(id);
    if (reply.gone.length) hover(-1);  // it is an index, and those have moved
    defaults();
    refilter();
    drawControls();
    if (view.kept.length) drawTrials();
  }
  const live = byId("live");
  live.classList.toggle("going", data.running && ABOUT.live);
  live.textContent = reply.problem ? reply.problem : !ABOUT.live ? "as it was when it was written" : data.loading && !data.n ? "reading records" : data.running ? "a run is at work" : data.n ? "nothing is running" : "no trials yet";
}

async function follow() {
  // while records are read it asks soon at first, and then seldom, since each drawing costs more than the last
  for (let wait = FIRST_MS; ; wait = data.loading ? Math.min(POLL_MS, 2 * wait) : POLL_MS) {
    try {
      const reply = await fetch(`/rows?after=${data.revision}`, { cache: "no-store" });
      if (!reply.ok) throw new Error(reply.statusText);
      received(await reply.json());
      drawn();
    } catch (error) {
      if (!(error instanceof TypeError)) console.error(error);
      byId("live").classList.remove("going");
      byId("live").textContent = "the board's server does not answer; trying again";
    }
    await new Promise(done => setTimeout(done, wait));
  }
}

// Tell who measures when the first and when all trials have been painted.
function drawn() {
  for (const [name, now] of [["trials-painted", data.n > 0], ["all-painted", data.n > 0 && !data.loading]])
    if (now && !performance.getEntriesByName(name).length) requestAnimationFrame(() => setTimeout(() => performance.mark(name)));
}

function saveCsv() {
  const quote = v => /[",\n]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v);
  const all = [...data.columns.values()], errors = all.filter(c => c.group === "score");
  const head = [...all.map(c => c.name), ...errors.flatMap(c => [`${c.name}.stderr`, `${c.name}.n`])];
  const lines = view.shown.map(i => [...all.map(c => c.values[i]), ...errors.flatMap(c => [c.stderr[i], c.n[i]])].map(v => quote(v ?? "")).join(","));
  const link = element("a", { download: `${ABOUT.title.replace(/[^\w-]+/g, "-")}.csv`, href: URL.createObjectURL(new Blob([[head.map(quote).join(","), ...lines].join("\n")], { type: "text/csv" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function reset() {
  touched.clear();
  Object.assign(filter, { states: new Set(), tasks: new Set(), query: "", brushes: new Map() });
  Object.assign(view, { x: ["N_total", "N_active"], kept: [] });
  byId("query").value = "";
  defaults();
  refilter();
  drawControls();
  drawTrials();
  history.replaceState(null, "", location.pathname);
}

function choose(select, act) {
  select.addEventListener("change", () => { act(select.value); draw(); remember(); });
}

byId("query").addEventListener("input", event => { filter.query = event.target.value; refilter(); remember(); });
choose(byId("colour"), v => pick("colour", v));
choose(byId("y"), v => pick("y", v));
for (const one of scatters) choose(one.select, v => pick("x", view.x.map((other, k) => k === one.k ? v : other)));
byId("csv").addEventListener("click", saveCsv);
byId("reset").addEventListener("click", reset);
document.addEventListener("keydown", event => {
  const typing = event.target.matches("input, select");
  if (event.key === "/" && !typing) { byId("query").focus(); event.preventDefault(); }
  if (event.key === "Escape") { if (typing) event.target.blur(); else if (!panel.hidden) { view.kept = []; drawTrials(); draw(); remember(); } else reset(); }
});
document.addEventListener("pointerdown", event => {
  for (const one of document.querySelectorAll("details[open]")) if (!one.contains(event.target)) one.open = false;
});
document.addEventListener("scroll", () => { byId("tip").hidden = true; }, { passive: true, capture: true });
let size = "";
new ResizeObserver(([{ contentRect: { width } }]) => {
  const now = `${width} ${innerHeight}`;
  if (data.n && size && size !== now) later();
  size = now;
}).observe(document.querySelector("main"));
DARK.addEventListener("change", () => data.n && draw());
recall();
byId("title").title = ABOUT.sweeps.map(s => s.title).join("\n");
if (EMBEDDED.rows) {
  received(EMBEDDED.rows);
  drawn();
}
if (ABOUT.live) follow();
