// Tables and lists of paper trading's state.

import { byId, fill, make, meter, nothing, say, side, table } from "./dom.js";
import * as format from "./format.js";

const newestFirst = (rows) => [...(rows ?? [])].reverse();
const reasonsText = (reasons) => (Array.isArray(reasons) ? reasons.join("; ") : String(reasons ?? ""));

const FILLS = [
  { name: "Time (UTC)", kind: "text", text: (row, now) => format.stamp(row.ts_ns, now) },
  { name: "Symbol", kind: "text", text: (row) => row.symbol },
  { name: "Side", kind: "text", text: (row) => side(row.quantity) },
  { name: "Units", text: (row) => format.units(Math.abs(row.quantity)) },
  { name: "Price", text: (row) => format.price(row.price) },
  { name: "Slippage, bp", text: (row) => format.signed(row.slippage_bps) },
  { name: "Fee", text: (row) => format.number(row.fee) },
  { name: "Venue", kind: "text", text: (row) => row.venue },
];

const ORDERS = [
  { name: "Sent (UTC)", kind: "text", text: (row, now) => format.stamp(row.sent_ns, now) },
  { name: "Symbol", kind: "text", text: (row) => row.symbol },
  { name: "Side", kind: "text", text: (row) => side(row.quantity) },
  { name: "Units", text: (row) => format.units(Math.abs(row.quantity)) },
  { name: "Filled", text: (row) => format.units(Math.abs(row.filled)) },
  { name: "Limit", text: (row) => format.price(row.limit_price) },
  { name: "Status", kind: "text", text: (row) => row.status ?? format.DASH },
  { name: "Venue", kind: "text", text: (row) => row.venue },
  { name: "Why", kind: "long", text: (row) => row.reason || format.DASH },
];

const CHECKS = [
  { name: "Time (UTC)", kind: "text", text: (row, now) => format.stamp(row.ts_ns, now) },
  { name: "Symbol", kind: "text", text: (row) => row.symbol },
  { name: "Verdict", kind: "text", text: (row) => row.action },
  { name: "Asked", text: (row) => format.units(row.asked) },
  { name: "Allowed", text: (row) => format.units(row.allowed) },
  { name: "Why", kind: "long", text: (row) => reasonsText(row.reasons) || format.DASH },
];

const dayOf = (paper) => format.time(paper?.ts_ns).slice(0, 10);

function showTable(id, paper, caption, columns, before, without) {
  const rows = paper?.[id] ?? [];
  fill(byId(id), [dayOf(paper), rows], () => {
    if (!rows.length) return nothing(paper ? before : without);
    return table(caption, columns, newestFirst(rows), paper.ts_ns);
  });
}

/** Trades, orders, checks and alerts. */
export function showTables(paper) {
  showTable("fills", paper, "Trades, newest first", FILLS,
    "No fills yet: a row comes with the first order that trades.", "Trades of paper trading come here.");
  showTable("orders", paper, "Orders, newest first", ORDERS,
    "No orders yet.", "Orders of paper trading come here.");
  showTable("checks", paper, "Checks of the risk engine, newest first", CHECKS,
    "No checks yet: each order is checked before it is sent.",
    "What the risk engine says of each order comes here.");
  const alerts = newestFirst(paper?.alerts);
  fill(byId("alerts"), [dayOf(paper), alerts], () => {
    if (!alerts.length) return nothing(paper ? "No alerts." : "Alerts of paper trading come here.");
    return make("ol", { class: "alerts" }, ...alerts.map((row) =>
      make("li", {},
        make("span", { class: "number soft" }, format.stamp(row.ts_ns, paper.ts_ns)),
        make("strong", {}, format.words(row.name)),
        make("span", {}, row.text)),
    ));
  });
}

const isCount = (name) => /trades|orders|count|losses/.test(name);

/** A limit's bar; the text says the same without colour. */
function limitRow({ name, used, limit }) {
  const show = isCount(name) ? (value) => format.number(value, 0) : (value) => format.percent(value);
  const hasBoth = Number.isFinite(used) && Number.isFinite(limit) && limit > 0;
  const share = hasBoth ? used / limit : NaN;
  const kind = share >= 1 ? "beyond" : share >= 0.8 ? "near" : "";
  const state = { beyond: " · reached", near: " · near" }[kind] ?? "";
  const most = limit === null ? ", no limit" : ` of ${show(limit)}`;
  return make("li", { class: kind },
    make("span", {}, format.words(name), state ? make("strong", {}, state) : null),
    make("span", { class: "number" }, `${show(used)}${most}`),
    meter(share, 0, 1, kind));
}

export function showLimits(paper) {
  const limits = paper?.limits ?? [];
  fill(byId("limits"), [Boolean(paper), limits], () =>
    limits.length ? limits.map(limitRow) : nothing("Limits of the risk engine, and how much of each is used, come with paper trading."));
}

export function showStatistics(paper) {
  const found = paper?.statistics;
  const rows = [
    ["Sharpe ratio", format.number(found?.sharpe)],
    ["Win rate", format.percent(found?.win_rate, 1)],
    ["Trades", format.number(found?.n_trades, 0)],
    ["Realised", format.signed(found?.realised)],
    ["Fees paid", format.number(found?.fees)],
    ["Deepest drawdown", format.percent(found?.max_drawdown)],
    ["Turnover", Number.isFinite(found?.turnover) ? `${format.number(found.turnover)} × equity` : format.DASH],
    ["Bars seen", format.number(found?.n_bars, 0)],
    ["Cash", format.number(paper?.standing?.cash)],
    ["Paid in", format.number(paper?.standing?.initial_cash)],
  ];
  fill(byId("statistics"), rows, () =>
    rows.flatMap(([name, text]) => [make("dt", {}, name), make("dd", { class: "number" }, text)]));
}

/** Verdict and columns; a column changed where its p is at most half the level. */
export function showDrift(paper) {
  const drift = paper?.drift;
  const half = (drift?.level ?? 0) / 2;
  const verdict = byId("drift-verdict");
  say(verdict, !drift ? "not measured yet" : drift.is_drift ? "◆ drift" : "no drift");
  verdict.className = drift?.is_drift ? "tag warn" : "tag";
  say(byId("drift-note"), !drift ? "" :
    `${format.number(drift.n_current, 0)} rows to ${format.time(drift.ts_ns)} UTC against those of training; ` +
    `all columns together p = ${format.chance(drift.mmd_p)}; drift is a p of at most ${format.chance(half)}, there or of one`);
  const columns = drift?.columns ?? [];
  fill(byId("drift"), [Boolean(paper), columns, half], () => {
    if (!columns.length) return nothing(paper
      ? "Drift is measured once enough bars have come."
      : "Whether the inputs still look like those of training is shown here during paper trading.");
    return table("Drift of each input", [
      { name: "Input", kind: "text", text: (row) => row.name },
      { name: "Verdict", kind: "text", text: (row) => (row.ks_p <= half ? make("strong", {}, "◆ changed") : "as before") },
      { name: "PSI, nats", text: (row) => format.number(row.psi, 3) },
      { name: "KS distance", text: (row) => format.number(row.ks, 3) },
      { name: "p of KS", text: (row) => format.chance(row.ks_p) },
    ], columns);
  });
}
