// Which trials are looked at: states and tasks that were chosen, words and conditions that were typed, ranges that were brushed.

const filter = { states: new Set(), tasks: new Set(), query: "", brushes: new Map() };
const COMPARE = {
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b,
  "==": (a, b) => a === b, "!=": (a, b) => a !== b,
};
const UNITS = { k: 1e3, K: 1e3, M: 1e6, B: 1e9, G: 1e9, T: 1e12 };

// 1e-2, 12k, 3.4M; or a text that is no number.
function quantity(text) {
  const found = /^([-+]?[\d.]+(?:e[-+]?\d+)?)([kKMBGT])?$/i.exec(text);
  return found && found[1] !== "." ? Number(found[1]) * (UNITS[found[2]] ?? 1) : text.replace(/^(["'])(.*)\1$/, "$2");
}

// The test of what was typed: every word and every condition holds. Throws what is wrong with it, in a line.
function parsed(text) {
  const words = text.replace(/\s*(<=|>=|!=|==|=|<|>)\s*/g, "$1").split(/\s+/).filter(word => word && !/^(and|&&?)$/i.test(word));
  const tests = words.map(word => {
    const found = /^([^<>=!]+)(<=|>=|!=|==|=|<|>)(.+)$/.exec(word);
    if (!found) {
      if (/[<>=]/.test(word)) throw `${word}: name, comparison, value`;
      const low = word.toLowerCase();
      return i => IDENTITY.some(name => String(value(name, i) ?? "").toLowerCase().includes(low))
        || String(value("kind", i) ?? "").toLowerCase() === low || String(value("reason", i) ?? "").toLowerCase().includes(low);
    }
    const into = named(found[1]);
    if (!into) throw `no column ${found[1]}`;
    const wanted = quantity(found[3]), compare = COMPARE[found[2]];
    return i => {
      const v = into.values[i];
      if (v === null || v === undefined) return false;
      return typeof v === "number" && typeof wanted === "number" ? compare(v, wanted) : compare(String(v).toLowerCase(), String(wanted).toLowerCase());
    };
  });
  return i => tests.every(test => test(i));
}

// Whether a trial is within what was brushed on an axis. A brush is {low, high} of numbers, or {among} of other values.
function within(brush, v) {
  if (v === null || v === undefined) return Boolean(brush.gaps);
  return brush.among ? brush.among.has(String(v)) : v >= brush.low && v <= brush.high;
}

// Indices of the trials that are looked at.
function chosen() {
  const typed = parsed(filter.query);
  const brushes = [...filter.brushes].filter(([name]) => column(name)).map(([name, brush]) => [column(name).values, brush]);
  const state = column("state").values, task = column("task")?.values ?? [];
  const found = [];
  for (let i = 0; i < data.n; i++) {
    if (filter.states.size && !filter.states.has(state[i])) continue;
    if (filter.tasks.size && !filter.tasks.has(task[i])) continue;
    if (brushes.every(([values, brush]) => within(brush, values[i])) && typed(i)) found.push(i);
  }
  return found;
}

// How often each value stands in a column.
function counted(name) {
  const count = new Map();
  for (const v of column(name)?.values ?? []) if (v != null) count.set(v, (count.get(v) ?? 0) + 1);
  return count;
}

// What a brush says, in words.
function brushed(name, brush) {
  const gaps = brush.gaps ? " or nothing" : "";
  if (brush.among) return `${label(name)}: ${[...brush.among].join(", ") || "nothing"}${brush.among.size ? gaps : ""}`;
  return brush.low > brush.high ? `${label(name)}: nothing` : `${shown(name, brush.low)} ≤ ${label(name)} ≤ ${shown(name, brush.high)}${gaps}`;
}
