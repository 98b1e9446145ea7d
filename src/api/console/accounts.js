// A card for each account: how it is, its sessions, what it holds, and ways to restart and to halt it.

import { byId, drawn, element, hide, list, mark, write } from "./dom.js";
import { ask, faultOf, hasKey, read } from "./gateway.js";
import { amount, clockTime, count, counted, percent, setTime, timeElement, words } from "./format.js";
import { confirm } from "./confirm.js";
import { confirmHalt } from "./halt.js";

const MARKS = { up: "✓", degraded: "!", down: "✕" };
const ORDERS = ["BUY", "SELL", "BUY LIMIT", "SELL LIMIT", "BUY STOP", "SELL STOP", "BUY STOP LIMIT", "SELL STOP LIMIT", "CLOSE BY"];
const TRADES = 20;
/** How often what is open in a card is asked for, in milliseconds. */
const REFRESH = 5_000;

/** The equity's curve, in the units of its view box. */
const CURVE = { width: 300, height: 40 };

const pathOf = (name) => `/api/v1/accounts/${encodeURIComponent(name)}`;

/** A link to JSON. Links cannot carry a key, so with one the page fetches the JSON and shows it. */
function jsonLink(path, text, attributes = {}) {
  const link = element("a", { href: path, target: "_blank", rel: "noopener", ...attributes }, text);
  link.addEventListener("click", (event) => {
    if (!hasKey() || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    showJson(path);
  });
  return link;
}

async function showJson(path) {
  write(byId("json-title"), path);
  write(byId("json-text"), "…");
  byId("json").showModal();
  try {
    write(byId("json-text"), JSON.stringify(await read(path), null, 2));
  } catch (fault) {
    write(byId("json-text"), fault.message);
  }
}

byId("json-close").addEventListener("click", () => byId("json").close());

// === Sessions ===

function makeSession() {
  const parts = {
    name: element("b"),
    state: element("span"),
    since: timeElement("for"),
    primary: element("span", { class: "chip", title: "account, positions, orders, history and trades use it" }, "primary"),
    broker: element("span"),
    queue: element("span"),
    restarts: element("span"),
    login: element("span"),
    loginAt: timeElement("ago"),
    error: element("span", { class: "text" }),
    errorAt: timeElement("ago"),
  };
  parts.loginLine = element("span", {}, parts.login, " ", parts.loginAt);
  parts.errorLine = element("p", { class: "error" }, "last error ", parts.errorAt, ": ", parts.error);
  const node = element("li", {},
    element("p", { class: "line" }, parts.name, parts.state, element("span", { class: "quiet" }, "for ", parts.since), parts.primary),
    element("p", { class: "facts" }, parts.broker, parts.queue, parts.restarts, parts.loginLine),
    parts.errorLine);
  node.parts = parts;
  return node;
}

function updateSession(node, [index, session]) {
  const { parts } = node;
  mark(node, "data-session", index);
  mark(node, "class", ["backing_off", "quarantined"].includes(session.state) ? "failing" : null);
  write(parts.name, `session ${index}`);
  write(parts.state, words(session.state));
  mark(parts.state, "class", `badge ${session.state}`);
  setTime(parts.since, session.since);
  hide(parts.primary, !session.primary);
  write(parts.broker, session.connected ? "broker connected" : "broker not connected");
  write(parts.queue, `queue ${count(session.queue_depth)}`);
  write(parts.restarts, counted(session.restarts, "restart"));
  hide(parts.loginLine, session.last_login === null);
  if (session.last_login !== null) {
    write(parts.login, session.last_login.outcome === "success" ? "logged in" : "login failed");
    setTime(parts.loginAt, session.last_login.at);
  }
  hide(parts.errorLine, session.last_error === null);
  if (session.last_error !== null) {
    write(parts.error, session.last_error.message);
    setTime(parts.errorAt, session.last_error.at);
  }
}

// === Positions and trades ===

/** Something that is asked for while it is open. */
function section(name, title, path, show) {
  const body = element("ul", { class: "rows" });
  const note = element("p", { class: "quiet note" });
  const total = element("span", { class: "quiet" });
  const node = element("details", { class: name },
    element("summary", {}, element("span", {}, title), " ", total), body, note);
  let asking = false;
  async function refresh() {
    if (!node.open || asking || document.hidden) return;
    asking = true;
    try {
      const rows = await read(path);
      show(body, rows);
      write(total, rows.length === TRADES ? `the last ${TRADES}` : count(rows.length));
      write(note, rows.length === 0 ? `none, at ${clockTime(Date.now())}` : `as of ${clockTime(Date.now())}`);
      body.classList.remove("stale");
    } catch (fault) {
      // What is shown is old, or nothing: that is no empty list.
      write(note, `not known now: ${fault.message}`);
      body.classList.add("stale");
    }
    asking = false;
  }
  node.addEventListener("toggle", refresh);
  node.refresh = refresh;
  return node;
}

function makeRow(path) {
  const parts = {
    main: element("span", { class: "main" }),
    value: element("span", { class: "value" }),
    more: element("span"),
    at: timeElement("ago"),
    link: jsonLink(path, "", { class: "id" }),
  };
  const node = element("li", {},
    element("p", { class: "line" }, parts.main, parts.value),
    element("p", { class: "facts" }, parts.more, parts.at, parts.link));
  node.parts = parts;
  return node;
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
const stop = (name, price) => (price ? ` · ${name} ${price}` : "");

function showPositions(name) {
  return (body, positions) => list(body, positions, (position) => position.ticket,
    (position) => makeRow(`${pathOf(name)}/positions/${position.ticket}`),
    ({ parts }, position) => {
      write(parts.main, `${ORDERS[position.type] ?? position.type} ${position.volume} ${position.symbol}`);
      write(parts.value, signed(position.profit));
      mark(parts.value, "class", `value ${position.profit < 0 ? "loss" : "gain"}`);
      write(parts.more, `${position.price_open} → ${position.price_current}${stop("SL", position.sl)}${stop("TP", position.tp)}`);
      hide(parts.at, true);
      write(parts.link, `#${position.ticket}`);
    });
}

function showTrades(name) {
  return (body, trades) => list(body, trades, (trade) => trade.trade_id,
    (trade) => makeRow(`${pathOf(name)}/trades/${trade.trade_id}`),
    ({ parts }, trade) => {
      const { request } = trade;
      const order = request === null ? "" : ` ${request.volume > 0 ? `${ORDERS[request.type] ?? ""} ${request.volume} ` : ""}${request.symbol}`;
      write(parts.main, `${trade.operation.replaceAll("-", " ")}${order}`);
      write(parts.value, trade.state.replaceAll("-", " "));
      mark(parts.value, "class", `value trade-${trade.state}`);
      write(parts.more, trade.detail ?? trade.result?.retcode_name ?? "");
      hide(parts.more, parts.more.textContent === "");
      setTime(parts.at, trade.created);
      write(parts.link, `…${trade.trade_id.slice(-8)}`);
      mark(parts.link, "title", `trade ${trade.trade_id}`);
    });
}

// === Cards ===

function makeCard({ name }) {
  const path = pathOf(name);
  const title = `account-${name}`;
  const parts = {
    mark: element("span", { class: "mark", "aria-hidden": "true" }),
    state: element("span"),
    since: timeElement("for"),
    at: timeElement("clock"),
    reason: element("p", { class: "reason" }),
    unknown: jsonLink(`${path}/trades?state=unknown`, ""),
    unknownAt: timeElement("ago"),
    login: element("span"),
    server: element("span"),
    mode: element("span"),
    trade: element("span"),
    ready: element("span"),
    equity: element("span", { class: "value" }),
    money: element("span"),
    moneyAt: timeElement("ago"),
    curve: drawn("path", { class: "line line0" }),
    range: element("span", { class: "quiet" }),
    sessions: element("ul", { class: "sessions", "aria-label": `Sessions of ${name}` }),
    positions: section("positions", "Positions", `${path}/positions`, showPositions(name)),
    trades: section("trades", "Recent trades", `${path}/trades?limit=${TRADES}`, showTrades(name)),
    restart: element("button", { type: "button", class: "restart", "aria-label": `Restart the terminals of ${name}` }, "Restart…"),
    halt: element("button", { type: "button", class: "halt" }),
    notice: element("p", { class: "notice", role: "status" }),
  };
  parts.plot = drawn("svg", { class: "equity", viewBox: `0 0 ${CURVE.width} ${CURVE.height}`, preserveAspectRatio: "none", role: "img" }, parts.curve);
  parts.moneyBlock = element("div", { class: "money" },
    element("p", { class: "line" }, "equity ", parts.equity, element("span", { class: "quiet" }, "as of ", parts.moneyAt)),
    parts.plot, parts.range,
    element("p", { class: "facts" }, parts.money));
  parts.oldest = element("span", {}, ", the oldest from ", parts.unknownAt);
  parts.unknownLine = element("p", { class: "unknown" }, parts.unknown, parts.oldest);
  parts.restart.addEventListener("click", () => confirmRestart(name, parts));
  parts.halt.addEventListener("click", () => confirmHalt(name, path, parts.halt.dataset.halted === "true", parts.notice));
  const node = element("article", { id: title, tabindex: "-1", "aria-labelledby": `${title}-name` },
    element("header", {},
      element("h3", { id: `${title}-name` }, name),
      element("span", { class: "health" }, parts.mark, parts.state),
      element("span", { class: "quiet" }, "for ", parts.since, ", since ", parts.at)),
    parts.reason, parts.unknownLine,
    element("p", { class: "facts" }, parts.ready, parts.login, parts.server, parts.mode, parts.trade),
    parts.moneyBlock, parts.sessions, parts.positions, parts.trades,
    element("footer", {},
      element("span", { class: "links", "aria-label": "JSON" }, "{ }", jsonLink(path, "account"), jsonLink(`${path}/positions`, "positions"),
        jsonLink(`${path}/orders`, "orders"), jsonLink(`${path}/trades`, "trades")),
      parts.halt, parts.restart),
    parts.notice);
  node.parts = parts;
  return node;
}

/** The equity of the last quarter of an hour, between its lowest and its highest. */
function updateMoney(parts, money) {
  hide(parts.moneyBlock, money === null);
  if (money === null) return;
  const { history, currency } = money;
  write(parts.equity, `${amount(money.equity)} ${currency}`);
  setTime(parts.moneyAt, money.at);
  const level = money.margin_level_ratio === null ? "" : ` (level ${percent(money.margin_level_ratio)})`;
  write(parts.money, `balance ${amount(money.balance)} · profit ${signed(money.profit)} · margin ${amount(money.margin)}${level} · free ${amount(money.margin_free)}`);
  const values = history.map(({ equity }) => equity);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [history.at(0)?.time ?? 0, history.at(-1)?.time ?? 0];
  const x = (time) => (CURVE.width * (time - first)) / Math.max(1, last - first);
  const y = (value) => CURVE.height - 1 - ((CURVE.height - 2) * (value - low)) / Math.max(high - low, 1e-9);
  mark(parts.curve, "d", history.map(({ time, equity }, index) => `${index === 0 ? "M" : "L"}${x(time).toFixed(1)} ${y(equity).toFixed(1)}`).join(""));
  hide(parts.range, history.length === 0);
  const range = `${amount(low)} to ${amount(high)}, the last ${counted(Math.max(1, Math.round((last - first) / 60)), "minute")}`;
  write(parts.range, range);
  mark(parts.plot, "aria-label", `Equity: ${range}`);
}

/** Whether a card has a button. */
function offer(node, button, isOffered) {
  if (isOffered && !button.isConnected) node.querySelector("footer").append(button);
  if (!isOffered) button.remove();
}

function updateCard(node, account, { may_restart: mayRestart, may_halt: mayHalt }) {
  const { parts } = node;
  const { state, since, reason } = account.health;
  const ready = account.sessions.filter((session) => session.state === "ready").length;
  mark(node, "class", `account ${state}`);
  write(parts.mark, MARKS[state]);
  write(parts.state, state);
  setTime(parts.since, since);
  setTime(parts.at, since);
  hide(parts.reason, reason === null);
  write(parts.reason, reason ?? "");
  const unknown = account.trades_unknown;
  hide(parts.unknownLine, unknown === 0);
  write(parts.unknown, unknown === null ? "unknown trades: not measured" : counted(unknown, "unknown trade"));
  hide(parts.oldest, account.trades_unknown_since === null);
  if (account.trades_unknown_since !== null) setTime(parts.unknownAt, account.trades_unknown_since);
  write(parts.ready, `${ready} of ${counted(account.sessions.length, "session")} ready`);
  write(parts.login, `login ${account.login}`);
  write(parts.server, account.server);
  write(parts.mode, account.mode);
  const { open } = account.trading;
  write(parts.trade, account.paused ? "paused" : open.allowed ? "may trade" : `may not trade: ${open.reasons.map(words).join(", ")}`);
  updateMoney(parts, account.money);
  list(parts.sessions, [...account.sessions.entries()], ([index]) => index, makeSession, updateSession);
  const halted = open.reasons.includes("halted");
  mark(parts.halt, "data-halted", halted);
  write(parts.halt, halted ? "Lift halt…" : "Halt…");
  mark(parts.halt, "aria-label", `${halted ? "Lift the halt of" : "Halt"} ${account.name}`);
  offer(node, parts.halt, mayHalt);
  offer(node, parts.restart, mayRestart);
}

export function showAccounts(answer) {
  const { accounts } = answer;
  list(byId("accounts"), accounts, (account) => account.name, makeCard, (node, account) => updateCard(node, account, answer));
  hide(byId("no-accounts"), accounts.length > 0);
}

export function refreshHoldings() {
  for (const card of byId("accounts").children) {
    card.parts.positions.refresh();
    card.parts.trades.refresh();
  }
}

setInterval(refreshHoldings, REFRESH);

// === Restart ===

function confirmRestart(name, parts) {
  const sessions = parts.sessions.childElementCount;
  const text = sessions === 1
    ? "Its terminal finishes what is under way and is replaced. Until the new one has logged in, all calls and trades of this account are refused."
    : `Its ${sessions} terminals finish what is under way and are replaced, one at a time. Reads move to the others; trades that wait on a terminal are refused and not sent.`;
  confirm({ title: `Restart the terminals of ${name}?`, text, go: `Restart ${name}`, act: () => restart(name, parts) });
}

async function restart(name, parts) {
  write(parts.notice, "asking for the restart …");
  try {
    const response = await ask(`${pathOf(name)}/restart`, "POST");
    if (!response.ok) throw new Error(await faultOf(response));
    const { sessions } = await response.json();
    write(parts.notice, `${clockTime(Date.now())}: the restart of ${counted(sessions, "terminal")} has begun`);
  } catch (fault) {
    write(parts.notice, `${clockTime(Date.now())}: not restarted: ${fault.message}`);
  }
}
