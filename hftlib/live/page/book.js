// The order book as a ladder: asks above, bids below, every venue or all of them in one.

import { byId, fill, make, nothing } from "./dom.js";
import * as format from "./format.js";

const N_LEVELS = 8; // shown of each side

/** All venues as one: units at the same price are added; best first. */
export function merge(venues, name) {
  const sides = {};
  for (const [key, sign] of [["bids", -1], ["asks", 1]]) {
    const levels = new Map();
    for (const book of Object.values(venues)) {
      for (const [price, units] of book[key] ?? []) levels.set(price, (levels.get(price) ?? 0) + units);
    }
    sides[key] = [...levels].sort((a, b) => sign * (a[0] - b[0]));
  }
  return { [name]: sides };
}

function cells(level, kind, largest) {
  if (!level) return [make("td", { class: "number" }, ""), make("td", { class: "number" }, "")];
  const units = make("td", { class: `number depth ${kind}` }, format.units(level[1]));
  units.style.setProperty("--share", `${(100 * level[1]) / largest}%`);
  return [make("td", { class: `number ${kind}` }, format.price(level[0])), units];
}

function middle(book) {
  const bid = book.bids?.[0]?.[0];
  const ask = book.asks?.[0]?.[0];
  if (bid === undefined || ask === undefined) return "one side is empty";
  const bps = (1e4 * (ask - bid)) / ((ask + bid) / 2);
  const state = ask < bid ? "crossed " : ask === bid ? "locked " : "";
  return `${state}${format.price(Math.abs(ask - bid), ask)} · ${format.number(Math.abs(bps), 2)} bp`;
}

/** The ladder of one symbol's venues. */
export function showBook(symbol, venues, isMerged) {
  const place = byId("book");
  const names = Object.keys(venues ?? {});
  byId("book-merged").setAttribute("aria-pressed", String(isMerged));
  byId("book-venues").setAttribute("aria-pressed", String(!isMerged));
  fill(place, [symbol, venues ?? null, isMerged], () => {
    if (!names.length) return nothing("No order book: it comes with paper trading on venues that show one.");
    return build(symbol, isMerged ? merge(venues, names.join(" + ")) : venues);
  });
}

function build(symbol, books) {
  const all = Object.values(books);
  const depth = (key) => Math.min(N_LEVELS, Math.max(0, ...all.map((book) => book[key]?.length ?? 0)));
  const shownUnits = all.flatMap((book) =>
    ["bids", "asks"].flatMap((key) => (book[key] ?? []).slice(0, N_LEVELS).map((level) => level[1])),
  );
  const largest = Math.max(1e-12, ...shownUnits);
  const row = (key, k) => {
    const kind = key === "bids" ? "buy" : "sell";
    return make(
      "tr",
      {},
      make("th", { scope: "row", class: "text soft" },
        key === "bids" ? "▲" : "▼", make("span", { class: "hidden" }, kind === "buy" ? "bid" : "ask"), ` ${k + 1}`),
      ...all.flatMap((book) => cells(book[key]?.[k], kind, largest)),
    );
  };
  const asks = Array.from({ length: depth("asks") }, (_, k) => row("asks", k)).reverse();
  const bids = Array.from({ length: depth("bids") }, (_, k) => row("bids", k));
  const spreads = make(
    "tr",
    { class: "spread" },
    make("th", { scope: "row", class: "text soft" }, "spread"),
    ...all.map((book) => make("td", { colspan: 2 }, middle(book))),
  );
  const heads = ["Price", "Units"].map((text) => make("th", { scope: "col", class: "number" }, text));
  return make(
    "table",
    { class: all.length > 1 ? "ladder dense" : "ladder" },
    make("caption", { class: "hidden" }, `Order book of ${symbol}`),
    make(
      "thead",
      {},
      make("tr", {}, make("td"), ...Object.keys(books).map((name) => make("th", { scope: "colgroup", colspan: 2, class: "venue" }, name))),
      make("tr", {}, make("th", { scope: "col", class: "text" }, "Level"), ...all.flatMap(() => heads.map((head) => head.cloneNode(true)))),
    ),
    make("tbody", {}, ...asks, spreads, ...bids),
  );
}
