// The trials as a table of which only the rows in sight exist, so that a hundred thousand scroll like ten.

const table = { body: document.querySelector("#table .body"), tall: 28, cursor: -1, widths: new Map() };
const SAMPLE = 400;  // rows whose texts decide how wide a column is

// The columns that say most: what tells trials apart, sizes, what was measured; at most so many.
table.defaults = () => {
  const varies = name => column(name)?.about().varies;
  const [main, ...others] = scores();
  const first = ["state", ...(varies("task") ? ["task"] : [])];
  return [...(innerWidth < 700 ? [main, ...first] : [...first, main]), "N_total", "N_active", ...telling().slice(0, 8), ...others.slice(0, 4), "loss", "train_s"]
    .filter((name, k, all) => column(name) && all.indexOf(name) === k);
};

// Sorted in place: numbers by size, text by letters and the numbers in it, what is missing last.
table.sort = rows => {
  const [name, way] = view.sort, values = column(name)?.values;
  if (!values) return rows;
  const order = name === "state" ? v => STATES.indexOf(v) : null;
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return rows.sort((i, j) => {
    const a = values[i], b = values[j];
    if (a == null || b == null) return (a == null) - (b == null) || i - j;
    return way * (order ? order(a) - order(b) : compare(a, b)) || i - j;
  });
};

table.text = (name, i) => column(name)?.group === "score" ? measured(name, i) : name === "started" ? String(value(name, i) ?? "").slice(0, 16).replace("T", " ") : shown(name, value(name, i));

table.measure = () => {
  table.widths.clear();
  const by = Math.max(1, Math.floor(view.shown.length / SAMPLE));
  for (const name of view.columns) {
    let most = label(name).length + 2;
    for (let k = 0; k < view.shown.length; k += by) most = Math.max(most, table.text(name, view.shown[k]).length);
    table.widths.set(name, Math.min(260, Math.max(64, most * 7.4 + (name === "state" ? 46 : 26))));
  }
  let most = 12;
  for (let k = 0; k < view.shown.length; k += by) most = Math.max(most, table.text("name", view.shown[k]).length);
  table.widths.set("name", Math.min(innerWidth < 700 ? 170 : 320, most * 8.2 + 46));
};

table.draw = () => {
  table.measure();
  table.body.setAttribute("aria-rowcount", view.shown.length);
  const space = element("div", { className: "space" });
  const wide = [...table.widths.values()].reduce((a, b) => a + b, 0);
  space.style.height = `${view.shown.length * table.tall}px`;
  space.style.width = `max(100%, ${wide}px)`;
  const names = element("div", { className: "line names" });
  names.setAttribute("role", "row");
  names.style.position = "sticky";
  for (const name of ["name", ...view.columns]) {
    const one = element("span", { title: name }, label(name));
    one.setAttribute("role", "columnheader");
    one.dataset.sort = name;
    one.style.width = `${table.widths.get(name)}px`;
    if (column(name)?.about().numeric) one.classList.add("number");
    if (view.sort[0] === name) one.setAttribute("aria-sort", view.sort[1] > 0 ? "ascending" : "descending");
    names.append(one);
  }
  names.style.width = `max(100%, ${wide}px)`;
  const { scrollTop, scrollLeft } = table.body;
  table.body.replaceChildren(names, space);
  table.body.scrollTo(scrollLeft, scrollTop);
  table.space = space;
  table.fill();
};

// Make the rows that are in sight, and a few beside them.
table.fill = () => {
  if (!table.space) return;
  const first = Math.max(0, Math.floor(table.body.scrollTop / table.tall) - 6);
  const last = Math.min(view.shown.length, first + Math.ceil(table.body.clientHeight / table.tall) + 12);
  const rows = [];
  for (let k = first; k < last; k++) rows.push(table.row(view.shown[k], k));
  table.space.replaceChildren(...rows);
};

table.row = (i, k) => {
  const row = element("div", { className: "line" }), kept = view.kept.indexOf(value("id", i));
  row.dataset.i = i;
  row.setAttribute("role", "row");
  row.setAttribute("aria-rowindex", k + 1);
  row.style.top = `${k * table.tall}px`;
  row.classList.toggle("over", i === view.over);
  if (kept >= 0) {
    row.classList.add("kept");
    row.style.setProperty("--mine", KINDS[kept % KINDS.length]);
  }
  const swatch = element("i");
  swatch.style.background = view.hue.shades[view.hue.of(i)];
  row.append(table.cell("name", i, swatch, table.text("name", i) || value("id", i)));
  for (const name of view.columns) row.append(table.filled(name, i));
  return row;
};

table.cell = (name, i, ...inside) => {
  const cell = element("span", {}, ...inside);
  cell.setAttribute("role", "cell");
  cell.style.width = `${table.widths.get(name)}px`;
  return cell;
};

table.filled = (name, i) => {
  const into = column(name), about = into?.about(), v = value(name, i);
  if (name === "state") {
    const at = value("progress", i), pill = element("span", { className: "pill" }, v === "running" && at !== null ? `${Math.round(100 * at)} %` : v ?? "");
    pill.style.color = stateColour(v);
    return table.cell(name, i, pill);
  }
  const error = into?.error(i), cell = table.cell(name, i, error && v !== null ? told(v) : table.text(name, i));
  if (about?.numeric) cell.classList.add("number");
  if (error && v !== null) cell.append(element("small", {}, ` ± ${told(Number(error.toPrecision(2)))}`));
  if (into?.group === "score" && v !== null && about.low >= 0 && about.high <= 1) {
    cell.classList.add("share");
    cell.style.setProperty("--share", `${100 * v}%`);
  }
  if (typeof v === "string") cell.title = v;
  return cell;
};

table.over = () => {
  for (const row of table.space?.children ?? []) row.classList.toggle("over", Number(row.dataset.i) === view.over);
};

// Rows that are made anew while a button is down would lose the click.
table.body.addEventListener("pointerdown", () => { table.pressed = true; });
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => {
  if (table.pressed) setTimeout(() => { table.pressed = false; table.draw(); });
});
table.body.addEventListener("scroll", () => table.fill(), { passive: true });
table.body.addEventListener("click", event => {
  const name = event.target.closest("[data-sort]")?.dataset.sort, row = event.target.closest("[data-i]");
  if (name) {
    const numeric = column(name)?.about().numeric;
    pick("sort", [name, view.sort[0] === name ? -view.sort[1] : numeric && column(name).group === "score" ? -1 : 1]);
    refilter();
    remember();
  } else if (row) keep(Number(row.dataset.i));
});
table.body.addEventListener("pointerover", event => {
  const row = event.target.closest("[data-i]");
  if (row && event.pointerType !== "touch") hover(Number(row.dataset.i));
});
table.body.addEventListener("pointerleave", () => hover(-1));
table.body.addEventListener("keydown", event => {
  const by = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20 }[event.key];
  if (by) {
    table.cursor = Math.min(view.shown.length - 1, Math.max(0, table.cursor + by));
    const at = table.cursor * table.tall, { scrollTop, clientHeight } = table.body;
    if (at < scrollTop) table.body.scrollTop = at;
    if (at + 2 * table.tall > scrollTop + clientHeight) table.body.scrollTop = at + 2 * table.tall - clientHeight;
    hover(view.shown[table.cursor]);
  } else if (event.key === "Enter" && table.cursor >= 0) keep(view.shown[table.cursor]);
  else return;
  event.preventDefault();
});
