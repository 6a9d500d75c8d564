"""Compiled rules for the tokens of JSON text, given as bytes.

Each rule looks at text[at:end] and gives the position after the token, or
UNSURE where there is none of its kind.

Source: RFC 8259, The JavaScript Object Notation (JSON) Data Interchange Format.
"""

import numpy as np
import numpy.typing as npt

from hftlib.compute import inline_kernel

Bytes = npt.NDArray[np.uint8]

UNSURE = -1

QUOTE, BACKSLASH, COLON, COMMA, MINUS, PLUS, DOT, ZERO, NINE = b'"\\:,-+.09'
OPEN_OBJECT, CLOSE_OBJECT, OPEN_ARRAY, CLOSE_ARRAY = b"{}[]"
SMALL_E, LARGE_E, SMALL_U = b"eEu"
SPACE, TAB, NEWLINE, RETURN = b" \t\n\r"
IS_ESCAPED, IS_HEX_DIGIT = (
    np.isin(np.arange(256), list(characters))
    for characters in (b'"\\/bfnrt', b"0123456789abcdefABCDEF")
)
TRUE, FALSE, NULL = (np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null"))


@inline_kernel
def starts_with(text: Bytes, at: int, end: int, word: Bytes) -> bool:
    """Whether text[at:end] begins with a word."""
    k = 0
    while k < len(word) and at + k < end and text[at + k] == word[k]:
        k += 1
    return k == len(word)


@inline_kernel
def skip_space(text: Bytes, at: int, end: int) -> int:
    """First position from `at` on that is no white space."""
    while at < end and (
        text[at] == SPACE or text[at] == NEWLINE or text[at] == TAB or text[at] == RETURN
    ):
        at += 1
    return at


@inline_kernel
def skip_string(text: Bytes, at: int, end: int) -> int:
    """Position after the closing quote of a string whose first character is at `at`."""
    while at < end:
        c = text[at]
        at += 1
        if c == QUOTE:
            return at
        if c < SPACE:
            return UNSURE
        if c == BACKSLASH:
            if at < end and text[at] == SMALL_U:
                at += 1
                for k in range(at, at + 4):
                    if k >= end or not IS_HEX_DIGIT[text[k]]:
                        return UNSURE
                at += 4
            elif at < end and IS_ESCAPED[text[at]]:
                at += 1
            else:
                return UNSURE
    return UNSURE


@inline_kernel
def skip_digits(text: Bytes, at: int, end: int) -> int:
    """Position after one or more digits."""
    start = at
    while at < end and ZERO <= text[at] <= NINE:
        at += 1
    return at if at > start else UNSURE


@inline_kernel
def skip_number(text: Bytes, at: int, end: int) -> int:
    """Position after a number."""
    if text[at] == MINUS:
        at += 1
    start = at
    at = skip_digits(text, at, end)
    if at == UNSURE or (text[start] == ZERO and at > start + 1):
        return UNSURE
    if at < end and text[at] == DOT:
        at = skip_digits(text, at + 1, end)
        if at == UNSURE:
            return UNSURE
    if at < end and (text[at] == SMALL_E or text[at] == LARGE_E):
        at += 1
        if at < end and (text[at] == PLUS or text[at] == MINUS):
            at += 1
        at = skip_digits(text, at, end)
    return at


@inline_kernel
def skip_name(text: Bytes, at: int, end: int) -> int:
    """Position after the closing quote of a name without escapes."""
    while at < end and text[at] != QUOTE:
        if text[at] < SPACE or text[at] == BACKSLASH:
            return UNSURE
        at += 1
    return at + 1 if at < end else UNSURE


@inline_kernel
def is_whole(text: Bytes, at: int, end: int) -> bool:
    """Whether a number is an integer, written as one."""
    for k in range(at, end):
        if text[k] == DOT or text[k] == SMALL_E or text[k] == LARGE_E:
            return False
    return True
