// The active model: its card, and what it says of each symbol when asked at once.

import { byId, fill, make, nothing, say } from "./dom.js";
import { ask } from "./feed.js";
import * as format from "./format.js";

const MAX_SYMBOLS = 200; // of one question
const MAX_SHOWN = 12; // features and metrics named before the rest is counted

/** The card, or an error whose text says why there is none. */
export const loadCard = () => ask("/model/info");

/** What the model says of every stream that has begun; needs no token and changes nothing. */
export async function askAll(card, positions) {
  if (card.takes !== "bars") return [];
  const weights = new Map(positions.map((row) => [row.symbol, row.weight ?? 0]));
  const begun = (await ask("/symbols")).symbols.filter((row) => row.n_rows > 0);
  if (!begun.length) return [];
  const items = begun.slice(0, MAX_SYMBOLS).map(({ symbol }) => {
    const exposure = Math.min(Math.max(weights.get(symbol) ?? 0, -100), 100);
    return { symbol, position: Math.sign(exposure), exposure };
  });
  const body = JSON.stringify({ items });
  const headers = { "Content-Type": "application/json" };
  return (await ask("/predict/batch", { method: "POST", headers, body })).predictions;
}

const some = (names) =>
  names.slice(0, MAX_SHOWN).join(", ") + (names.length > MAX_SHOWN ? ` and ${names.length - MAX_SHOWN} more` : "");

const metricText = (value) => (typeof value === "number" ? format.number(value, 3) : null);

export function showModel(card, fault) {
  say(byId("model-name"), card ? `${card.name} ${card.version}` : "none");
  fill(byId("model"), [card, fault], () => {
    if (!card) return nothing(fault || "The card of the model is being read.");
    const measured = Object.entries(card.metrics).filter(([, value]) => metricText(value) !== null);
    const rows = [
      ["Kind", card.kind],
      ["Takes", `${card.takes}, at least ${card.min_rows}`],
      ["Action", `${card.unit}, ${format.number(card.low, 2)} to ${format.number(card.high, 2)}`],
      ["Choices", some(card.choices) || null],
      ["Symbols", some(card.symbols)],
      ["Inputs", some(card.features)],
      ["Revision", card.git_revision || format.DASH],
      ...measured.slice(0, MAX_SHOWN).map(([name, value]) => [`${format.words(name)}, validation`, metricText(value)]),
    ].filter(([, text]) => text !== null);
    return make("dl", { class: "pairs" }, ...rows.flatMap(([name, text]) =>
      [make("dt", {}, name), make("dd", {}, text)]));
  });
}
