// Trials as columns: `columns.get(name).values[i]` is what trial i has there. They come in replies, whole or in part, again and
// again; a trial that came before is overwritten, and one that is gone is taken out.

const EMBEDDED = JSON.parse(document.getElementById("data").textContent);
const ABOUT = EMBEDDED.about;
const STATES = ["done", "running", "diverged", "stopped", "oom", "failed", "unreadable", "missing"];
const FIRST = ["model.d_model", "model.n_layers", "model.ffn.d_ff", "n_experts", "training.lr", "task.n_entries"];
const IDENTITY = ["model", "task", "name", "id", "state"];

class Column {
  constructor(name, group) {
    Object.assign(this, { name, group, values: [], stderr: [], n: [], stale: true });
  }

  // What its values are; found out again after each reply.
  about() {
    if (!this.stale) return this.known;
    const values = this.values.filter(v => v !== null && v !== undefined);
    const numeric = values.length > 0 && values.every(v => typeof v === "number");
    let low = Infinity, high = -Infinity;
    if (numeric) for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
    const distinct = [...new Set(values)];
    const share = this.group === "score" && high <= 1;  // of right answers, say
    const log = numeric && low > 0 && !share && high / low >= (["size", "field"].includes(this.group) ? 4 : 20);
    if (!numeric) distinct.sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));
    this.stale = false;
    return this.known = { numeric, low, high, log, distinct, gaps: values.length < data.n, varies: distinct.length > 1 };
  }

  // The standard error of value i, or nothing.
  error(i) { return this.stderr[i] ?? null; }
}

const data = { n: 0, at: new Map(), columns: new Map(), revision: 0, running: false, loading: true };

// The short name of a column: its last part, where no other column has that.
function label(name) {
  const last = name.slice(name.lastIndexOf(".") + 1);
  return data.short?.get(last) === name ? last : name;
}

function column(name) { return data.columns.get(name); }

// A column by the name that a person gives it.
function named(text) { return data.columns.get(text) ?? data.columns.get(data.short.get(text)); }

function value(name, i) { return data.columns.get(name)?.values[i] ?? null; }

// Take out the trials with these ids; those after them move up. Says whether there were any.
function drop(ids) {
  const gone = new Set(ids), left = [...data.at].filter(([id]) => !gone.has(id));
  if (left.length === data.n) return false;
  for (const one of data.columns.values()) {
    one.stale = true;
    for (const part of ["values", "stderr", "n"]) one[part] = left.map(([, i]) => one[part][i]);
  }
  data.at = new Map(left.map(([id], i) => [id, i]));
  data.n = left.length;
  return true;
}

// Take in a reply; says whether anything is new.
function take(reply) {
  data.revision = reply.revision;
  data.running = reply.running;
  data.loading = reply.more;
  const fewer = drop(reply.gone);
  if (!reply.n) return fewer;
  const each = (told, k) => "all" in told ? told.all : told.values[k];
  const ids = reply.columns.find(c => c.name === "id");
  const where = [];
  for (let k = 0; k < reply.n; k++) {
    const id = each(ids, k);
    if (!data.at.has(id)) data.at.set(id, data.n++);
    where.push(data.at.get(id));
  }
  for (const one of data.columns.values()) {  // what a trial no longer has is gone
    one.stale = true;
    for (const i of where) one.values[i] = one.stderr[i] = one.n[i] = null;
  }
  for (const told of reply.columns) {
    if (!data.columns.has(told.name)) data.columns.set(told.name, new Column(told.name, told.group));
    const into = data.columns.get(told.name);
    for (let k = 0; k < reply.n; k++) {
      into.values[where[k]] = each(told, k);
      if (told.group === "score") {
        into.stderr[where[k]] = each(told.stderr, k);
        into.n[where[k]] = each(told.n, k);
      }
    }
  }
  const count = new Map();
  for (const name of data.columns.keys()) {
    const last = name.slice(name.lastIndexOf(".") + 1);
    count.set(last, count.has(last) ? null : name);
  }
  data.short = count;
  return true;
}

// What the trials' tasks measure, the first of each task first, as far as it was measured.
function scores() {
  const asked = (column("scores")?.about().distinct ?? []).map(text => text.split(" "));
  const names = [...asked.map(one => one[0]), ...asked.flat()].filter((name, k, all) => all.indexOf(name) === k);
  return names.filter(name => column(name)?.about().numeric);
}

function score() {
  return scores()[0] ?? [...data.columns.values()].find(c => c.group === "score" && c.about().numeric)?.name ?? "N_total";
}

// Whether each value of one column goes with one value of another, so that an axis of it would say nothing more.
function follows(name, from) {
  const after = new Map(), a = column(name).values, b = column(from).values;
  for (let i = 0; i < data.n; i++) {
    if (!after.has(b[i])) after.set(b[i], a[i]);
    else if (after.get(b[i]) !== a[i]) return false;
  }
  return true;
}

// The names of declared fields that tell trials apart, but for what follows from one named before; a seed comes last.
function telling() {
  const fields = [...data.columns.values()].filter(c => c.group === "field" && c.about().varies && c.name !== "seed").map(c => c.name);
  const found = column("task")?.about().varies ? ["task"] : [];
  for (const name of [...FIRST.filter(one => fields.includes(one)), ...fields])
    if (!found.includes(name) && !found.some(before => column(before).about().distinct.length <= 64 && follows(name, before))) found.push(name);
  return [...found.filter(name => name !== "task"), ...(column("seed")?.about().varies ? ["seed"] : [])];
}

// A number as people write it.
function told(v) {
  if (v === null || v === undefined) return "";
  if (typeof v !== "number") return String(v);
  const a = Math.abs(v);
  if (a >= 1e15) return v.toExponential(2);
  if (a >= 1e4) {
    for (const [unit, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]])
      if (a >= unit) return `${Number((v / unit).toPrecision(3))}${letter}`;
  }
  if (Number.isInteger(v)) return String(v);
  if (a && a < 1e-2) return v.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  return String(Number(v.toPrecision(4)));
}

// A value as its column is read: learning rates as powers of ten.
function shown(name, v) {
  return /(^|\.)lr$/.test(name) && typeof v === "number" ? v.toExponential(2).replace(/\.?0+e/, "e") : told(v);
}

// A value with its standard error.
function measured(name, i) {
  const v = value(name, i), e = column(name)?.error(i);
  return shown(name, v) + (e ? ` ± ${told(Number(e.toPrecision(2)))}` : "");
}
