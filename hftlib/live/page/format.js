// Numbers and times as text. What is null, undefined or not finite becomes a dash.

export const DASH = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Fixed digits, a real minus sign, thousands apart. */
export function number(value, digits = 2) {
  if (!isNumber(value)) return DASH;
  const text = value.toLocaleString("en-GB", {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
  const isZero = !/[1-9]/.test(text);
  return isZero ? text.replace("-", "") : text.replace("-", "−");
}

/** As `number`, with a plus sign above zero. */
export function signed(value, digits = 2) {
  const text = number(value, digits);
  return isNumber(value) && value > 0 && /[1-9]/.test(text) ? `+${text}` : text;
}

/** A share as a percentage: 0.031 is 3.10 %. */
export function percent(value, digits = 2) {
  return isNumber(value) ? `${number(100 * value, digits)} %` : DASH;
}

export function signedPercent(value, digits = 2) {
  return isNumber(value) ? `${signed(100 * value, digits)} %` : DASH;
}

/** A price, or a difference of prices near `of`: enough digits that a basis point shows. */
export function price(value, of = value) {
  const size = Math.abs(of);
  return number(value, size >= 1000 ? 2 : size >= 10 ? 3 : 5);
}

/** Units: whole ones without decimals, others to four significant digits. */
export function units(value) {
  if (!isNumber(value)) return DASH;
  if (Number.isInteger(value)) return number(value, 0);
  const size = Math.abs(value);
  return number(value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 4);
}

/** A p-value. */
export function chance(value) {
  if (!isNumber(value)) return DASH;
  return value < 0.001 ? "< 0.001" : number(value, 3);
}

/** `2026-01-05 11:00:00` of nanoseconds since 1970, UTC. */
export function time(ns) {
  if (!isNumber(ns)) return DASH;
  const moment = new Date(ns / 1e6);
  return Number.isNaN(moment.getTime()) ? DASH : moment.toISOString().slice(0, 19).replace("T", " ");
}

/** As `time`, without the date where it is that of `now`. */
export function stamp(ns, now) {
  const text = time(ns);
  return text.slice(0, 10) === time(now).slice(0, 10) ? text.slice(11) || text : text;
}

/** Seconds as `7 s`, `3 min 5 s`, `2 h 10 min`. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

const TERMS = { max_var: "value at risk of a bar", max_leverage: "long plus short", max_position: "largest position" };

/** `max_daily_loss` as `daily loss`; a name of the service as words. */
export function words(name) {
  if (Object.hasOwn(TERMS, name)) return TERMS[name];
  return String(name).replace(/^max_/, "").replaceAll("_", " ");
}
