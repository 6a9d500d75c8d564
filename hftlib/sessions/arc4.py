"""The game's random numbers: ARC4 seeded by a text, as the package `seedrandom` has it.

A state is the permutation of 256 bytes and the two indices. Bytes are drawn
from the same state by kernels, one double at a time; numbers agree with
JavaScript's to the last bit.

Source: Bau (2010), Random seeds, coded hints, and quintillions; `seedrandom` 3.0.5.
"""

import numpy as np
import numpy.typing as npt

from hftlib.compute import compile_kernel

State = npt.NDArray[np.int64]  # shape (258,)

WIDTH = 256
AT_I, AT_J = WIDTH, WIDTH + 1  # places of the two indices in a state
CHUNK_BYTES = 6  # with which a double begins
FIRST_DENOMINATOR = 2.0**48
SIGNIFICANCE = 2.0**52
OVERFLOW = 2.0**53


@compile_kernel
def _next_bytes(state: State, n_bytes: int) -> int:
    """The next bytes as one whole number, the first of them the highest."""
    i, j = state[AT_I], state[AT_J]
    number = 0
    for _ in range(n_bytes):
        i = (i + 1) & 255
        t = state[i]
        j = (j + t) & 255
        u = state[j]
        state[i], state[j] = u, t
        number = number * WIDTH + state[(t + u) & 255]
    state[AT_I], state[AT_J] = i, j
    return number


@compile_kernel
def draw(state: State) -> float:
    """The next number, uniform on [0, 1), with 52 or more random bits."""
    numerator, denominator, low_byte = float(_next_bytes(state, CHUNK_BYTES)), FIRST_DENOMINATOR, 0
    while numerator < SIGNIFICANCE:
        numerator = (numerator + low_byte) * WIDTH
        denominator *= WIDTH
        low_byte = _next_bytes(state, 1)
    while numerator >= OVERFLOW:
        numerator /= 2.0
        denominator /= 2.0
        low_byte >>= 1
    return (numerator + low_byte) / denominator


@compile_kernel
def _schedule(text: State, key: State, state: State) -> None:
    """Mix the character codes `text` into `key` (256 zeros), and that into `state`."""
    smear = 0
    for k in range(len(text)):
        smear ^= key[k & 255] * 19
        key[k & 255] = (smear + text[k]) & 255
    n_key = min(max(len(text), 1), WIDTH)
    for i in range(WIDTH):
        state[i] = i
    j = 0
    for i in range(WIDTH):
        t = state[i]
        j = (j + key[i % n_key] + t) & 255
        state[i], state[j] = state[j], t
    state[AT_I] = state[AT_J] = 0
    for _ in range(WIDTH):  # RC4-drop[256]
        _next_bytes(state, 1)


def open_arc4(seed: str) -> State:
    """The state that `new Math.seedrandom(seed)` begins with.

    Raises
    ------
    ValueError
        If the seed is not ASCII.
    """
    if not seed.isascii():
        place = next(k for k, letter in enumerate(seed) if ord(letter) > 127)
        raise ValueError(
            f"seed {seed!r}: expected ASCII, received {seed[place]!r} at place {place}; "
            "server seeds and game ids are hexadecimal"
        )
    state, key = np.zeros(WIDTH + 2, dtype=np.int64), np.zeros(WIDTH, dtype=np.int64)
    _schedule(np.frombuffer(seed.encode(), dtype=np.uint8).astype(np.int64), key, state)
    return state
