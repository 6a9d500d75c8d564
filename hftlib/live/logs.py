"""One JSON object a line: time, event, and its values."""

import logging
import sys
import time
from typing import Any

import orjson

LOGGER = logging.getLogger("hftlib.live")


class JsonFormatter(logging.Formatter):
    """A record as JSON; what was logged through `log_event` keeps its keys."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, however odd the text."""
        values = getattr(record, "values", None) or {"event": record.getMessage()}
        if record.exc_info:
            values = {**values, "trace": self.formatException(record.exc_info)}
        line = {"ts": record.created, "level": record.levelname.lower(), **values}
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def log_event(event: str, **values: Any) -> None:
    """Write a line; `error` and `warning` are levels too."""
    level = {"error": logging.ERROR, "warning": logging.WARNING}.get(event, logging.INFO)
    if LOGGER.isEnabledFor(level):
        known = sys.exc_info() if level > logging.INFO and sys.exc_info()[0] else None
        record = LOGGER.makeRecord(LOGGER.name, level, "", 0, event, (), known)
        record.values = {"event": event, **values}
        record.created = time.time()
        LOGGER.handle(record)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send our lines and uvicorn's there, and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in (LOGGER.name, "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
