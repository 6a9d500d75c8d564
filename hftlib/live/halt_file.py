"""A halt that outlives its process on a disk that is full.

The file has its 4 KB from the start. A halt overwrites them in place, which needs no new block
on file systems that do not copy on write. All blanks is trading; whatever else is there, half a
sentence of a write that was cut off too, is a halt.
"""

import os
from pathlib import Path

N_BYTES = 4096


class HaltFile:
    """Why trading is halted; every method raises `OSError` if the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        missing = N_BYTES - path.stat().st_size
        if missing > 0:
            os.pwrite(self._file.fileno(), b" " * missing, N_BYTES - missing)
            os.fsync(self._file.fileno())
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)

    def read(self) -> str:
        """The reason; "" if trading is not halted."""
        return os.pread(self._file.fileno(), N_BYTES, 0).decode(errors="replace").strip()

    def write(self, reason: str) -> None:
        """Keep a reason, up to the length of the file; "" clears it."""
        os.pwrite(self._file.fileno(), reason.encode()[:N_BYTES].ljust(N_BYTES), 0)
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
