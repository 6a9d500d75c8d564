"""A small served policy, asked in this process or over loopback."""

import threading
from contextlib import contextmanager

from hftlib.live.artefact_store import ArtefactStore
from hftlib.live.service import create_app, make_server
from hftlib.live.settings import ServiceSettings
from tests.live_cases import TOKEN
from tests.retrain_cases import write_holder
from tests.session_run import wait_for


def load_random(root):
    """The random policy `random` of two symbols."""
    write_holder(root, "random", 0.0, weights=0)
    return ArtefactStore(root).load("random")


class LocalService:
    """A predictor as `PolicyService` without HTTP; `sent` are the bars of each question."""

    def __init__(self, predictor):
        self.predictor, self.sent, self.asked = predictor, [], []
        self.activate()

    def activate(self):
        self.states = {s: self.predictor.open_state(s) for s in self.predictor.symbols}
        self.bars = {s: [] for s in self.predictor.symbols}

    def symbols(self):
        return [
            {"symbol": s, "n_rows": len(b), "last_ts_ns": b[-1].ts_ns if b else None}
            for s, b in self.bars.items()
        ]

    def predict(self, items):
        answers = []
        for item in items:
            symbol = item["symbol"]
            self.sent.append((symbol, [bar.ts_ns for bar in item["bars"]]))
            for bar in item["bars"]:
                self.states[symbol].push(bar)
                self.bars[symbol].append(bar)
            seen = self.states[symbol].observe(item.get("position", 0), item.get("exposure", 0))
            action = None if seen is None else self.predictor.predict(seen[None]).action.item()
            self.asked.append(item)
            answers.append(
                {
                    "symbol": symbol,
                    "ts_ns": item["bars"][-1].ts_ns,
                    "action": action,
                    "uncertainty": None,
                    "confidence": None,
                    "model": {"name": "random", "version": "1"},
                }
            )
        return answers


@contextmanager
def serve_here(root, model="random", paper=None, **settings):
    """Address of a service of this process; `paper` is shown by it."""
    app = create_app(
        ArtefactStore(root), ServiceSettings(token=TOKEN, model=model, **settings), paper
    )
    server = make_server(app, 0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_for(lambda: server.started or not thread.is_alive())
        address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        if paper is not None:
            paper.start(address, TOKEN)
        yield address
    finally:
        server.should_exit = True
        thread.join(20)
