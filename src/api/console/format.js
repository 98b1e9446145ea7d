// How numbers and times are written. Times are relative, on the clock of the gateway; the absolute
// time is their title.

import { element, isSelected, mark, write } from "./dom.js";

const number = (most) => new Intl.NumberFormat("en-US", { maximumFractionDigits: most });
const whole = number(0);
const tenths = number(1);
const cents = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });

export const count = (value) => whole.format(value);
/** Money, with cents. */
export const amount = (value) => cents.format(value);
export const rate = (value) => (value < 10 ? tenths : whole).format(value);
export const percent = (ratio) => `${(100 * ratio).toFixed(ratio > 0 && ratio < 0.1 ? 1 : 0)} %`;
export const words = (name) => name.replaceAll("_", " ");
export const counted = (value, one, many = `${one}s`) => `${count(value)} ${value === 1 ? one : many}`;
/** Writes a value if there is one. */
export const known = (value, written) => (value === null || value === undefined ? "–" : written(value));

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value.toFixed(value > 0 && value < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

export function seconds(value) {
  if (value === 0) return "0 s";
  if (value >= 1) return `${tenths.format(value)} s`;
  return `${value < 0.01 ? number(2).format(1000 * value) : tenths.format(1000 * value)} ms`;
}

export function span(passed) {
  const parts = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => passed >= size);
  if (first < 0) return "0 s";
  const [unit, size] = parts[first];
  const next = parts[first + 1];
  const rest = next === undefined || next[0] === "s" ? 0 : Math.floor((passed % size) / next[1]);
  const shown = `${Math.floor(passed / size)} ${unit}`;
  return rest > 0 ? `${shown} ${rest} ${next[0]}` : shown;
}

/**
 * What the gateway's clock shows, in milliseconds: the clock of this machine may be wrong. While there
 * are no answers, nobody knows how long something goes on: such times end with the last answer.
 */
export const clock = { ahead: 0, stoppedAt: null, now: () => Date.now() + clock.ahead };

export const clockTime = (at) => time.format(at);
export const clockMinute = (at) => minute.format(at);
export const absoluteTime = (at) => `${absolute.format(at)} (${new Date(at).toISOString()})`;

/** An element for a time. `style`: `ago` (3 min ago), `for` (3 min), or `clock` (12:31:05). */
export function timeElement(style, attributes = {}) {
  return element("time", { ...attributes, "data-style": style });
}

/** Gives such an element its time. With the same one it goes on by itself. */
export function setTime(node, iso) {
  if (node.getAttribute("datetime") === iso) return;
  mark(node, "datetime", iso);
  mark(node, "title", absoluteTime(Date.parse(iso)));
  refreshTime(node);
}

function refreshTime(node) {
  const at = Date.parse(node.dateTime);
  const now = node.dataset.style === "for" ? clock.stoppedAt ?? clock.now() : clock.now();
  const passed = Math.max(0, (now - at) / 1000);
  switch (node.dataset.style) {
    case "ago": return write(node, `${span(passed)} ago`);
    case "for": return write(node, span(passed));
    default: return write(node, passed < 43200 ? clockTime(at) : `${day.format(at)} ${clockTime(at)}`);
  }
}

/** Lets the times of the page go on. What is selected stands still, so that it can be copied. */
export function refreshTimes() {
  for (const node of document.querySelectorAll("time[datetime]")) {
    if (!isSelected(node)) refreshTime(node);
  }
}
