"""A client of the service, and the service in a second process.

One connection that stays open; JSON in both directions, in which every float comes
back to its last bit. Where the service has closed the connection since the last request (it
does so after 30 s, and when it is started anew), the request is sent once more on
a new one. That is safe: the last bars of a stream may be sent again, and what may not be sent
twice, a backtest, always goes on a new connection.
"""

import contextlib
import http.client
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

from hftlib.live.faults import FieldFault
from hftlib.live.processes import start_service
from hftlib.live.protocols import Bar
from hftlib.live.rows import EPOCH

POLL_S = 0.1  # between two looks at a backtest
RUNNING = ("queued", "running")


class ServiceError(RuntimeError):
    """What the service refused, or that it gave no answer.

    Attributes
    ----------
    status : int
        HTTP status; 0 without an answer.
    code : str
        As `faults.ServiceFault`; `no_answer` without one, `no_result` for a backtest that has
        none.
    message, remedy : str
    fields : tuple of FieldFault
    """

    def __init__(
        self, status: int, code: str, message: str, remedy: str, fields: Sequence[FieldFault] = ()
    ) -> None:
        where = "".join(f"; {one.field}: {one.message}" for one in fields)
        super().__init__(f"{message}{where}; {remedy}")
        self.status, self.code, self.message, self.remedy = status, code, message, remedy
        self.fields = tuple(fields)


def encode_bar(bar: Bar) -> dict[str, Any]:
    """A bar as the service reads it.

    Raises
    ------
    ValueError
        If its time is no whole microsecond, which the service's times cannot say.
    """
    microseconds, rest = divmod(bar.ts_ns, 1000)
    if rest:
        raise ValueError(
            f"a bar begins {rest} ns after a microsecond ({bar.ts_ns}); round its ts to 1000 ns"
        )
    ts = (EPOCH + timedelta(microseconds=microseconds)).isoformat()
    volume = None if math.isnan(bar.volume) else float(bar.volume)
    prices = {name: float(getattr(bar, name)) for name in ("open", "high", "low", "close")}
    return {"ts": ts, **prices, "volume": volume}


def encode_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item whose `bars` or `window` may hold `Bar`s, as the service reads it."""
    body = dict(item)
    for name in ("bars", "window"):
        if body.get(name) is not None:
            body[name] = [encode_bar(row) if isinstance(row, Bar) else row for row in body[name]]
    return body


class ServiceClient:
    """One connection to a running service; not for several threads at a time.

    Every method raises `ServiceError`.

    Parameters
    ----------
    address : str
        As `http://127.0.0.1:8000`.
    token : str
        `HFTLIB_TOKEN` of the service, for what changes its state.
    timeout_s : float
        Longest wait for an answer.
    """

    def __init__(self, address: str, token: str = "", timeout_s: float = 10.0) -> None:
        parts = urlsplit(address)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"address is {address!r}; expected http://<host>:<port>")
        self.address = address
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        self._headers = {"Content-Type": "application/json"}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; the next request opens another."""
        self._connection.close()

    def predict(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answers in the order of the items.

        Parameters
        ----------
        items : sequence of mappings
            symbol; position and exposure; `bars`, the newest ones, which need the token,
            or `window`, or neither for the stream as it is. Rows are `Bar`s, or
            mappings as `requests.BarBody`. Further keys as `requests.SymbolBody`.

        Returns
        -------
        list of dict
            As `answers.SymbolAnswer`; `action` is None while bars are missing.
        """
        body = {"items": [encode_item(item) for item in items]}
        return list(self._post("/predict/batch", body)["predictions"])

    def model_info(self, role: str = "champion") -> dict[str, Any]:
        """The active model or its challenger, as `answers.CardAnswer`."""
        return self._ask("GET", f"/model/info?role={role}")

    def routing(self) -> dict[str, Any]:
        """Shares and counts of both, as `answers.RoutingAnswer`."""
        return self._ask("GET", "/routing")

    def models(self) -> dict[str, Any]:
        """`active`, a name or None, and `models`, the registered names."""
        return self._ask("GET", "/models")

    def symbols(self) -> list[dict[str, Any]]:
        """Symbol, n_rows and last_ts_ns of every stream."""
        return list(self._ask("GET", "/symbols")["symbols"])

    def ready(self) -> dict[str, Any]:
        """The model that answers; a `ServiceError` that says why, if none does."""
        return self._ask("GET", "/ready")

    def paper(self) -> dict[str, Any]:
        """Paper trading."""
        return self._ask("GET", "/paper")

    def activate(self, name: str) -> dict[str, Any]:
        """Name and version of the model that now answers; streams are empty."""
        return self._post("/model/activate", {"name": name})

    def backtest(
        self,
        model: str | None = None,
        split: str = "val",
        symbols: Sequence[str] | None = None,
        wait_s: float = 120.0,
    ) -> dict[str, Any]:
        """Result of a backtest, when it is done; as `backtest_job.run_backtest`.

        Parameters
        ----------
        model : str, optional
            None for the active one.
        split : "val" or "test"
        symbols : sequence of str, optional
            None for all of the model.
        wait_s : float
            After which it is cancelled.
        """
        body = {"model": model, "split": split, "symbols": symbols and list(symbols)}
        self.close()
        job = self._post("/backtest", body)
        path, end = f"/backtest/{job['id']}", time.monotonic() + wait_s
        while job["status"] in RUNNING and time.monotonic() < end:
            time.sleep(POLL_S)
            job = self._ask("GET", path)
        if job["status"] in RUNNING:
            job = self._ask("DELETE", path)
        if job["status"] != "done":
            why = f"not done after {wait_s:g} s" if job["error"] is None else job["error"]
            said = f"backtest {job['id']} is {job['status']}: {why}"
            raise ServiceError(200, "no_result", said, "correct the cause, or wait longer")
        return dict(job["result"])

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask("POST", path, orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))

    def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        is_used = self._connection.sock is not None
        try:
            try:
                status, content = self._exchange(method, path, body)
            except (ConnectionError, http.client.HTTPException):
                if not is_used:
                    raise
                status, content = self._exchange(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            said = f"{self.address} gave no answer: {error!r}"
            remedy = "see whether the service runs, and its log"
            raise ServiceError(0, "no_answer", said, remedy) from error
        values: dict[str, Any] = orjson.loads(content)
        if status < 400:
            return values
        said = values["error"]
        fields = [FieldFault(**one) for one in said["fields"]]
        raise ServiceError(status, said["code"], said["message"], said["remedy"], fields)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """One request and its answer; a connection on which that failed is closed."""
        try:
            self._connection.request(method, path, body, self._headers)
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException:
            self._connection.close()
            raise


@contextlib.contextmanager
def serve_process(root: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Address of `python -m hftlib.live.service` in a second process, when its model is loaded.

    Parameters
    ----------
    root : Path
        The project's folder, whose `data/served` holds the models.
    environment : mapping
        Settings as `HFTLIB_<NAME>`, see `settings`; `PORT` is a free one unless it is named.

    Raises
    ------
    StartError
        If the process ends before it serves.
    ServiceError
        503 if no model could be loaded; says why.
    """
    with start_service(root, environment) as service, ServiceClient(service.address) as client:
        client.ready()
        yield service.address
