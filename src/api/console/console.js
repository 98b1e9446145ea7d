// Asks the gateway how everything is, every two seconds, and lets the page show it.

import { refreshHoldings, showAccounts } from "./accounts.js";
import { byId, element, hide, list, mark, write } from "./dom.js";
import { addEvents, forgetEvents, lastId, offerAccounts, showEvents } from "./events.js";
import { showFigures } from "./figures.js";
import { clock, clockTime, refreshTimes, setTime } from "./format.js";
import { ask, faultOf, hasKey, useKey } from "./gateway.js";
import { offerHaltOfAll } from "./halt.js";
import { showPlots } from "./plots.js";

/** From one answer to the next question, in milliseconds. */
const REFRESH = 2_000;
/** An answer of this age is old, whatever the reason: this page was asleep, or the gateway hangs. */
const OLD = 3 * REFRESH;

const WORST_FIRST = ["down", "degraded", "up"];

/** When the gateway answered last, on the clock of this machine, and what it said. */
let answered = null;
let latest = null;
/** Why there is no answer now. */
let fault = null;
/** Whether the next answer has to bring every event, and not only those that are new. */
let incomplete = true;
let build = null;
let timer = 0;
let asking = false;

// === What the tab says ===

/** How the tab shows itself: its title and its icon. */
function signal(state, text) {
  const title = `${text} – mt5-gateway`;
  if (document.title !== title) document.title = title;
  mark(byId("icon"), "href", `/console/${state}.svg`);
}

function say(text, state) {
  const status = byId("status");
  if (status.textContent !== text) status.textContent = text;
  mark(status, "class", state);
}

/** How many accounts are how, with links to those that are not well. */
function summarize({ accounts, host }) {
  const failing = accounts.filter((account) => account.health.state !== "up");
  list(byId("attention"), failing, ({ name }) => name,
    ({ name }) => element("li", {}, element("a", { href: `#account-${name}` }, name)),
    (item, { health }) => mark(item, "class", health.state));
  const named = (state) => accounts.filter((account) => account.health.state === state).map(({ name }) => name);
  const worst = WORST_FIRST.find((state) => named(state).length > 0) ?? "up";
  if (worst === "up") {
    signal("up", `up: ${host ?? location.host}`);
    return say("Live", "up");
  }
  signal(worst, `${worst}: ${named(worst).join(", ")}`);
  const told = WORST_FIRST.filter((state) => named(state).length > 0).map((state) => `${named(state).length} ${state}`);
  say(`Live: ${told.join(", ")}`, worst);
}

// === Old numbers ===

/** Tells old numbers from present ones. */
function judgeAge() {
  const age = answered === null ? 0 : Date.now() - answered;
  const stale = fault !== null || age > OLD;
  document.body.classList.toggle("stale", stale);
  hide(byId("stale"), !stale);
  clock.stoppedAt = stale && answered !== null ? answered + clock.ahead : null;
  if (!stale) return;
  const why = fault ?? "the gateway does not answer";
  if (answered === null) {
    write(byId("stale-text"), `No answer yet: ${why}.`);
    signal("stale", "no answer");
    return say("Not connected", "down");
  }
  const at = clockTime(answered);
  write(byId("stale-text"), `Last answer at ${at}: ${why}. What is shown below is old.`);
  setTime(byId("stale-age"), new Date(answered + clock.ahead).toISOString());
  signal("stale", `no answer since ${at}`);
  say("Not connected", "down");
}

function tick() {
  judgeAge();
  refreshTimes();
}

// === Asking ===

function show(data) {
  // The numbers of another process may begin below those that are known.
  incomplete = latest !== null && latest.started !== data.started;
  // This page is of the version that served it.
  build ??= data.version + data.revision;
  hide(byId("reload"), build === data.version + data.revision);
  latest = data;
  clock.ahead = Date.parse(data.now) - Date.now();
  write(byId("host"), data.host ?? location.host);
  write(byId("version"), `version ${data.version}`);
  mark(byId("version"), "title", `revision ${data.revision}`);
  setTime(byId("uptime"), data.started);
  hide(byId("about"), false);
  showAccounts(data);
  offerHaltOfAll(data);
  showFigures(data);
  showPlots(data);
  addEvents(data.events);
  offerAccounts(data.accounts.map((account) => account.name));
  showEvents();
  summarize(data);
}

function askForKey(why) {
  hide(byId("main"), true);
  hide(byId("stale"), true);
  hide(byId("about"), true);
  hide(byId("key-form"), false);
  document.body.classList.remove("stale");
  byId("key-fault").textContent = why;
  [answered, fault, latest, incomplete] = [null, null, null, true];
  forgetEvents();
  say("Waiting for a key", null);
  signal("stale", "waiting for a key");
  byId("key").focus();
}

async function refresh() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    const response = await ask(`/api/v1/console?after=${incomplete ? 0 : lastId()}`);
    if (response.status === 401 || response.status === 403) {
      const why = hasKey() ? await faultOf(response) : "";
      useKey(null);
      return askForKey(why);
    }
    if (!response.ok) throw new Error(await faultOf(response));
    const data = await response.json();
    [answered, fault] = [Date.now(), null];
    hide(byId("key-form"), true);
    hide(byId("main"), false);
    hide(byId("forget"), !hasKey());
    show(data);
  } catch (error) {
    fault = error.message;
  } finally {
    asking = false;
  }
  tick();
  document.body.dataset.asked = Number(document.body.dataset.asked ?? 0) + 1;
  timer = setTimeout(refresh, REFRESH);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key").value = "";
  refresh();
});

byId("forget").addEventListener("click", () => {
  useKey(null);
  location.reload();
});

byId("reload").addEventListener("click", () => location.reload());

document.addEventListener("visibilitychange", () => {
  if (document.hidden || answered === null) return;
  refresh();
  refreshHoldings();
});

setInterval(tick, 1_000);

refresh();
