"""Limits of the service, read once from the environment.

Every default is for one machine and one user: loopback, no CORS, nothing that
changes state without a token. In a container loopback cannot be reached from
outside, so there `host` may be every address, though never without a token.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

PREFIX = "HFTLIB_"
PAPER = ("", "recorded", "polled")
TOKEN_FILE = PREFIX + "TOKEN_FILE"
LOOPBACK, EVERYWHERE = "127.0.0.1", "0.0.0.0"
MIN_TOKEN = 16  # characters, where more than this machine can reach the service
MAX_TOKEN_BYTES = 4096
MAY_BE_ZERO = ("port", "max_age_s", "max_ahead_s", "challenger_share")


class SettingsError(ValueError):
    """An environment variable that is no valid setting."""


@dataclass(frozen=True)
class ServiceSettings:
    """Each field is read from the variable that `variable_of` names.

    Attributes
    ----------
    host : str
        Address that is bound: 127.0.0.1, or 0.0.0.0, which needs a token of at least 16
        characters.
    port : int
        0 picks a free one.
    token : str
        Bearer token of requests that change state; without one these are refused. Also read
        from the file that `HFTLIB_TOKEN_FILE` names.
    model : str
        Registered name of the model that is active at start; "" for the champion.
    models : str
        Folder of the registered models; "" for `data/served` of the project.
    paper : str
        "recorded" trades the last recorded bars on paper, "polled" those that `ingestion` fetches,
        "" nothing; needs a token.
    paper_speed : float
        Seconds of a recording in one of ours; two days by default.
    challenger : str
        Registered name of a model that answers a share of the keys, "" for none.
    challenger_share : float
        That share, 0 to 0.5; at 0 its streams are kept and it answers nobody.
    max_body_bytes, max_items, max_rows : int
        Of one request: bytes, symbols, bars or snapshots of all its symbols together.
    requests_per_s, burst : float
        Rate of one client address, and how much it may save up.
    max_in_flight : int
        Requests worked on at once; further ones get 503 before their body is read.
    max_waiting : int
        Items that wait for the model; further ones get 503.
    max_windows : int
        Windows, of bars or snapshots, in one request, and of all requests that wait or are
        worked on; further ones get 503. From each everything is computed anew.
    max_batch : int
        Items the model answers at once.
    body_limit_s, predict_limit_s, backtest_limit_s : float
        Longest time for a body to arrive, for a prediction, for a backtest.
    max_ahead_s : float
        How far in the future the start of a bar may lie: clocks differ a little.
    max_age_s : float
        A newest bar older than this is stale; 0 for recorded data, which are never.
    max_jobs, max_results : int
        Backtests that wait, and finished ones that are remembered.
    max_streams, max_unsent : int
        Clients of `/ws`, and messages that one may fall behind before it is dropped.
    heartbeat_s : float
        Between two signs of life on `/ws`.
    cors_origins, hosts : tuple of str
        Origins that browsers may call from, none by default; Host headers that are answered.
    backtest_command : tuple of str
        Reads a request as JSON from its input, writes the result as JSON.
    """

    host: str = LOOPBACK
    port: int = 8000
    token: str = field(default="", repr=False)
    model: str = ""
    models: str = ""
    paper: str = ""
    paper_speed: float = 172_800.0
    challenger: str = ""
    challenger_share: float = 0.0
    max_body_bytes: int = 4 * 2**20
    max_items: int = 500
    max_rows: int = 20_000
    requests_per_s: float = 1000.0
    burst: float = 2000.0
    max_in_flight: int = 128
    max_waiting: int = 2000
    max_windows: int = 16
    max_batch: int = 512
    body_limit_s: float = 5.0
    predict_limit_s: float = 2.0
    backtest_limit_s: float = 120.0
    max_ahead_s: float = 5.0
    max_age_s: float = 0.0
    max_jobs: int = 4
    max_results: int = 100
    max_streams: int = 20
    max_unsent: int = 100
    heartbeat_s: float = 5.0
    cors_origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    backtest_command: tuple[str, ...] = (sys.executable, "-m", "hftlib.live.backtest_job")

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            may_be_zero = entry.name in MAY_BE_ZERO
            if isinstance(value, int | float) and not (value > 0 or (may_be_zero and value == 0)):
                raise SettingsError(f"{entry.name} is {value}; expected above 0")
        if self.host not in (LOOPBACK, EVERYWHERE):
            raise SettingsError(f"host is {self.host!r}; expected {LOOPBACK} or {EVERYWHERE}")
        if self.host != LOOPBACK and len(self.token) < MIN_TOKEN:
            raise SettingsError(
                f"host is {self.host} and the token has {len(self.token)} characters; expected at "
                f"least {MIN_TOKEN}, set HFTLIB_TOKEN or {TOKEN_FILE}, or bind to {LOOPBACK}"
            )
        if self.port > 65535:
            raise SettingsError(f"port is {self.port}; expected 0 to 65535")
        if self.paper not in PAPER:
            raise SettingsError(f"paper is {self.paper!r}; expected one of {', '.join(PAPER[1:])}")
        if self.paper and not self.token:
            raise SettingsError(
                "paper trading sends bars to the service, which needs a token; set "
                f"{PREFIX}TOKEN, or {PREFIX}PAPER to nothing"
            )
        if self.challenger_share > 0.5:
            raise SettingsError(
                f"challenger_share is {self.challenger_share}; expected 0 to 0.5: the champion "
                "answers the larger part"
            )
        if "*" in self.cors_origins:
            raise SettingsError(
                "cors_origins holds '*'; name the origins, as http://localhost:3000"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Settings from the environment; what is not set keeps its default.

        Raises
        ------
        SettingsError
            If a variable is no number where one is expected, or out of range; if the token's
            file is empty or cannot be read, or the token is given twice. It names the variable.
        """
        found: dict[str, object] = {}
        for entry in fields(cls):
            variable = variable_of(entry.name)
            text = environment.get(variable)
            if text is None or entry.name == "backtest_command":
                continue
            found[entry.name] = _read(variable, text, entry.default)
        if TOKEN_FILE in environment:
            if found.get("token"):
                raise SettingsError(
                    f"HFTLIB_TOKEN and {TOKEN_FILE} are both set; expected one of them, unset one"
                )
            found["token"] = _read_token(environment[TOKEN_FILE])
        return cls(**found)  # type: ignore[arg-type]


def variable_of(name: str) -> str:
    """Environment variable of a field: `PORT` of `port`, `HFTLIB_<NAME>` of the others."""
    return "PORT" if name == "port" else PREFIX + name.upper()


def _read_token(name: str) -> str:
    """The token in a file, without the white space around it."""
    try:
        with Path(name).open("rb") as file:
            token = file.read(MAX_TOKEN_BYTES + 1).decode()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{TOKEN_FILE} is {name!r}, which cannot be read ({error}); expected a text file"
        ) from None
    if not token.strip() or len(token) > MAX_TOKEN_BYTES:
        what = "is empty" if not token.strip() else f"has over {MAX_TOKEN_BYTES} bytes"
        raise SettingsError(f"{TOKEN_FILE} is {name!r}, which {what}; write the token into it")
    return token.strip()


def _read(variable: str, text: str, default: object) -> object:
    """The text in the type of the default."""
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, str):
        return text
    kind = int if isinstance(default, int) else float
    try:
        return kind(text)
    except ValueError:
        raise SettingsError(f"{variable} is {text!r}; expected {kind.__name__}") from None
