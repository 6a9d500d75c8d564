// The top of the page: trading or halted, equity, drawdown, what is held and what is wanted.

import { phaseOf } from "./banners.js";
import { byId, fill, make, meter, say } from "./dom.js";
import * as format from "./format.js";
import { actionText } from "./symbols.js";

const PHASES = { opening: "the account is being opened", failed: "the account was not opened" };

/** Why there is no number. */
function missing(paper) {
  if (!paper) return "needs paper trading";
  return PHASES[phaseOf(paper).phase] ?? "not known yet";
}

/** One word for what paper trading does now, and the sentence of the banner. */
export function standingOf(view, feed) {
  const { paper } = view;
  if (feed.state === "lost") return { state: "lost", text: "■ No connection" };
  if (view.hasPaper === null) return { state: "loading", text: "Connecting" };
  if (!paper) return { state: "empty", text: "No paper trading" };
  const session = phaseOf(paper).phase;
  if (session === "failed") return { state: "halted", text: "■ Failed" };
  if (paper.halted) return { state: "halted", text: "■ Halted" };
  if (session === "opening") return { state: "loading", text: "Opening" };
  if (session === "ended") return { state: "empty", text: "□ Ended" };
  const phase = paper.breaker?.phase;
  if (phase === "open") return { state: "reducing", text: "◆ Only reducing" };
  if (phase === "half_open") return { state: "reducing", text: "◆ Probing after a trip" };
  return { state: "trading", text: "● Trading" };
}

function cell(id, big, note) {
  const place = byId(id);
  say(place.querySelector(".big"), big);
  say(place.querySelector(".note"), note);
}

export function showGlance(view) {
  const { paper } = view;
  const standing = paper?.standing;
  const today = standing ? standing.equity - standing.day_equity : null;
  const share = standing?.day_equity ? today / standing.day_equity : null;
  cell("glance-equity", format.number(standing?.equity),
    standing ? `${format.signed(today)} (${format.signedPercent(share)}) today` : missing(paper));

  const limit = (paper?.limits ?? []).find((row) => row.name.includes("drawdown"))?.limit ?? null;
  const fallen = standing?.drawdown;
  cell("glance-drawdown", format.percent(fallen),
    !standing ? missing(paper) : limit === null ? "no limit" : `of at most ${format.percent(limit, 1)}`);
  const used = limit > 0 ? fallen / limit : NaN;
  const kind = used >= 1 ? "beyond" : used >= 0.8 ? "near" : "";
  fill(document.querySelector("#glance-drawdown .meter"), [used, kind], () => meter(used, 0, 1, kind));

  const positions = paper?.positions ?? [];
  const gross = paper?.positions ? positions.reduce((sum, row) => sum + Math.abs(row.weight ?? 0), 0) : null;
  const count = (sign) => positions.filter((row) => Math.sign(row.units) === sign).length;
  cell("glance-held", format.percent(gross, 1),
    paper?.positions ? `of equity; ${count(1)} long, ${count(-1)} short` : missing(paper));
  showWants(view);
}

function showWants(view) {
  const asked = view.symbols
    .map((symbol) => view.predictions.get(symbol))
    .filter((one) => one && one.action !== null)
    .sort((a, b) => Math.abs(b.action) - Math.abs(a.action));
  const rows = asked.slice(0, 5).map((one) => [one.symbol, actionText(one, view.card), Math.sign(one.action)]);
  const place = byId("glance-wants");
  fill(place.querySelector(".wants"), rows, () => rows.map(([symbol, text, sign]) =>
    make("li", {},
      make("span", { class: "soft" }, symbol),
      make("span", { class: `number ${sign > 0 ? "buy" : sign < 0 ? "sell" : ""}` },
        `${sign > 0 ? "▲" : sign < 0 ? "▼" : "•"} ${text}`))));
  say(place.querySelector(".note"), noteOf(view, asked.length));
}

/** Where no prediction came over the stream, what paper trading last asked the risk engine for. */
function noteOf(view, n) {
  if (n > 5) return `the five largest of ${n}`;
  if (n > 0) return view.card?.unit ?? "";
  const last = view.paper?.checks?.at(-1);
  if (last) return `last asked: ${last.asked > 0 ? "buy" : "sell"} ${format.units(Math.abs(last.asked))} ${last.symbol} at ${format.time(last.ts_ns)} UTC`;
  return view.card ? "no prediction yet: it needs bars" : "no model";
}
