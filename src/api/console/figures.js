// Figures of the moment, and the tables of counters.

import { byId, element, list, mark, write } from "./dom.js";
import { bytes, count, known, percent, rate, seconds } from "./format.js";

const sum = (values) => Object.values(values).reduce((all, value) => all + value, 0);

function tiles({ accounts, metrics, measured }) {
  const last = metrics.history.at(-1) ?? {};
  const sessions = accounts.flatMap((account) => account.sessions);
  const ready = sessions.filter((session) => session.state === "ready").length;
  const [used, all] = [metrics.memory_used_bytes, metrics.memory_total_bytes];
  const machine = [
    ["cpu", "CPU", known(metrics.cpu_usage_ratio, percent)],
    ["memory", "Memory", used === null ? "–" : `${bytes(used)} of ${known(all, bytes)}`],
    ["resident", "Gateway’s memory", known(metrics.resident_memory_bytes, bytes)],
  ];
  const first = ["ready", "Sessions ready", `${ready} of ${sessions.length}`, ready < sessions.length];
  if (!measured) return [first];
  return [
    first,
    ["calls-rate", "Calls a second", known(last.calls_per_second, rate)],
    ["calls", "Calls", count(sum(metrics.calls))],
    ["p50", "Call time, p50", known(last.p50, seconds)],
    ["p95", "p95", known(last.p95, seconds)],
    ["p99", "p99", known(last.p99, seconds)],
    ["queue", "Queue", count(sum(metrics.queues))],
    ["unknown", "Unknown trades", count(metrics.trades_unknown), metrics.trades_unknown > 0],
    ["restarts", "Restarts", count(sum(metrics.restarts))],
    ...machine,
  ];
}

function makeTile([id, name]) {
  return element("div", {}, element("dt", {}, name), element("dd", { id: `now-${id}` }));
}

function updateTile(tile, [, , value, bad]) {
  write(tile.lastChild, value);
  mark(tile, "class", bad ? "bad" : null);
}

function table(id, rows, none) {
  const body = byId(id);
  const columns = body.parentElement.tHead.rows[0].cells.length;
  const shown = rows.length > 0 ? rows : [[null, none]];
  list(body, shown, ([name]) => name, ([name, ...values]) => {
    if (name === null) {
      return element("tr", {}, element("td", { colspan: columns, class: "quiet" }, none));
    }
    const cells = values.map(() => element("td", { class: "number" }));
    return element("tr", { "data-name": name }, element("th", { scope: "row" }, name), ...cells);
  }, (row, [name, ...values]) => {
    if (name !== null) values.forEach((value, index) => write(row.cells[index + 1], value));
  });
}

export function showFigures(data) {
  const { metrics, measured } = data;
  list(byId("now"), tiles(data), ([id]) => id, makeTile, updateTile);
  byId("unmeasured").hidden = measured;
  byId("measured").hidden = !measured;
  const counters = (object) => Object.entries(object).filter(([, value]) => value > 0)
    .map(([name, value]) => [name, count(value)]);
  const logins = Object.entries(metrics.logins);
  table("logins", logins.map(([account, outcomes]) =>
    [account, count(outcomes.success ?? 0), count(outcomes.failure ?? 0)]), "none yet");
  table("restarts", counters(metrics.restarts), "none");
  table("errors", counters(metrics.errors), "none");
  const trades = { ...metrics.trades, unknown: metrics.trades_unknown };
  table("trades", Object.entries(trades).map(([outcome, value]) => [outcome.replaceAll("_", " "), count(value)]), "none");
  table("disks", Object.entries(metrics.disk_free_bytes).map(([mount, free]) =>
    [mount, bytes(free), known(metrics.disk_size_bytes[mount], bytes)]), "none measured");
}
