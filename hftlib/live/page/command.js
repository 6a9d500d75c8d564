// A dialog that sends what needs the token: the kill switch, and the end of a halt.

import { byId, say } from "./dom.js";
import { ask } from "./feed.js";

let token = ""; // of both dialogs; in the memory of this page only

/**
 * Wire the dialog `name`, whose parts are `name-open`, `-form`, `-token`, `-fault` and so on.
 *
 * `path` takes what `read()` makes of the fields; `failed` begins what is said of a refusal;
 * `onDone(snapshot, body)` gets the service's answer and what was sent. Returns what opens it.
 */
export function prepareCommand(name, { path, failed, read, onDone }) {
  const dialog = byId(name);
  const part = (of) => byId(`${name}-${of}`);

  function open() {
    if (dialog.open || part("open").disabled || part("open").closest("[hidden]")) return;
    part("token").value = token;
    for (const box of dialog.querySelectorAll("[type=checkbox]")) box.checked = false;
    fail("");
    dialog.showModal();
    dialog.querySelector("input").focus();
  }

  function fail(text) {
    part("fault").hidden = !text;
    say(part("fault"), text);
    if (!text) return;
    if (!dialog.open) dialog.showModal(); // closed while the answer was awaited
    part("fault").scrollIntoView({ block: "nearest" });
  }

  async function send() {
    const given = part("token").value.trim();
    if (!/^[\x21-\x7e]+$/.test(given)) {
      fail("a token holds only ASCII letters, digits and signs, no spaces; copy it again");
      return;
    }
    fail("");
    part("send").disabled = true;
    const body = read();
    try {
      const snapshot = await ask(path, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${given}` },
        body: JSON.stringify(body),
      });
      token = given;
      dialog.close();
      onDone(snapshot, body);
    } catch (error) {
      if (error.status === 401) token = "";
      fail(`${failed}: ${error.message}`);
    } finally {
      part("send").disabled = false;
    }
  }

  part("open").addEventListener("click", open);
  part("cancel").addEventListener("click", () => dialog.close());
  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!part("send").disabled) send();
  });
  return open;
}
