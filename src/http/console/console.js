"use strict";
// Asks for everything every two seconds and redraws. Texts from outside (accounts,
// errors, events) only ever become text nodes.

const REFRESH_MS = 2000;
const SPAN_SECONDS = 15 * 60;
const STATES = ["ready", "disconnected", "logging_in", "starting", "backing_off", "quarantined"];
const FAILING = new Set(["backing_off", "quarantined"]);
const byId = (id) => document.getElementById(id);
let key = sessionStorage.getItem("key");
let timer = 0;

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children.map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

function drawn(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

const count = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 });
const rate = (value) => (value === null ? "–" : value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 1 : 0 }));
const percent = (ratio) => `${(100 * ratio).toFixed(ratio < 0.1 ? 1 : 0)} %`;
const words = (state) => state.replaceAll("_", " ");

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${value.toFixed(value < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

function seconds(value) {
  if (value === null || value === undefined) return "–";
  return value < 1 ? `${(1000 * value).toFixed(value < 0.01 ? 2 : 0)} ms` : `${value.toFixed(1)} s`;
}

function ago(time) {
  const passed = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  if (passed < 60) return `${Math.floor(passed)} s ago`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  return passed < 86400 ? `${Math.floor(passed / 3600)} h ago` : `${Math.floor(passed / 86400)} d ago`;
}

function sum(values) {
  return Object.values(values).reduce((all, value) => all + value, 0);
}

function showNow(metrics, accounts) {
  const last = metrics.history.at(-1) ?? {};
  const sessions = accounts.flatMap((account) => account.sessions);
  const ready = sessions.filter((session) => session.state === "ready").length;
  const tiles = [
    ["ready", "Sessions ready", `${ready} of ${sessions.length}`, ready < sessions.length],
    ["calls-rate", "Calls a second", rate(last.calls_per_second ?? null)],
    ["calls", "Calls", count(sum(metrics.calls))],
    ["p50", "p50", seconds(last.p50)],
    ["p95", "p95", seconds(last.p95)],
    ["p99", "p99", seconds(last.p99)],
    ["queue", "Queue", count(sum(metrics.queues))],
    ["unknown", "Unknown trades", count(metrics.trades_unknown), metrics.trades_unknown > 0],
    ["restarts", "Restarts", count(sum(metrics.restarts))],
    ["cpu", "CPU", percent(metrics.cpu_usage_ratio)],
    ["memory", "Memory", `${bytes(metrics.memory_used_bytes)} of ${bytes(metrics.memory_total_bytes)}`],
    ["resident", "Gateway's memory", bytes(metrics.resident_memory_bytes)],
  ];
  byId("now").replaceChildren(...tiles.map(([id, name, value, bad]) =>
    element("div", bad ? { class: "bad" } : {}, element("dt", {}, name), element("dd", { id: `now-${id}` }, value))));
}

function badge(state, text) {
  return element("span", { class: `badge ${state}` }, text);
}

function showSessions(metrics, accounts) {
  byId("states").replaceChildren(...STATES.map((state) => {
    const number = metrics.sessions[state] ?? 0;
    return element("li", { "data-state": state }, badge(number > 0 ? state : "none", `${words(state)} ${count(number)}`));
  }));
  byId("sessions").replaceChildren(...accounts.flatMap((account) => account.sessions.map((session, index) => {
    const name = account.sessions.length > 1 ? `${account.name} #${index + 1}` : account.name;
    const login = session.last_login;
    const error = session.last_error;
    return element("tr", FAILING.has(session.state) ? { class: "failing" } : {},
      element("th", { scope: "row" }, name, session.primary ? element("span", { class: "quiet" }, " primary") : ""),
      element("td", {}, badge(session.state, words(session.state))),
      element("td", {}, ago(session.since)),
      element("td", {}, session.connected ? "connected" : "not connected"),
      element("td", { class: "number" }, count(session.queue_depth)),
      element("td", { class: "number" }, count(session.restarts)),
      element("td", {}, login ? `${login.outcome}, ${ago(login.at)}` : "–"),
      element("td", { class: "wide" }, error ? `${error.message} (${ago(error.at)})` : "–"));
  })));
}

function rows(id, entries, none) {
  const body = byId(id);
  const columns = body.parentElement.tHead.rows[0].cells.length;
  if (entries.length === 0) {
    body.replaceChildren(element("tr", {}, element("td", { colspan: columns, class: "quiet" }, none)));
    return;
  }
  body.replaceChildren(...entries.map(([name, ...values]) => element("tr", { "data-name": name },
    element("th", { scope: "row" }, name), ...values.map((value) => element("td", { class: "number" }, value)))));
}

// One figure: title, lines (name, value of a point), and how values are written.
const PLOTS = [
  ["Calls a second", [["calls", (point) => point.calls_per_second]], rate],
  ["Time on the terminal", [["p50", (point) => point.p50], ["p95", (point) => point.p95], ["p99", (point) => point.p99]], seconds],
  ["Failed calls a second", [["failed", (point) => point.errors_per_second]], rate],
  ["Requests a second", [["requests", (point) => point.requests_per_second]], rate],
  ["Queue", [["waiting or under way", (point) => point.queue_depth]], count],
  ["Sessions ready", [["ready", (point) => point.ready_sessions]], count],
  ["CPU", [["used", (point) => point.cpu_usage_ratio]], percent],
  ["Memory", [["used", (point) => point.memory_used_bytes]], bytes],
];

function path(points, value, top, start) {
  let line = "";
  let pen = "M";
  for (const point of points) {
    const at = value(point);
    if (at === null) { pen = "M"; continue; }
    const x = (1000 * (point.time - start)) / SPAN_SECONDS;
    line += `${pen}${x.toFixed(1)} ${(100 - (96 * at) / top).toFixed(2)}`;
    pen = "L";
  }
  return line;
}

function plot([title, lines, written], history) {
  const end = history.at(-1)?.time ?? Date.now() / 1000;
  const values = history.flatMap((point) => lines.map(([, value]) => value(point))).filter((value) => value !== null);
  const top = Math.max(...values, 0) || 1;
  const latest = lines.map(([name, value]) => {
    const at = history.length > 0 ? value(history.at(-1)) : null;
    return [name, at === null ? "–" : written(at)];
  });
  const spoken = `${title}: now ${latest.map(([name, at]) => `${name} ${at}`).join(", ")}; at most ${written(top)} in 15 minutes`;
  const svg = drawn("svg", { class: "plot", viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": spoken });
  for (const y of [4, 52]) svg.append(drawn("line", { x1: 0, x2: 1000, y1: y, y2: y }));
  lines.forEach(([, value], index) => svg.append(drawn("path", { class: `line${index}`, d: path(history, value, top, end - SPAN_SECONDS) })));
  const keys = latest.map(([name, at], index) => element("span", { class: `key line${index}` }, lines.length > 1 ? `${name} ${at}` : at));
  return element("figure", {},
    element("figcaption", {}, element("b", {}, title), element("span", {}, ...keys.flatMap((one) => [one, " "]))),
    svg,
    element("div", { class: "scale", "aria-hidden": "true" }, element("span", {}, "15 min ago"), element("span", {}, `top ${written(top)}`), element("span", {}, "now")));
}

function showEvents(events) {
  const actors = [...new Set(events.map((event) => event.actor))].sort();
  byId("events").replaceChildren(...actors.flatMap((actor) => [
    element("h3", {}, actor),
    element("ol", { "aria-label": `Last events of ${actor}` }, ...events.filter((event) => event.actor === actor).slice(0, 5).map((event) =>
      element("li", { class: event.level },
        element("time", { datetime: event.time, title: event.time }, ago(event.time)),
        event.level === "INFO" ? "" : `${event.level.toLowerCase()}: `, event.text))),
  ]));
}

function show({ version, accounts, metrics, events }) {
  byId("version").textContent = version;
  showNow(metrics, accounts);
  showSessions(metrics, accounts);
  byId("plots").replaceChildren(...PLOTS.map((one) => plot(one, metrics.history)));
  rows("logins", Object.entries(metrics.logins).map(([account, outcomes]) => [account, count(outcomes.success ?? 0), count(outcomes.failure ?? 0)]), "none yet");
  rows("errors", Object.entries(metrics.errors).filter(([, number]) => number > 0).map(([type, number]) => [type, count(number)]), "none");
  rows("trades", [...Object.entries(metrics.trades), ["unknown", metrics.trades_unknown]].map(([outcome, number]) => [outcome, count(number)]), "none");
  rows("disks", Object.entries(metrics.disk_free_bytes).map(([mount, free]) => [mount, bytes(free), bytes(metrics.disk_size_bytes[mount] ?? 0)]), "none measured");
  showEvents(events);
}

function say(text, bad) {
  const status = byId("status");
  if (status.textContent !== text) status.textContent = text;
  status.className = bad ? "bad" : "";
}

function askForKey(fault) {
  clearTimeout(timer);
  byId("main").hidden = true;
  byId("key-form").hidden = false;
  byId("key-fault").textContent = fault;
  say("Waiting for a key", false);
  byId("key").focus();
}

async function refresh() {
  clearTimeout(timer);
  try {
    const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
    const response = await fetch("/api/v1/console", { headers, cache: "no-store" });
    if (response.status === 401 || response.status === 403) {
      const fault = key === null ? "" : (await response.json()).detail;
      key = null;
      sessionStorage.removeItem("key");
      askForKey(fault);
      return;
    }
    if (!response.ok) throw new Error(`the gateway answered ${response.status}`);
    const data = await response.json();
    byId("key-form").hidden = true;
    byId("main").hidden = false;
    show(data);
    const failing = data.accounts.flatMap((account) => account.sessions).filter((session) => FAILING.has(session.state)).length;
    say(failing > 0 ? `Live: ${failing} ${failing === 1 ? "session" : "sessions"} failing` : "Live", failing > 0);
  } catch (fault) {
    say(`Not connected: ${fault.message}. What is shown is old.`, true);
  }
  timer = setTimeout(refresh, REFRESH_MS);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  sessionStorage.setItem("key", key);
  refresh();
});

refresh();
