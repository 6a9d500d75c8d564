// The kill switch: asks for a reason, the token and a confirmation. The token stays in memory.

import { byId, say } from "./dom.js";
import { ask } from "./feed.js";

let token = "";

/** Wire the dialog; `onHalted(snapshot)` gets the service's answer. */
export function prepareKill(onHalted) {
  const dialog = byId("kill");
  byId("kill-open").addEventListener("click", openKill);
  byId("kill-cancel").addEventListener("click", () => dialog.close());
  byId("kill-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send(dialog, onHalted);
  });
}

export function openKill() {
  const dialog = byId("kill");
  if (dialog.open || byId("kill-open").disabled) return;
  byId("kill-token").value = token;
  byId("kill-sure").checked = false;
  byId("kill-flatten").checked = false;
  fail("");
  dialog.showModal();
  byId("kill-reason").focus();
}

function fail(text) {
  byId("kill-fault").hidden = !text;
  say(byId("kill-fault"), text);
}

async function send(dialog, onHalted) {
  const given = byId("kill-token").value.trim();
  const button = byId("kill-send");
  if (!/^[\x21-\x7e]+$/.test(given)) {
    fail("a token holds only ASCII letters, digits and signs, no spaces; copy it again");
    return;
  }
  fail("");
  button.disabled = true;
  const body = { reason: byId("kill-reason").value.trim() };
  if (byId("kill-flatten").checked) body.flatten = true;
  try {
    const snapshot = await ask("/paper/halt", {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${given}` },
      body: JSON.stringify(body),
    });
    token = given;
    dialog.close();
    onHalted(snapshot);
  } catch (error) {
    if (error.status === 401) token = "";
    fail(`Not stopped: ${error.message}`);
  } finally {
    button.disabled = false;
  }
}
