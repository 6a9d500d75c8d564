// What a user sets: theme and single-key shortcuts. Both are kept in this browser.

import { byId, say } from "./dom.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // storage is switched off; the choice lasts as long as the page
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // as above
  }
}

let chosen = recall("hftlib.theme");
const theme = () => chosen ?? (dark.matches ? "dark" : "light");

/** Follow the system until somebody chooses; `onChange()` draws the figures anew. */
export function prepareTheme(onChange) {
  const apply = () => {
    document.documentElement.dataset.theme = theme();
    say(byId("theme"), theme() === "dark" ? "Light" : "Dark");
    byId("theme").setAttribute("aria-label", `Change to the ${theme() === "dark" ? "light" : "dark"} theme`);
  };
  apply();
  dark.addEventListener("change", () => {
    apply();
    onChange();
  });
  byId("theme").addEventListener("click", () => {
    chosen = theme() === "dark" ? "light" : "dark";
    keep("hftlib.theme", chosen);
    apply();
    onChange();
  });
}

/** Single keys, unless something is typed or a dialog is open. */
export function prepareKeys(actions) {
  const help = byId("help");
  const open = () => help.open || help.showModal();
  byId("help-open").addEventListener("click", open);
  byId("help-close").addEventListener("click", () => help.close());
  const switched = byId("keys");
  switched.checked = recall("hftlib.keys") !== "off";
  switched.addEventListener("change", () => keep("hftlib.keys", switched.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest?.("input, select, textarea, dialog[open]");
    if (isTyping || event.ctrlKey || event.altKey || event.metaKey || !switched.checked) return;
    if (document.querySelector("dialog[open]")) return;
    const all = { ...actions, "?": open, t: () => byId("theme").click() };
    const act = /^[1-9]$/.test(event.key) ? () => actions.symbol(Number(event.key) - 1) : all[event.key];
    if (event.key === "symbol" || !act) return;
    event.preventDefault();
    act();
  });
}
