// Asks once more before something is done that cannot be taken back.

import { byId, write } from "./dom.js";

let carryOut = () => {};

/** Shows what is about to happen. `act` is called only if the reader chooses it. */
export function confirm({ title, text, go, act }) {
  carryOut = act;
  write(byId("confirm-title"), title);
  write(byId("confirm-text"), text);
  write(byId("confirm-go"), go);
  byId("confirm").showModal();
  byId("confirm-cancel").focus();
}

byId("confirm-cancel").addEventListener("click", () => byId("confirm").close());
byId("confirm-go").addEventListener("click", () => {
  byId("confirm").close();
  carryOut();
});
