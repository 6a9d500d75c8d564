// What stands above the panels: a halt, a session that failed or ended, a lost connection.

import { byId, say } from "./dom.js";
import * as format from "./format.js";

const STALE_MS = 6000; // paper trading's state comes once a second

/** State of the session as `{phase, why}`: opening, running, ended or failed; "" if not said. */
export function phaseOf(paper) {
  const [, phase, why] = /^(\w*):?\s*([^]*)$/.exec(paper?.session?.state ?? "") ?? [];
  return { phase: phase ?? "", why: why ?? "" };
}

const refusals = (paper) =>
  (paper?.alerts ?? []).filter((row) => row.name === "resume refused" || row.name === "halt");

/** What was asked for, until `follow` sees that the engine did it. */
export function askedFor(what, paper, who = "") {
  const known = JSON.stringify(refusals(paper).at(-1) ?? null);
  return { what, who, known, ms: Date.now(), refusal: "" };
}

/** What is still asked for after a new state came; a resume that was refused says why. */
export function follow(asked, paper) {
  if (!asked || Boolean(paper?.halted) === (asked.what === "halt")) return null;
  if (asked.what !== "resume") return asked;
  const last = refusals(paper).at(-1);
  const isNew = last && JSON.stringify(last) !== asked.known;
  return isNew ? { ...asked, refusal: last.text } : asked;
}

export function showBanners(view, feed) {
  showSession(view);
  byId("empty").hidden = view.hasPaper !== false;
  showOutage(feed);
  showTrouble(view, feed);
}

function showSession({ paper, asked }) {
  const { phase, why } = phaseOf(paper);
  const hasFailed = phase === "failed";
  byId("failed").hidden = !hasFailed;
  say(byId("failed-why"), why);
  byId("ended").hidden = phase !== "ended";
  const stop = asked?.what === "halt" ? "A stop was asked for; the engine obeys at its next step." : "";
  const halted = paper?.halted || stop;
  hide(byId("halted"), !halted);
  say(byId("halted-why"), halted);
  say(byId("resume-why"), paper?.halted ? `Halted: ${paper.halted}` : "Trading is not halted any more.");
  hide(byId("resume-open"), hasFailed || !paper?.halted); // nobody would obey, or there is no halt yet
  const isAsked = asked?.what === "resume";
  const isWaiting = isAsked && !asked.refusal;
  say(byId("asked"), !isAsked ? "" : isWaiting
    ? `${asked.who} asked to resume; the engine does it at its next step.`
    : `Not resumed: ${asked.refusal}`);
  say(byId("asked-age"), isWaiting ? `Asked ${format.duration((Date.now() - asked.ms) / 1000)} ago.` : "");
}

/** Hide or show; who was in what is hidden goes on at the panels. */
function hide(element, isHidden) {
  const hadFocus = isHidden && element.contains(document.activeElement);
  element.hidden = isHidden;
  if (hadFocus) byId("main").focus({ preventScroll: true });
}

function showOutage(feed) {
  const now = Date.now();
  byId("outage").hidden = feed.state !== "lost";
  if (feed.state !== "lost") return;
  say(byId("outage-title"), feed.fault ? `No live stream: ${feed.fault}.` : "No connection to the service.");
  say(byId("outage-age"), feed.lastMs === null ? "Nothing was received yet."
    : `Last message ${format.duration((now - feed.lastMs) / 1000)} ago; what is shown is of then.`);
  const wait = feed.retryMs === null ? 0 : Math.ceil((feed.retryMs - now) / 1000);
  say(byId("outage-next"), wait > 0 ? `Next attempt in ${format.duration(wait)}.` : "Trying now.");
}

function showTrouble(view, feed) {
  const age = feed.paperMs === null ? 0 : Date.now() - feed.paperMs;
  const isOld = feed.state === "live" && view.hasPaper && age > STALE_MS;
  const reducing = document.body.dataset.state === "reducing" ? view.paper.breaker : null;
  byId("trouble").hidden = !isOld && !reducing;
  if (isOld) {
    say(byId("trouble"), "The service lives, but paper trading has said nothing for some seconds; see the log of the service.");
  } else if (reducing) {
    say(byId("trouble"), `The circuit breaker has tripped (${reducing.reason || "no reason given"}): ` +
      (reducing.phase === "open" ? "only orders that reduce are sent." : "the next trade decides."));
  }
  const ago = feed.paperMs ?? feed.lastMs;
  say(byId("received"), ago === null ? "" : `Last state received ${format.duration((Date.now() - ago) / 1000)} ago.`);
}
