// One row a symbol: what the model wants of it, and what is held.

import { byId, fill, make, meter, nothing, say, table } from "./dom.js";
import * as format from "./format.js";

/** Symbols in a steady order: those of paper trading, then those of the model. */
export function listSymbols(paper, card) {
  const held = (paper?.positions ?? []).map((row) => row.symbol);
  const priced = Object.keys(paper?.prices ?? {});
  const names = new Set([...held, ...priced]);
  if (!paper) for (const name of card?.symbols ?? []) names.add(name);
  return [...names];
}

const isShare = (card) => /weight|share/i.test(card?.unit ?? "");

/** An action in the model's own unit: a share as a percentage, a choice by its name. */
export function actionText(one, card) {
  if (one?.action === null || one?.action === undefined) return format.DASH;
  if (one.probabilities) {
    return Object.entries(one.probabilities).sort((a, b) => b[1] - a[1])[0]?.[0] ?? format.DASH;
  }
  return isShare(card) ? format.signedPercent(one.action, 1) : format.signed(one.action, 3);
}

/** Colour and triangle of a signed value, its text behind them. */
function mark(value, text) {
  const kind = value > 0 ? "buy" : value < 0 ? "sell" : "";
  return make("span", { class: kind }, `${value > 0 ? "▲ " : value < 0 ? "▼ " : ""}${text}`);
}

function gauge(value, text, [low, high]) {
  if (value === null || value === undefined) return make("span", { class: "soft" }, format.DASH);
  return make("span", { class: "gauge" }, meter(value, low, high), mark(value, text));
}

function wants(one, card, bounds) {
  if (one?.action === null) return make("span", { class: "soft" }, `needs ${one.missing_rows} more bars`);
  return gauge(one?.action, actionText(one, card), bounds);
}

/** Bounds of the bars: shares at the next round scale above all of them, else the model's own. */
function scaleOf(rows, card) {
  const weights = rows.map((row) => Math.abs(row.position?.weight ?? 0));
  const actions = isShare(card) ? rows.map((row) => Math.abs(row.prediction?.action ?? 0)) : [];
  const largest = Math.max(0, ...weights, ...actions);
  const share = [0.05, 0.1, 0.2, 0.5, 1].find((scale) => scale >= largest) ?? largest;
  return { held: [-share, share], wanted: isShare(card) ? [-share, share] : [card?.low ?? -1, card?.high ?? 1] };
}

const spread = (one, card) => {
  const value = one?.uncertainty;
  return isShare(card) ? format.percent(value, 1) : format.number(value, 3);
};

/** The table; `choose(symbol)` is called when one is picked. */
export function showSymbols(view, choose) {
  const { paper, card, predictions } = view;
  const positions = new Map((paper?.positions ?? []).map((row) => [row.symbol, row]));
  const rows = view.symbols.map((symbol) => ({
    symbol,
    isChosen: symbol === view.symbol,
    position: positions.get(symbol) ?? null,
    prediction: predictions.get(symbol) ?? null,
    last: view.rowsOf(symbol).at(-1)?.close ?? null,
  }));
  const scale = scaleOf(rows, card);
  const unit = card ? [card.unit, card.low, card.high] : null;
  fill(byId("symbols"), [rows, unit], () => {
    if (!rows.length) return nothing("No symbol yet: they come with a model or with paper trading.");
    return build(rows, card, scale, choose, paper?.ts_ns);
  });
  const bars = `bars: ±${format.percent(scale.held[1], 0)} of equity`;
  say(byId("symbols-note"), card ? `the model wants: ${card.unit}; ${bars}` : paper ? bars : "");
}

function build(rows, card, scale, choose, now) {
  const pick = (row) => {
    const button = make(
      "button",
      { type: "button", class: "link", "aria-pressed": String(row.isChosen), "data-key": row.symbol },
      row.symbol,
    );
    button.addEventListener("click", () => choose(row.symbol));
    return button;
  };
  return table("What the model wants of each symbol, and what is held", [
    { name: "Symbol", kind: "text", text: pick },
    { name: "Wants", text: (row) => wants(row.prediction, card, scale.wanted) },
    { name: "Holds", text: (row) => gauge(row.position?.weight, format.signedPercent(row.position?.weight, 1), scale.held) },
    { name: "Last price", text: (row) => format.price(row.position?.price ?? row.last) },
    { name: "Units", text: (row) => format.units(row.position?.units) },
    { name: "Average cost", text: (row) => format.price(row.position?.average_cost) },
    { name: "Value", text: (row) => format.number(row.position?.value) },
    { name: "Unrealised", text: (row) => format.signed(row.position?.unrealised) },
    { name: "Confidence", text: (row) => format.percent(row.prediction?.confidence, 0) },
    { name: "Uncertainty ±", text: (row) => spread(row.prediction, card) },
    { name: "Of the bar (UTC)", text: (row) => format.stamp(row.prediction?.ts_ns, now) },
  ], rows, now);
}
