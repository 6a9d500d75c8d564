// The live stream of the service, kept open: reconnects with growing pauses.

const SILENCE_MS = 15000; // three heartbeats of the service
const PAUSES_S = [1, 2, 4, 8, 15, 30];

/**
 * What the stream says of itself: `onMessage(message)` for each message, `onChange(feed)` when
 * the state changed and each second. `state` is "connecting", "live" or "lost".
 */
export class Feed {
  constructor(onMessage, onChange) {
    this.onMessage = onMessage;
    this.onChange = onChange;
    this.state = "connecting";
    this.lastMs = null; // of the last message
    this.paperMs = null; // of the last state of paper trading
    this.retryMs = null; // when the next attempt begins
    this.fault = ""; // what the service says where the stream is refused
    this.nTries = 0;
    this.socket = null;
    setInterval(() => this.look(), 1000);
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.state === "lost") this.retry();
    });
    this.connect();
  }

  connect() {
    this.retryMs = null;
    clearTimeout(this.timer);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    this.socket = socket;
    this.openedMs = Date.now();
    socket.onmessage = (event) => {
      if (socket === this.socket) this.take(event.data);
    };
    socket.onclose = () => {
      if (socket === this.socket) this.lose();
    };
  }

  take(data) {
    const message = JSON.parse(data);
    this.lastMs = Date.now();
    if (message.type === "paper" || (message.type === "hello" && message.paper)) {
      this.paperMs = this.lastMs;
    }
    if (this.state !== "live") {
      this.state = "live";
      this.nTries = 0;
      this.fault = "";
    }
    this.onMessage(message);
    this.onChange(this);
  }

  lose() {
    if ((this.lastMs ?? 0) < this.openedMs) this.inspect();
    this.socket = null;
    this.state = "lost";
    const pause = PAUSES_S[Math.min(this.nTries, PAUSES_S.length - 1)] * (0.8 + 0.4 * Math.random());
    this.nTries += 1;
    this.retryMs = Date.now() + 1000 * pause;
    this.timer = setTimeout(() => this.connect(), 1000 * pause);
    this.onChange(this);
  }

  /** The stream was refused: the service may still answer, or say why not. */
  async inspect() {
    try {
      const paper = await ask("/paper");
      this.fault = "the stream is refused (too many listeners?); shown is what was asked for instead";
      this.lastMs = this.paperMs = Date.now();
      this.onMessage({ type: "paper", ...paper });
    } catch (error) {
      this.fault = error.status === undefined || error.status === 404 ? "" : error.message;
      if (error.status === 404) this.onMessage({ type: "hello", paper: null, model: null });
    }
    this.onChange(this);
  }

  /** Connect now instead of after the pause. */
  retry() {
    if (this.state === "lost" && this.retryMs !== null) this.connect();
  }

  /** Each second: a stream that says nothing is lost, whatever the socket believes. */
  look() {
    const since = Math.max(this.lastMs ?? 0, this.openedMs);
    if (this.socket !== null && Date.now() - since > SILENCE_MS) {
      const socket = this.socket;
      this.lose();
      socket.close();
    }
    this.onChange(this);
  }
}

/** An answer of the service as JSON; throws its error text with the remedy. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Error("the service does not answer; see whether it runs, and try again");
  }
  const body = await response.json().catch(() => null);
  if (response.ok) return body;
  const error = body?.error;
  const said = error ? `${error.message}; ${error.remedy}` : "see the log of the service";
  throw Object.assign(new Error(`${said} (${response.status})`), { status: response.status });
}
