// The page: holds what is known, and shows it at most once a second.

import { askedFor, follow, phaseOf, showBanners } from "./banners.js";
import { drawEquity, drawPrice } from "./charts.js";
import { showBook } from "./book.js";
import { prepareCommand } from "./command.js";
import { byId, fill, make, say } from "./dom.js";
import { Feed } from "./feed.js";
import * as format from "./format.js";
import { showGlance, standingOf } from "./glance.js";
import { askAll, loadCard, showModel } from "./model.js";
import { showDrift, showLimits, showStatistics, showTables } from "./panels.js";
import { prepareKeys, prepareTheme } from "./settings.js";
import { listSymbols, showSymbols } from "./symbols.js";

const REDRAW_MS = 1000;
const MAX_BARS = 300;

const view = {
  paper: null,
  hasPaper: null, // not known yet
  card: null,
  cardFault: "",
  predictions: new Map(),
  bars: new Map(), // closes that came with predictions, for a service without paper trading
  symbols: [],
  symbol: "",
  isMerged: true,
  asked: null, // a halt or its end that the engine has not done yet
  rowsOf: (symbol) => view.paper?.prices?.[symbol] ?? view.bars.get(symbol) ?? [],
};

function takePaper(snapshot) {
  view.paper = snapshot;
  view.hasPaper = Boolean(snapshot);
  view.asked = follow(view.asked, snapshot);
}

function takePrediction(message) {
  view.predictions.set(message.symbol, message);
  const bars = view.bars.get(message.symbol) ?? [];
  const row = { ts_ns: message.ts_ns, close: message.close, volume: message.volume };
  if (bars.at(-1)?.ts_ns === row.ts_ns) bars.pop();
  view.bars.set(message.symbol, [...bars, row].slice(-MAX_BARS));
}

async function readModel() {
  try {
    view.card = await loadCard();
    view.cardFault = "";
    for (const one of await askAll(view.card, view.paper?.positions ?? [])) {
      view.predictions.set(one.symbol, one);
    }
  } catch (error) {
    if (!view.card) view.cardFault = error.message;
  }
  redraw();
}

function take(message) {
  const isFirst = view.hasPaper === null;
  if (message.type === "paper") takePaper(message);
  if (message.type === "prediction") takePrediction(message);
  if (message.type === "hello") takePaper(message.paper ?? null);
  if (message.type === "model") {
    view.card = null;
    view.predictions.clear();
  }
  if (message.type === "hello" || message.type === "model") readModel();
  if (isFirst && view.hasPaper !== null) showAll(); // the first picture waits for nothing
  else if (message.type !== "heartbeat") redraw();
}

let drawnMs = 0;
let timer = 0;

/** Show everything soon; a burst of messages becomes one picture. */
function redraw() {
  if (timer) return;
  timer = setTimeout(() => {
    timer = 0;
    drawnMs = Date.now();
    if (!document.hidden) showAll();
  }, Math.max(0, drawnMs + REDRAW_MS - Date.now()));
}

function showAll() {
  const { paper } = view;
  view.symbols = listSymbols(paper, view.card);
  if (!view.symbols.includes(view.symbol)) view.symbol = view.symbols[0] ?? "";
  showState(feed);
  showModel(view.card, view.cardFault);
  if (view.hasPaper === null) return; // nothing was received yet
  showGlance(view);
  showChooser();
  showSymbols(view, choose);
  showBook(view.symbol, paper?.books?.[view.symbol], view.isMerged);
  showTables(paper);
  showLimits(paper);
  showStatistics(paper);
  showDrift(paper);
  announce(paper?.alerts?.at(-1));
  const rows = view.rowsOf(view.symbol);
  const last = rows.at(-1);
  say(byId("price-note"), last ? `last ${format.price(last.close)} at ${format.time(last.ts_ns)} UTC` : "");
  drawPrice(view.symbol, rows, paper?.fills ?? []);
  const limit = (paper?.limits ?? []).find((row) => row.name.includes("drawdown"))?.limit;
  drawEquity(paper?.equity ?? [], limit);
}

function showChooser() {
  const chooser = byId("symbol");
  fill(chooser, view.symbols, (names) => names.map((name) => make("option", { value: name }, name)));
  chooser.value = view.symbol;
  chooser.disabled = view.symbols.length === 0;
}

let announced = null;

/** A new alert is read out; those of the first picture are not. */
function announce(alert) {
  const key = alert ? `${alert.ts_ns} ${alert.name} ${alert.text}` : "";
  if (announced !== null && key && key !== announced) say(byId("said"), `Alert: ${alert.text}`);
  if (view.hasPaper !== null) announced = key;
}

/** Pill, banners and clock: what is known of the connection and of trading. Each second. */
function showState(feed) {
  const { paper } = view;
  const { state, text } = standingOf(view, feed);
  document.body.dataset.state = state;
  say(byId("pill"), text);
  document.title = `${text} · hftlib`;
  const session = paper?.session;
  const speed = session?.speed ? ` at ${format.number(session.speed, 0)} times real time` : "";
  say(byId("session"), session ? `${session.name}${speed}` : "");
  say(byId("clock"), paper?.ts_ns ? `${format.time(paper.ts_ns)} UTC` : "");
  byId("kill-open").disabled = !paper;
  byId("main").setAttribute("aria-busy", String(phaseOf(paper).phase === "opening"));
  showBanners(view, feed);
}

function choose(symbol) {
  if (!symbol) return;
  view.symbol = symbol;
  showAll();
}

function setMerged(isMerged) {
  view.isMerged = isMerged;
  showAll();
}

byId("symbol").addEventListener("change", (event) => choose(event.target.value));
byId("book-merged").addEventListener("click", () => setMerged(true));
byId("book-venues").addEventListener("click", () => setMerged(false));
byId("retry").addEventListener("click", () => feed.retry());
byId("plotly").addEventListener("load", redraw);
byId("plotly").addEventListener("error", () => {
  for (const id of ["price", "equity"]) say(byId(id), "The figures need /page/plotly.min.js, which did not load.");
});
document.addEventListener("visibilitychange", redraw);

/** The service's answer to what was sent from a dialog. */
function takeAnswer(asked, snapshot) {
  view.asked = asked;
  takePaper(snapshot);
  showAll();
}

const openKill = prepareCommand("kill", {
  path: "/paper/halt",
  failed: "Not stopped",
  read: () => ({
    reason: byId("kill-reason").value.trim(),
    ...(byId("kill-flatten").checked && { flatten: true }),
  }),
  onDone: (snapshot) => takeAnswer(askedFor("halt", view.paper), snapshot),
});
const openResume = prepareCommand("resume", {
  path: "/paper/resume",
  failed: "Not resumed",
  read: () => ({ who: byId("resume-who").value.trim() }),
  onDone: (snapshot, { who }) => takeAnswer(askedFor("resume", view.paper, who), snapshot),
});
prepareTheme(showAll);
const feed = new Feed(take, showState);
prepareKeys({
  b: () => setMerged(!view.isMerged),
  g: openResume,
  k: openKill,
  r: () => feed.retry(),
  symbol: (k) => choose(view.symbols[k]),
});
redraw();
