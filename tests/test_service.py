"""A service is asked politely, and what it answered is not asked for again."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from hftlib.data import service as module
from hftlib.data.service import (
    AttemptError,
    Patience,
    Service,
    ServiceError,
    import_extra,
    parse_retry_after,
)

REQUEST = {"symbol": "ABC", "start": "2020-01-01"}


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self, monkeypatch) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.time, "time", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def scripted(*outcomes: str | Exception):
    """A `send` that goes through `outcomes`."""
    left = list(outcomes)

    def send() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return send


def never() -> str:
    raise AssertionError("the service was asked")


def make_service(folder, clock, **patience) -> Service:
    settings = {"n_attempts": 4, "first_wait_s": 1, "interval_s": 0, **patience}
    return Service("bank", folder, Patience(**settings), sleep=clock.sleep)


def test_waits_double_and_stay_below_the_longest(tmp_path, clock):
    service = make_service(tmp_path, clock, n_attempts=6, longest_wait_s=5)
    faults = [AttemptError("busy")] * 5
    assert service.ask(REQUEST, scripted(*faults, "yes"), is_final=True) == "yes"
    assert clock.slept == [1, 2, 4, 5, 5]


def test_the_wait_that_the_service_asks_for_is_kept(tmp_path, clock):
    send = scripted(AttemptError("busy", wait_s=7), AttemptError("busy"), "yes")
    assert make_service(tmp_path, clock).ask(REQUEST, send, is_final=True) == "yes"
    assert clock.slept == [7, 2]


def test_a_service_that_wants_too_long_a_wait_is_given_up_at_once(tmp_path, clock):
    send = scripted(AttemptError("busy", wait_s=3_600))
    with pytest.raises(ServiceError, match="busy, and wants a wait of 3600 s; try later"):
        make_service(tmp_path, clock).ask(REQUEST, send, is_final=True)
    assert clock.slept == []


def test_the_last_error_says_what_was_asked_of_whom_what_happened_and_what_to_do(tmp_path, clock):
    service = make_service(tmp_path, clock)
    with pytest.raises(ServiceError) as error:
        service.ask(REQUEST, scripted(*[AttemptError("no answer")] * 4), is_final=True)
    assert str(error.value) == (
        "bank, asked for symbol ABC, start 2020-01-01: no answer, at 4 attempts; is the network "
        "there? To go on without it, take the request out; answers that came before are kept in "
        f"{tmp_path / 'bank'}."
    )
    assert list(tmp_path.rglob("*.json")) == []


def test_what_no_attempt_can_mend_is_asked_once(tmp_path, clock):
    service = make_service(tmp_path, clock)
    send = scripted(service.error(REQUEST, "no such symbol."), "never reached")
    with pytest.raises(ServiceError, match="no such symbol"):
        service.ask(REQUEST, send, is_final=True)
    assert send() == "never reached"


def test_two_attempts_are_never_closer_than_the_interval(tmp_path, clock):
    service = make_service(tmp_path, clock, interval_s=3)
    for day in range(4):
        service.ask({"day": day}, lambda: "yes", is_final=True)
    assert clock.slept == [3, 3, 3]
    clock.now += 10
    service.ask({"day": 9}, lambda: "yes", is_final=True)
    assert len(clock.slept) == 3


def test_a_final_answer_is_kept_for_good(tmp_path, clock):
    make_service(tmp_path, clock).ask(REQUEST, lambda: "yes", is_final=True)
    clock.now += 1e9
    again = make_service(tmp_path, clock)
    assert again.ask(REQUEST, never, is_final=True) == "yes"


def test_an_answer_from_before_the_end_of_its_span_grows_old(tmp_path, clock):
    service = make_service(tmp_path, clock, max_age_s=60)
    service.ask(REQUEST, lambda: "half", is_final=False)
    clock.now += 59
    assert service.ask(REQUEST, never, is_final=False) == "half"
    clock.now += 2
    # the span is over now, but the answer on disk is from before
    assert service.ask(REQUEST, lambda: "whole", is_final=True) == "whole"
    clock.now += 1e9
    assert service.ask(REQUEST, never, is_final=True) == "whole"


def test_another_request_or_service_has_another_answer(tmp_path, clock):
    service = make_service(tmp_path, clock)
    service.ask(REQUEST, lambda: "one", is_final=True)
    assert service.ask({**REQUEST, "symbol": "DEF"}, lambda: "two", is_final=True) == "two"
    other = Service("shop", tmp_path, sleep=clock.sleep)
    assert other.ask(REQUEST, lambda: "three", is_final=True) == "three"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"request": "other"}', "null"])
def test_a_damaged_answer_on_disk_is_asked_for_again(tmp_path, clock, damage):
    service = make_service(tmp_path, clock)
    service.ask(REQUEST, lambda: "yes", is_final=True)
    (file,) = tmp_path.rglob("*.json")
    file.write_text(damage)
    assert service.ask(REQUEST, lambda: "again", is_final=True) == "again"
    assert json.loads(file.read_text())["answer"] == "again"


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), (" 7 ", 7.0), (None, None), ("x", None)]
)
def test_retry_after_in_seconds(header, seconds):
    assert parse_retry_after(header) == seconds


def test_retry_after_as_a_date():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < parse_retry_after(later) <= 90
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_an_absent_package_is_named_with_the_remedy():
    with pytest.raises(ServiceError, match=r"nosuchpackage is not installed .*\[sources\]"):
        import_extra("nosuchpackage")
