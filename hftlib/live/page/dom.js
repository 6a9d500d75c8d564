// Elements. Whatever comes from the service goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** An element: `make("td", {class: "number"}, "1.00")`; children are nodes or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const shown = new WeakMap();

/** Rebuild an element's content only if the values changed: a selection or a focus survives. */
export function fill(element, values, build) {
  const key = JSON.stringify(values) ?? "";
  if (shown.get(element) === key) return false;
  const focused = element.contains(document.activeElement) && document.activeElement.dataset.key;
  shown.set(element, key);
  element.replaceChildren(...[build(values)].flat());
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  return true;
}

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A sentence in the place of what is not there yet. */
export const nothing = (text) => make("p", { class: "nothing" }, text);

/**
 * A table; columns are `{name, text(row, now), kind}`, kind "number", "text" or "long". `now` is
 * the time of what is shown.
 */
export function table(caption, columns, rows, now) {
  const head = columns.map((column) =>
    make("th", { scope: "col", class: column.kind ?? "number" }, column.name),
  );
  const body = rows.map((row) =>
    make(
      "tr",
      {},
      ...columns.map((column, k) => {
        const content = column.text(row, now);
        const attributes = { class: column.kind ?? "number" };
        return k === 0
          ? make("th", { scope: "row", ...attributes }, content)
          : make("td", attributes, content);
      }),
    ),
  );
  return make(
    "table",
    {},
    make("caption", { class: "hidden" }, caption),
    make("thead", {}, make("tr", {}, ...head)),
    make("tbody", {}, ...body),
  );
}

/** Side of a signed quantity by shape, word and colour. */
export function side(quantity, [above, below, flat] = ["buy", "sell", "none"]) {
  if (quantity > 0) return make("span", { class: "buy" }, `▲ ${above}`);
  if (quantity < 0) return make("span", { class: "sell" }, `▼ ${below}`);
  return make("span", { class: "soft" }, flat);
}

/** A bar from the left, or from the middle if `low` is below zero. */
export function meter(value, low, high, kind = "") {
  const track = make("span", { class: `track ${kind}`, "aria-hidden": "true" });
  if (!Number.isFinite(value) || !(high > low)) return track;
  const at = (x) => (100 * (Math.min(Math.max(x, low), high) - low)) / (high - low);
  const zero = at(0);
  const bar = make("span", { class: value < 0 ? "fill below" : "fill above" });
  bar.style.left = `${Math.min(zero, at(value))}%`;
  bar.style.width = `${Math.abs(at(value) - zero)}%`;
  track.append(bar);
  if (low < 0) {
    const middle = make("span", { class: "zero" });
    middle.style.left = `${zero}%`;
    track.append(middle);
  }
  return track;
}
