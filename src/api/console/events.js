// The events of all actors in one list, newest first, by account and severity.

import { byId, element, hide, list, mark, write } from "./dom.js";
import { counted, setTime, timeElement } from "./format.js";

/** Events that are kept of each actor: what the gateway keeps, and as many from before. */
const KEPT = 400;
/** Events that are shown at once. */
const PAGE = 100;
const LEVELS = ["ERROR", "WARN", "INFO"];

let events = [];
let shown = PAGE;

/** Adds events, newest first, to those that are known. Events of a process that has ended stay. */
export function addEvents(more) {
  const known = new Set(events.map((event) => event.id));
  events = [...more.filter((event) => !known.has(event.id)), ...events].sort((a, b) => b.id - a.id);
  const numbers = new Map();
  events = events.filter(({ actor, account, session, level }) => {
    const source = JSON.stringify([actor, account, session, level === "INFO"]);
    const number = (numbers.get(source) ?? 0) + 1;
    numbers.set(source, number);
    return number <= KEPT;
  });
}

/** Forgets what another key was shown. */
export function forgetEvents() {
  events = [];
}

export const lastId = () => events[0]?.id ?? 0;

function wanted(event) {
  const account = byId("events-account").value;
  const level = LEVELS.indexOf(byId("events-level").value);
  const ofAccount = account === "" || (account === "/" ? event.account === null : event.account === account);
  return ofAccount && LEVELS.indexOf(event.level) <= level;
}

function make(event) {
  const at = timeElement("clock");
  const ago = timeElement("ago", { class: "quiet" });
  setTime(at, event.time);
  setTime(ago, event.time);
  const session = event.session === null ? "" : ` session ${event.session}`;
  const source = event.account === null ? event.actor : `${event.account}${session || ` ${event.actor}`}`;
  const [, message, fields] = event.text.match(/^(.*?)((?: \w+=.*)?)$/s);
  return element("li", { class: event.level.toLowerCase() },
    element("span", { class: "when" }, at, " ", ago), " ",
    element("span", { class: "level" }, event.level.toLowerCase()), " ",
    element("span", { class: "source", title: `actor: ${event.actor}` }, source), " ",
    element("span", { class: "text" }, message, element("span", { class: "fields" }, fields)));
}

export function showEvents() {
  const chosen = events.filter(wanted);
  write(byId("events-count"), chosen.length === events.length
    ? counted(events.length, "event")
    : `${counted(chosen.length, "event")} of ${events.length}`);
  list(byId("events"), chosen.slice(0, shown), (event) => event.id, make, () => {});
  hide(byId("events-more"), chosen.length <= shown);
  hide(byId("events-none"), chosen.length > 0);
}

/** The accounts that one can choose from. A choice whose account has gone stays until it is changed. */
export function offerAccounts(names) {
  const select = byId("events-account");
  const chosen = select.value;
  const offered = chosen === "" || chosen === "/" || names.includes(chosen) ? names : [...names, chosen];
  const options = [["", "all accounts"], ["/", "the gateway itself"], ...offered.map((name) => [name, name])];
  list(select, options, ([value]) => value,
    ([value, text]) => element("option", { value }, text),
    (option, [value]) => mark(option, "value", value));
}

function filter() {
  shown = PAGE;
  showEvents();
}

byId("events-account").addEventListener("change", filter);
byId("events-level").addEventListener("change", filter);
byId("events-more").addEventListener("click", () => {
  shown += PAGE;
  showEvents();
});
