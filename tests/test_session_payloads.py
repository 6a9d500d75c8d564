"""Payload fields: what is refused, and the compiled scan against the plain parser."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftlib.sessions.columns import LOST, MALFORMED, NO_OBJECT, read_text
from hftlib.sessions.field_scan import scan_fields
from hftlib.sessions.payloads import (
    BALANCE,
    FIELDS,
    FLOAT32_MAX,
    GAME_UPDATE,
    HIGHEST,
    IS_ACTIVE,
    KINDS,
    MULTIPLIER,
    N_VALUES,
    PLAYER_UPDATE,
    POOL_AMOUNT,
    POOL_THRESHOLD,
    PRICE,
    RUGPOOL_UPDATE,
    SIDE_BET,
    SIDE_BETS,
    TICK,
    GamePayload,
    PlayerPayload,
    read_payload,
)
from tests.wire_events import (
    TRACE,
    cooldown_update,
    game_payloads,
    player_payloads,
    player_update,
    rug_update,
    tick_update,
)

# columns that count by kind of event
READ = {
    GAME_UPDATE: [*range(BALANCE), *range(POOL_AMOUNT, SIDE_BET)],
    PLAYER_UPDATE: [*range(BALANCE, MULTIPLIER), SIDE_BET, SIDE_BETS],
    RUGPOOL_UPDATE: list(range(POOL_AMOUNT, MULTIPLIER)),
}
ODD = [True, "1", [], {}, [1.0], float("nan"), float("inf"), 1e39, -1e39, 10**400]


def scan(*texts: str) -> tuple[np.ndarray, np.ndarray]:
    return scan_fields(pa.array(texts, pa.string()))


def in_event(data: str) -> str:
    return f'{{"event": "gameStateUpdate", "data": {data}}}'


def number_in(text: str) -> str:
    return in_event(f'{{"price": {text}}}')


def test_every_column_is_read_from_one_field():
    columns = [field.column for fields in FIELDS.values() for field in fields]
    assert sorted(columns) == list(range(N_VALUES))


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", ["price", "cooldownTimer", "highestToday", "tickCount"])
def test_a_number_of_a_wrong_type_is_refused_and_the_others_count(name, value):
    values, refused = read_payload(GAME_UPDATE, {name: value, "averageMultiplier": 3})
    assert refused == (name,)
    assert values[MULTIPLIER] == 3.0
    assert np.isnan(np.delete(values, MULTIPLIER)).all()


@pytest.mark.parametrize("value", [1, 0, "true", 1.0, [True]])
def test_only_true_and_false_are_truth_values(value):
    values, refused = read_payload(GAME_UPDATE, {"active": value, "rugged": True})
    assert refused == ("active",)
    assert np.isnan(values[IS_ACTIVE])


@pytest.mark.parametrize("value", [-1, 2**24, 5.0, 10**30])
def test_a_tick_is_an_integer_that_float32_can_tell_from_its_neighbours(value):
    assert read_payload(GAME_UPDATE, {"tickCount": value}).refused == ("tickCount",)
    assert read_payload(GAME_UPDATE, {"tickCount": 2**24 - 1}).values[TICK] == 2**24 - 1


def test_numbers_reach_to_the_end_of_float32():
    values, refused = read_payload(
        GAME_UPDATE, {"price": FLOAT32_MAX, "highestToday": -FLOAT32_MAX}
    )
    assert refused == ()
    assert np.isfinite(values[[PRICE, HIGHEST]].astype(np.float32)).all()
    assert read_payload(GAME_UPDATE, {"price": np.nextafter(FLOAT32_MAX, np.inf)}).refused


@pytest.mark.parametrize("kind", KINDS.values())
def test_null_is_the_same_as_absent(kind):
    names = [field.name for fields in FIELDS.values() for field in fields]
    values, refused = read_payload(kind, dict.fromkeys([*names, "rugpool"]))
    assert np.isnan(values).all()
    assert refused == ()


def test_a_rugpool_is_checked_field_by_field():
    pool = {"rugpoolAmount": 5, "threshold": "10"}
    values, refused = read_payload(RUGPOOL_UPDATE, {"rugpool": pool, "price": "no matter"})
    assert refused == ("rugpool.threshold",)
    assert values[POOL_AMOUNT] == 5.0
    assert np.isnan(values[POOL_THRESHOLD])
    assert read_payload(PLAYER_UPDATE, {"rugpool": [1]}).refused == ("rugpool",)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"sideBet": None, "sidebets": []}, (np.nan, 0.0)),
        ({"sideBet": {}, "sidebets": None}, (1.0, np.nan)),
        ({"sideBet": {"betAmount": 0.1}, "sidebets": [{}]}, (1.0, 1.0)),
        ({"sideBet": 1, "sidebets": {}}, (-1.0, -1.0)),
    ],
)
def test_side_bets_are_open_closed_or_refused(fields, expected):
    values = read_payload(PLAYER_UPDATE, fields).values
    assert np.array_equal(values[[SIDE_BET, SIDE_BETS]], expected, equal_nan=True)


@pytest.mark.parametrize(
    "payload",
    [
        cooldown_update("g", 9_900),
        tick_update("g", 3, 1.25, rugpool={"threshold": 10, "config": {"threshold": [1, {}]}}),
        rug_update("g", 3, 0.0146),
        player_update(1.5, 1e-7, sideBet={"cash": 3}, crateKeys={"gold": [], "cash": 9}),
        {},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_what_the_wire_sends_is_read_by_the_scan(payload, indent):
    text = json.dumps({"event": "x", "data": payload}, indent=indent)
    values, is_read = scan(text)
    assert is_read.all()
    for kind in KINDS.values():
        expected = read_payload(kind, payload).values[READ[kind]]
        assert values[0, READ[kind]].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "text",
    [
        *(number_in(text) for text in ("1e999", "NaN", "-Infinity", "01", "1.", ".5", "+1", "1e")),
        *(
            number_in(text)
            for text in ("true", '"1"', "[1]", "{}", "3.5e38", "1" * 61, "tru", "--1")
        ),
        *(in_event(f'{{"tickCount": {text}}}') for text in ("5.0", "5e0", "-1", "16777216")),
        in_event('{"price": 1, "price": 2}'),
        in_event('{"pric\\u0065": 1}'),
        in_event('{"price": 1,}'),
        in_event('{"price" 1}'),
        in_event('{"x": "\\x"}'),
        in_event('{"x": "\\u12g4"}'),
        in_event('{"x": "a\nb"}'),
        in_event('{"x": [1 2]}'),
        in_event('{"x": [1,]}'),
        in_event('{"x": [}'),
        in_event("[" * 70 + "]" * 70),
        in_event('{"rugpool": 3}'),
        *(in_event(text) for text in ("null", "5", "[{}]", '"x"', "{} {}")),
        in_event("{}") + "x",
        in_event("{}") * 2,
        in_event("{}")[:-1],
        "{}",
        "[]",
        "",
        '{"data": {}, "data": {}}',
    ],
)
def test_the_scan_leaves_what_it_is_not_sure_of_to_the_parser(text):
    good = in_event('{"price": 2.5}')
    values, is_read = scan(good, text, good)
    assert is_read.tolist() == [True, False, True]
    assert values[0, PRICE] == values[2, PRICE] == 2.5


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("{", [MALFORMED]),
        ("[" * 100_000, [MALFORMED]),
        ("1" * 5000, [MALFORMED]),
        ("[1]", [NO_OBJECT]),
        ('{"data": 3}', [NO_OBJECT]),
        ('{"data": null}', [LOST]),
        (json.dumps({"data": [TRACE]}), [LOST]),
        ("{}", [LOST]),
        ('{"data": {"price": NaN, "active": 0}}', ["price", "active"]),
    ],
)
def test_the_parser_says_why(text, reasons):
    found, values = read_text(pa.scalar(text), GAME_UPDATE)
    assert found == reasons
    assert (values is None) == (reasons[0] in (MALFORMED, NO_OBJECT, LOST))


@pytest.mark.parametrize(
    "text",
    [
        *("-0", "0", "1", "-1.5", "1e-320", "5e-7", "1E+2", "0.1", "8.41e21", "9007199254740993"),
        *("123456789012345678901234567890", "1.0100118822973627", "2.2250738585072011e-308"),
    ],
)
def test_numbers_are_rounded_as_python_rounds_them(text):
    values, is_read = scan(number_in(text))
    assert is_read.all()
    assert values[0, PRICE].tobytes() == np.float64(float(text) + 0.0).tobytes()


names = st.sampled_from(
    ["data", "event", "rugpool", "sideBet", "sidebets", "tickCount", "active", "price", "cash", "x"]
    + [field.name for model in (GamePayload, PlayerPayload) for field in FIELDS[model]]
)
leaves = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-3, 10**9), st.text(max_size=4)
)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)
payloads = game_payloads | player_payloads | st.dictionaries(names, leaves | trees, max_size=8)
texts = st.builds(
    lambda payload, more, indent, ascii_: json.dumps(
        {"data": payload} | more, indent=indent, ensure_ascii=ascii_
    ),
    payloads | trees,
    st.dictionaries(st.sampled_from(["event", "ts", "data"]), trees, max_size=2),
    st.sampled_from([None, 1]),
    st.booleans(),
)
damages = st.tuples(
    st.integers(0, 400), st.integers(0, 2), st.sampled_from([*'{}[]",:\\0.-eEtn u1\n', ""])
)


def damage(text: str, at: int, n_lost: int, added: str) -> str:
    at = min(at, len(text))
    return text[:at] + added + text[at + n_lost :]


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(texts, st.none() | damages), min_size=1, max_size=5))
def test_where_the_scan_is_sure_it_says_what_the_parser_says(cases):
    all_texts = [text if harm is None else damage(text, *harm) for text, harm in cases]
    values, is_read = scan(*all_texts)
    for k in np.flatnonzero(is_read):
        for kind in KINDS.values():
            reasons, expected = read_text(pa.scalar(all_texts[k]), kind)
            assert reasons == []
            assert expected is not None
            assert values[k, READ[kind]].tobytes() == expected[READ[kind]].tobytes()


@settings(deadline=None, max_examples=30)
@given(texts, st.integers(0, 3), st.integers(0, 3))
def test_a_slice_of_a_column_is_read_as_if_it_were_alone(text, n_before, n_after):
    column = pa.array(["{", '{"data": {"price": 7}}', "", text, *["x"] * n_after], pa.string())
    part = column.slice(n_before, len(column) - n_before - n_after)
    values, is_read = scan_fields(part)
    alone, is_read_alone = scan(*part.to_pylist())
    assert is_read.tolist() == is_read_alone.tolist()
    assert values.tobytes() == alone.tobytes()
