// The two figures. Plotly is loaded apart, so that the numbers do not wait for it.

import { byId, nothing } from "./dom.js";
import * as format from "./format.js";

const isTouch = matchMedia("(pointer: coarse)").matches;
const OPTIONS = { displayModeBar: false, showTips: false, doubleClick: "reset" };

/** A colour of the theme as the browser resolves it; Plotly knows no custom properties. */
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const ms = (row) => row.ts_ns / 1e6;

function layout(more) {
  const axis = {
    gridcolor: colour("--grid"),
    linecolor: colour("--line"),
    zeroline: false,
    automargin: true,
    separatethousands: true,
    exponentformat: "none",
    fixedrange: isTouch,
  };
  const { xaxis, yaxis, yaxis2, ...rest } = more;
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--soft") },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 10, t: 6, b: 8 },
    showlegend: false,
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    dragmode: isTouch ? false : "zoom",
    xaxis: { ...axis, type: "date", hoverformat: "%Y-%m-%d %H:%M:%S", ...xaxis },
    yaxis: { ...axis, ...yaxis },
    yaxis2: { ...axis, ...yaxis2 },
    ...rest,
  };
}

const drawn = new WeakMap();

/** A panel changes its height with its neighbours, not only with the window. */
const sizes = new ResizeObserver((entries) => requestAnimationFrame(() => {
  for (const { target } of entries) if (drawn.has(target)) window.Plotly.Plots.resize(target);
}));

/** Draw a figure, unless it is the one that stands there. */
function draw(place, traces, shape) {
  const key = JSON.stringify([traces, shape]);
  if (drawn.get(place) === key) return;
  drawn.set(place, key);
  if (!place.classList.contains("js-plotly-plot")) {
    place.replaceChildren();
    sizes.observe(place);
  }
  window.Plotly.react(place, traces, shape, OPTIONS);
}

function clear(place, text) {
  drawn.delete(place);
  if (place.classList.contains("js-plotly-plot")) window.Plotly.purge(place);
  if (place.textContent !== text) place.replaceChildren(nothing(text));
  place.setAttribute("aria-label", text);
}

function marks(fills, isBuy) {
  const rows = fills.filter((row) => row.quantity > 0 === isBuy);
  return {
    type: "scatter",
    mode: "markers",
    name: isBuy ? "bought" : "sold",
    x: rows.map(ms),
    y: rows.map((row) => row.price),
    text: rows.map((row) => `${format.units(Math.abs(row.quantity))} at ${format.price(row.price)}`),
    hovertemplate: "%{text}",
    marker: {
      symbol: isBuy ? "triangle-up" : "triangle-down",
      size: 11,
      color: colour(isBuy ? "--buy" : "--sell"),
      line: { width: 1, color: colour("--surface") },
    },
  };
}

/** Closes, volume, and the fills among them. */
export function drawPrice(symbol, rows, allFills) {
  const place = byId("price");
  if (!window.Plotly) return;
  if (!rows.length) {
    clear(place, symbol ? `No bar of ${symbol} yet; the line begins with the first.` : "No symbol yet.");
    return;
  }
  const fills = allFills.filter((row) => row.symbol === symbol && row.ts_ns >= rows[0].ts_ns);
  const x = rows.map(ms);
  const volume = {
    type: "bar",
    name: "volume",
    x,
    y: rows.map((row) => row.volume),
    yaxis: "y2",
    marker: { color: colour("--faint") },
    hovertemplate: "%{y:,.0f}",
  };
  const closes = {
    type: "scatter",
    mode: rows.length > 1 ? "lines" : "markers",
    name: "close",
    x,
    y: rows.map((row) => row.close),
    line: { color: colour("--ink"), width: 1.4 },
    hovertemplate: "%{y}",
  };
  draw(
    place,
    [volume, closes, marks(fills, true), marks(fills, false)],
    layout({
      uirevision: symbol,
      bargap: 0.2,
      xaxis: { anchor: "y2" },
      yaxis: { domain: [0.16, 1] },
      yaxis2: { domain: [0, 0.13], showticklabels: false, showgrid: false, rangemode: "tozero" },
    }),
  );
  const bought = fills.filter((row) => row.quantity > 0).length;
  place.setAttribute(
    "aria-label",
    `Price of ${symbol}, ${rows.length} bars to ${format.time(rows.at(-1).ts_ns)} UTC: last ` +
      `${format.price(rows.at(-1).close)}; ${bought} buys and ${fills.length - bought} sells in view`,
  );
}

/** Equity above, drawdown below with its limit. */
export function drawEquity(rows, limit) {
  const place = byId("equity");
  if (!window.Plotly) return;
  if (!rows.length) {
    clear(place, "No equity yet; paper trading marks the account once a bar.");
    return;
  }
  const x = rows.map(ms);
  const lowest = Math.max(...rows.map((row) => row.drawdown ?? 0));
  const hasLimit = Number.isFinite(limit);
  const nearby = hasLimit && limit < 4 * lowest + 0.01;
  draw(
    place,
    [
      {
        type: "scatter",
        mode: rows.length > 1 ? "lines" : "markers",
        name: "equity",
        x,
        y: rows.map((row) => row.equity),
        line: { color: colour("--ink"), width: 1.6 },
        hovertemplate: "%{y:,.2f}",
      },
      {
        type: "scatter",
        mode: "lines",
        name: "drawdown",
        x,
        y: rows.map((row) => (row.drawdown === null ? null : -100 * row.drawdown)),
        yaxis: "y2",
        fill: "tozeroy",
        line: { color: colour("--bad"), width: 1 },
        fillcolor: colour("--bad-tint"),
        hovertemplate: "%{y:.2f} %",
      },
    ],
    layout({
      uirevision: "equity",
      xaxis: { anchor: "y2" },
      yaxis: { domain: [0.4, 1] },
      yaxis2: {
        domain: [0, 0.32],
        ticksuffix: " %",
        nticks: 4,
        range: [-100 * Math.max(lowest, nearby ? limit : 0, 0.001) * 1.12, 0],
      },
      shapes: nearby
        ? [{
            type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: -100 * limit, y1: -100 * limit,
            line: { color: colour("--bad"), width: 1, dash: "dash" },
          }]
        : [],
      annotations: nearby
        ? [{
            xref: "paper", x: 0, xanchor: "left", yref: "y2", y: -100 * limit, yanchor: "bottom",
            text: `limit of the drawdown ${format.percent(limit, 0)}`, showarrow: false,
            font: { size: 11, color: colour("--bad") },
          }]
        : [],
    }),
  );
  const last = rows.at(-1);
  place.setAttribute(
    "aria-label",
    `Equity at ${rows.length} bars to ${format.time(last.ts_ns)} UTC: last ${format.number(last.equity)}, ` +
      `drawdown ${format.percent(last.drawdown)}, deepest in view ${format.percent(lowest)}`,
  );
}
