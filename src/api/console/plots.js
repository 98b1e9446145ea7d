// The last quarter of an hour. Every axis starts at 0 and says so. A point without neighbours is a
// dot, so that an idle gateway shows its few calls. What the pointer or the arrow keys choose is a
// moment in all plots at once.

import { byId, drawn, element, list, mark, write } from "./dom.js";
import { absoluteTime, bytes, clockMinute, clockTime, count, percent, rate, seconds, words } from "./format.js";

const SPAN = 15 * 60;
const HEIGHT = 132;
/** Room above for the top label, below for the times. */
const [ABOVE, BELOW] = [18, 18];
const DOT = 2.2;
/** Room on the left for the labels of the axis. */
const LEFT = 48;
/** Seconds between two points from which on the line between them would be a guess. */
const GAP = 20;

const sessionsOf = (data) => data.accounts.flatMap((account) => account.sessions).length;

// One figure: its title; its lines (a name, and the value of a point); how values are written; and
// the least top of its axis.
const PLOTS = [
  ["Calls a second", [["calls", (point) => point.calls_per_second]], rate, () => 1],
  ["Time on the terminal", [["p50", (point) => point.p50], ["p95", (point) => point.p95], ["p99", (point) => point.p99]], seconds, () => 0],
  ["Failed calls a second", [["failed", (point) => point.errors_per_second]], rate, () => 1],
  ["Queue", [["waiting or under way", (point) => point.queue_depth]], count, () => 2],
  ["Sessions ready", [["ready", (point) => point.ready_sessions]], count, sessionsOf],
  ["Requests a second", [["requests", (point) => point.requests_per_second]], rate, () => 1],
  ["CPU", [["used", (point) => point.cpu_usage_ratio]], percent, () => 1],
  ["Memory", [["used", (point) => point.memory_used_bytes]], bytes, (data) => data.metrics.memory_total_bytes ?? 0],
];

let shown = null;
/** The chosen moment in unix seconds, or `null`: the last one. */
let chosen = null;
let width = 320;

/** The next number above that an axis can well end with. */
function round(value) {
  if (value <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * unit).find((top) => top >= value * (1 - 1e-9));
}

/** Runs of points that have a value and follow each other closely. */
function runs(points, value) {
  const found = [];
  let before = null;
  for (const point of points) {
    const at = value(point);
    if (at !== null) {
      if (before === null || point.time - before > GAP) found.push([]);
      found.at(-1).push([point.time, at]);
    }
    before = at === null ? null : point.time;
  }
  return found;
}

function lines(found, x, y) {
  return found.filter((run) => run.length > 1)
    .map((run) => run.map(([time, value], index) => `${index === 0 ? "M" : "L"}${x(time)} ${y(value)}`).join(""))
    .join("");
}

function dots(found, x, y) {
  return found.filter((run) => run.length === 1)
    .map(([[time, value]]) => `M${x(time) - DOT} ${y(value)}a${DOT} ${DOT} 0 1 0 ${2 * DOT} 0a${DOT} ${DOT} 0 1 0 ${-2 * DOT} 0`)
    .join("");
}

/** Restarts of terminals, and the start of the gateway. */
function marksOf({ started, metrics }) {
  const began = Date.parse(started) / 1000;
  const restarts = metrics.history.flatMap((point) => point.restarts.map((restart) => ({
    time: point.time,
    text: `${restart.account}: ${restart.count === 1 ? "terminal" : `${restart.count} terminals`} restarted (${words(restart.reason)})`,
  })));
  return [{ time: began, text: "gateway started" }, ...restarts];
}

function nearest(points, time) {
  let best = null;
  for (const point of points) {
    if (best === null || Math.abs(point.time - time) < Math.abs(best.time - time)) best = point;
  }
  return best;
}

function make([title, series]) {
  const group = (name, attributes = {}) => drawn("g", { class: name, ...attributes });
  const svg = drawn("svg", { class: "plot", role: "slider", tabindex: 0, "aria-label": title, "aria-valuemin": 0 });
  const parts = {
    svg,
    when: element("span", { class: "quiet" }),
    happened: element("span", { class: "happened" }),
    marks: group("marks"),
    grid: group("grid"),
    lines: series.map((_, index) => drawn("path", { class: `line line${index}` })),
    dots: series.map((_, index) => drawn("path", { class: `dot line${index}` })),
    cursor: drawn("line", { class: "cursor" }),
    empty: drawn("text", { class: "empty", "text-anchor": "middle" }),
    keys: series.map((_, index) => element("span", { class: `key line${index}` })),
  };
  svg.append(parts.grid, parts.marks, ...parts.lines, ...parts.dots, parts.cursor, parts.empty);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    choose(startOf(shown) + (SPAN * (event.clientX - box.left - LEFT)) / (box.width - LEFT));
  });
  svg.addEventListener("pointerleave", () => choose(null));
  svg.addEventListener("blur", () => choose(null));
  svg.addEventListener("keydown", (event) => step(event));
  const figure = element("figure", {},
    element("figcaption", {},
      element("span", {}, element("b", {}, title), parts.when),
      element("span", { class: "keys" }, ...parts.keys, parts.happened)),
    svg);
  figure.parts = parts;
  return figure;
}

const endOf = (data) => data.metrics.history.at(-1)?.time ?? Date.parse(data.now) / 1000;
const startOf = (data) => endOf(data) - SPAN;

function update(figure, [title, series, written, least]) {
  const { parts } = figure;
  const points = shown.metrics.history;
  const start = startOf(shown);
  const values = series.flatMap(([, value]) => points.map(value)).filter((value) => value !== null);
  const [highest, floor] = [Math.max(0, ...values), least(shown)];
  const top = highest > floor ? round(highest) : floor > 0 ? floor : 1;
  const x = (time) => Math.round(10 * (LEFT + ((width - LEFT) * (time - start)) / SPAN)) / 10;
  const y = (value) => Math.round(10 * (HEIGHT - BELOW - ((HEIGHT - BELOW - ABOVE) * value) / top)) / 10;

  mark(parts.svg, "viewBox", `0 0 ${width} ${HEIGHT}`);
  grid(parts.grid, [[y(0), written(0)], [y(top / 2), ""], [y(top), values.length > 0 ? written(top) : ""]], start, x);
  series.forEach(([, value], index) => {
    const found = runs(points, value);
    mark(parts.lines[index], "d", lines(found, x, y));
    mark(parts.dots[index], "d", dots(found, x, y));
  });
  list(parts.marks, marksOf(shown).filter(({ time }) => time >= start), ({ time, text }) => `${time} ${text}`,
    ({ time, text }) => drawn("g", {}, drawn("line"), drawn("path"), drawn("title", {}, `${absoluteTime(1000 * time)}: ${text}`)),
    (node, { time }) => {
      const at = x(time);
      for (const [name, value] of [["x1", at], ["x2", at], ["y1", ABOVE], ["y2", HEIGHT - BELOW]]) mark(node.children[0], name, value);
      mark(node.children[1], "d", `M${at - 4} ${ABOVE - 5}h8l-4 6z`);
    });
  write(parts.empty, values.length > 0 ? "" : points.length === 0 ? "the first point comes within 10 s" : "nothing to measure in this time");
  mark(parts.empty, "x", (LEFT + width) / 2);
  mark(parts.empty, "y", HEIGHT / 2);
  const unit = written(top);
  mark(parts.svg, "aria-label", `${title}, the last 15 minutes; the axis goes from 0 to ${unit}`);
  mark(parts.svg, "aria-valuemax", Math.max(0, points.length - 1));
  point(figure, [title, series, written], x);
}

function grid(node, ticks, start, x) {
  const every = 5 * 60;
  const first = Math.ceil(start / every) * every;
  const times = [first, first + every, first + 2 * every].map((time) => [`t${time}`, x(time), clockMinute(1000 * time)]);
  const rows = [
    ...ticks.map(([at, text], index) => ({ key: `y${index}`, text, line: [LEFT, width, at, at], label: [LEFT - 6, at + 4], anchor: "end" })),
    ...times.map(([key, at, text]) => ({
      key, text, line: [at, at, HEIGHT - BELOW, HEIGHT - BELOW + 4], label: [Math.min(Math.max(at, LEFT), width - 16), HEIGHT - 3], anchor: "middle",
    })),
  ];
  list(node, rows, ({ key }) => key, () => drawn("g", {}, drawn("line"), drawn("text")), (made, { text, line, label, anchor }) => {
    ["x1", "x2", "y1", "y2"].forEach((name, index) => mark(made.children[0], name, line[index]));
    mark(made.children[1], "x", label[0]);
    mark(made.children[1], "y", label[1]);
    mark(made.children[1], "text-anchor", anchor);
    write(made.children[1], text);
  });
}

/** Shows the values of the chosen moment, or of the last one. */
function point(figure, [title, series, written], x) {
  const { parts } = figure;
  const points = shown.metrics.history;
  const at = chosen === null ? points.at(-1) : nearest(points, chosen);
  const texts = series.map(([name, value]) => {
    const there = at === undefined || at === null ? null : value(at);
    const text = there === null ? "–" : written(there);
    return series.length > 1 ? `${name} ${text}` : text;
  });
  texts.forEach((text, index) => write(parts.keys[index], text));
  const happened = at && chosen !== null
    ? marksOf(shown).filter(({ time }) => Math.abs(time - at.time) <= 5).map(({ text }) => text)
    : [];
  const when = at && chosen !== null ? clockTime(1000 * at.time) : "now";
  write(parts.when, when);
  write(parts.happened, happened.join(", "));
  mark(parts.happened, "title", happened.length > 0 ? happened.join("\n") : null);
  mark(parts.when, "title", at && chosen !== null ? absoluteTime(1000 * at.time) : null);
  for (const [name, value] of [["x1", at ? x(at.time) : 0], ["x2", at ? x(at.time) : 0], ["y1", ABOVE], ["y2", HEIGHT - BELOW]]) {
    mark(parts.cursor, name, value);
  }
  mark(parts.cursor, "visibility", at && chosen !== null ? "visible" : "hidden");
  mark(parts.svg, "aria-valuenow", at ? points.indexOf(at) : 0);
  mark(parts.svg, "aria-valuetext", [when, ...texts, ...happened].join(", "));
}

function step(event) {
  const points = shown.metrics.history;
  if (points.length === 0) return;
  const present = chosen === null ? points.length - 1 : points.indexOf(nearest(points, chosen));
  const steps = { ArrowLeft: present - 1, ArrowRight: present + 1, PageUp: present - 12, PageDown: present + 12, Home: 0, End: points.length - 1 };
  if (event.key === "Escape") return choose(null);
  if (!(event.key in steps)) return;
  event.preventDefault();
  choose(points[Math.min(Math.max(steps[event.key], 0), points.length - 1)].time);
}

function choose(time) {
  chosen = time;
  draw();
}

function draw() {
  if (shown !== null) list(byId("plots"), PLOTS, ([title]) => title, make, update);
}

export function showPlots(data) {
  shown = data;
  draw();
}

// All plots are as wide as the first column.
new ResizeObserver(() => {
  const svg = document.querySelector("svg.plot");
  const measured = Math.round(svg?.getBoundingClientRect().width ?? 0);
  if (measured > 0 && measured !== width) {
    width = measured;
    draw();
  }
}).observe(byId("plots"));
