// From values to places and colours, and the little that every canvas needs.

const VIRIDIS = ["#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const KINDS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8a6fd1", "#a0803c", "#7f8a99", "#c2b400"];
const DARK = matchMedia("(prefers-color-scheme: dark)");
const SHADES = 48;

function css(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

// Place of each value of a column on an axis from 0 to 1: numbers linear or logarithmic, few values and text evenly.
function scale(name) {
  const { numeric, low, high, log, distinct } = column(name)?.about() ?? { numeric: true, low: 0, high: 1, log: false, distinct: [] };
  if (!numeric) {
    const at = new Map(distinct.map((v, k) => [v, distinct.length > 1 ? k / (distinct.length - 1) : .5]));
    const ticks = distinct.length <= 24 ? distinct.map(v => [at.get(v), String(v)]) : [];
    return { name, numeric, place: v => at.get(v), distinct, ticks, values: (a, b) => distinct.filter(v => at.get(v) >= a && at.get(v) <= b) };
  }
  const f = log ? Math.log : x => x, back = log ? Math.exp : x => x;
  const a = f(low), b = f(high), span = b - a;
  const place = v => span ? (f(v) - a) / span : .5;
  const value = t => span ? back(a + t * span) : low;
  const few = distinct.length <= 9 ? [...distinct].sort((x, y) => x - y) : null;
  const ticks = (few ?? (log ? decades(low, high) : steps(low, high))).map(v => [place(v), shown(name, v)]);
  return { name, numeric, place, value, ticks, distinct };
}

// 1, 2 and 5 of each power of ten between two positive numbers, fewer where the range is wide.
function decades(low, high) {
  const wide = Math.log10(high / low), found = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
    for (const m of wide > 3 ? [1] : wide > 1.6 ? [1, 3] : [1, 2, 5]) {
      const v = Number(`${m}e${e}`);
      if (v >= low * .999 && v <= high * 1.001) found.push(v);
    }
  return found.length > 1 ? found : [low, high];
}

// Round numbers between two.
function steps(low, high) {
  if (low === high) return [low];
  const raw = (high - low) / 5, unit = 10 ** Math.floor(Math.log10(raw));
  const by = unit * [1, 2, 5, 10].find(m => m * unit >= raw), found = [];
  for (let k = Math.ceil(low / by - 1e-9); k * by <= high + by * 1e-9; k++) found.push(Number((k * by).toPrecision(12)));
  return found;
}

function mixed(a, b, t) {
  const part = k => Math.round(parseInt(a.slice(k, k + 2), 16) * (1 - t) + parseInt(b.slice(k, k + 2), 16) * t);
  return `rgb(${part(1)}, ${part(3)}, ${part(5)})`;
}

// A colour between 0 and 1: the ends that would vanish on the page's background are left out.
function ramp(t) {
  const [from, to] = DARK.matches ? [.22, 1] : [0, .88];
  const x = (from + Math.min(1, Math.max(0, t)) * (to - from)) * (VIRIDIS.length - 1);
  const k = Math.min(VIRIDIS.length - 2, Math.floor(x));
  return mixed(VIRIDIS[k], VIRIDIS[k + 1], x - k);
}

// The colour of each trial by one column: `of(i)` is a bucket, `shades[bucket]` its colour.
function colours(name) {
  const about = column(name)?.about(), none = css("--missing");
  if (!about || !about.distinct.length) return { of: () => 0, shades: [none], about: null };
  const values = column(name).values;
  if (about.numeric && about.distinct.length > 1) {
    const { place } = scale(name);
    const shades = [none, ...Array.from({ length: SHADES }, (_, k) => ramp(k / (SHADES - 1)))];
    return { of: i => values[i] == null ? 0 : 1 + Math.round(place(values[i]) * (SHADES - 1)), shades, about };
  }
  const at = new Map(about.distinct.map((v, k) => [v, 1 + k % KINDS.length]));
  const shades = [none, ...(name === "state" ? about.distinct.map(stateColour) : KINDS)];
  return { of: i => at.get(values[i]) ?? 0, shades, about, at };
}

function stateColour(state) {
  const name = { running: "--running", done: "--done", diverged: "--diverged", missing: "--missing" }[state] ?? "--failed";
  return css(name);
}

// A canvas that fills its element, as fine as the screen; returns its context in CSS pixels, cleared.
function canvas(within, key) {
  let found = within.querySelector(`canvas[data-key="${key}"]`);
  if (!found) {
    found = document.createElement("canvas");
    found.dataset.key = key;
    within.append(found);
  }
  const { width, height } = { width: within.clientWidth, height: within.clientHeight };
  const fine = Math.min(devicePixelRatio || 1, 2), context = found.getContext("2d");
  if (found.width !== Math.round(width * fine) || found.height !== Math.round(height * fine)) {
    found.width = Math.round(width * fine);
    found.height = Math.round(height * fine);
  }
  context.setTransform(fine, 0, 0, fine, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function element(kind, given = {}, ...inside) {
  const { style, ...rest } = given, made = Object.assign(document.createElement(kind), rest);
  for (const [name, v] of Object.entries(style ?? {})) made.style.setProperty(name, v);
  made.append(...inside);
  return made;
}
