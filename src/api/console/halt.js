// The red button: of an account, and of all of them.

import { confirm } from "./confirm.js";
import { byId, hide, write } from "./dom.js";
import { clockTime, counted } from "./format.js";
import { ask, faultOf } from "./gateway.js";

const HALT_TEXT = "Nothing is opened any more: no new orders, no moved orders, no wider stops. Closing and cancelling go on. This stays so, also after a restart of the gateway, until somebody lifts it.";
const LIFT_TEXT = "From then on orders are sent again, also those that clients repeat by themselves.";

async function send(path, method, notice, done) {
  write(notice, method === "PUT" ? "halting …" : "lifting the halt …");
  try {
    const response = await ask(path, method);
    if (!response.ok) throw new Error(await faultOf(response));
    write(notice, `${clockTime(Date.now())}: ${done(await response.json())}`);
  } catch (fault) {
    write(notice, `${clockTime(Date.now())}: not done: ${fault.message}`);
  }
}

/** What of some accounts may still be opened. */
function rest(accounts) {
  const sent = accounts.flatMap((account) => account.sent).length;
  const orders = accounts.flatMap((account) => account.orders ?? []).length;
  const silent = accounts.filter((account) => account.problem !== null).map((account) => `${account.account}: ${account.problem}`);
  const parts = [];
  if (sent > 0) parts.push(`${counted(sent, "trade")} had been sent before`);
  if (orders > 0) parts.push(`${counted(orders, "resting order")} may still be filled`);
  if (silent.length > 0) parts.push(`halt again, because of ${silent.join(", ")}`);
  return parts.length > 0 ? `halted; ${parts.join("; ")}` : "halted";
}

/** Asks before an account is halted, or its halt is lifted. */
export function confirmHalt(name, path, isHalted, notice) {
  confirm(isHalted
    ? { title: `Lift the halt of ${name}?`, text: LIFT_TEXT, go: `Lift the halt of ${name}`,
        act: () => send(`${path}/halt`, "DELETE", notice, ({ halted }) => (halted ? "still halted with all accounts" : "the halt is lifted")) }
    : { title: `Halt ${name}?`, text: HALT_TEXT, go: `Halt ${name}`,
        act: () => send(`${path}/halt`, "PUT", notice, (account) => rest([account])) });
}

let areHalted = false;

/** Offers to halt all accounts, or to lift that. */
export function offerHaltOfAll({ all_halted, may_halt_all }) {
  areHalted = all_halted;
  hide(byId("halt-all"), !may_halt_all);
  write(byId("halt-all"), areHalted ? "Lift the halt of all accounts…" : "Halt all accounts…");
  hide(byId("halted"), !areHalted);
}

byId("halt-all").addEventListener("click", () => {
  const notice = byId("halt-notice");
  confirm(areHalted
    ? { title: "Lift the halt of all accounts?", text: `${LIFT_TEXT} Accounts that were halted by themselves stay so.`, go: "Lift the halt",
        act: () => send("/api/v1/halt", "DELETE", notice, () => "the halt of all accounts is lifted") }
    : { title: "Halt all accounts?", text: HALT_TEXT, go: "Halt all accounts",
        act: () => send("/api/v1/halt", "PUT", notice, ({ accounts }) => rest(accounts)) });
});
