"""The dashboard's kill switch, the end of a halt, and the states of a session."""

import re

import pytest

from tests.dashboard_cases import PHONE, FakeDesk, fill_in, needs_chromium, shown
from tests.live_cases import TOKEN

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's driver is missing")
pytestmark = needs_chromium
expect = playwright.expect
WHY = "feed: silent for 31 s; look at the source, then resume"


def ask_to_stop(page, token, reason="spread doubled"):
    page.click("#kill-open")
    fill_in(page, "kill", token, reason=reason)


def ask_to_resume(page, token=TOKEN, who="Ada"):
    page.click("#resume-open")
    fill_in(page, "resume", token, who=who)


def test_the_kill_switch_stops_with_the_token_and_keeps_it_nowhere(ready, desk):
    page = ready()
    ask_to_stop(page, TOKEN)
    expect(page.locator("#halted")).to_contain_text("spread doubled")
    expect(page.locator("#pill")).to_have_text("■ Halted")
    expect(page.locator("#kill")).to_be_hidden()
    assert desk.halted == "spread doubled"
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert TOKEN not in kept
    assert not any(TOKEN in url for url in page.asked)
    assert page.faults == []


def test_a_wrong_token_stops_nothing_and_says_what_to_do(ready, desk):
    page = ready()
    ask_to_stop(page, "wrong")
    fault = page.locator("#kill-fault")
    expect(fault).to_contain_text("Not stopped: this request changes state and needs the token")
    expect(fault).to_contain_text("Authorization: Bearer")
    assert desk.halted == ""
    page.fill("#kill-token", "clé")
    page.click("#kill-send")
    expect(fault).to_contain_text("ASCII")
    page.fill("#kill-token", TOKEN)
    page.click("#kill-send")
    expect(page.locator("#pill")).to_have_text("■ Halted")


@pytest.mark.parametrize("left_out", ["#kill-reason", "#kill-token", "#kill-sure"])
def test_nothing_is_sent_without_a_reason_a_token_and_a_confirmation(ready, desk, left_out):
    page = ready()
    page.click("#kill-open")
    for place, text in (("#kill-reason", "dead feed"), ("#kill-token", TOKEN)):
        if place != left_out:
            page.fill(place, text)
    if left_out != "#kill-sure":
        page.check("#kill-sure")
    page.click("#kill-send")
    page.wait_for_timeout(300)
    assert page.locator(f"{left_out}:invalid").count() == 1
    assert desk.halted == ""
    assert not any(url.endswith("/paper/halt") for url in page.asked)


def test_a_service_without_a_token_says_how_to_get_one(desk, visit):
    with shown(desk, token="") as service:
        page = visit(service)
        ask_to_stop(page, TOKEN)
        expect(page.locator("#kill-fault")).to_contain_text("set HFTLIB_TOKEN before starting it")
        assert desk.halted == ""


def test_a_stop_that_the_engine_has_not_obeyed_yet_is_said(ready, desk, monkeypatch):
    halt = desk.halt
    monkeypatch.setattr(desk, "halt", lambda reason, flatten: None)
    page = ready()
    ask_to_stop(page, TOKEN)
    expect(page.locator("#halted")).to_be_visible()
    expect(page.locator("#halted")).to_contain_text("the engine obeys at its next step")
    expect(page.locator("#resume-open")).to_be_hidden()  # there is no halt yet
    halt("spread doubled")
    expect(page.locator("#halted-why")).to_have_text("spread doubled")
    expect(page.locator("#resume-open")).to_be_visible()


@pytest.mark.parametrize("flattens", [False, True])
def test_positions_are_closed_too_only_if_that_is_ticked(ready, flattens):
    page = ready()
    page.click("#kill-open")
    page.set_checked("#kill-flatten", flattens)
    page.keyboard.press("Escape")
    page.click("#kill-open")
    expect(page.locator("#kill-flatten")).not_to_be_checked()  # not what was given up
    page.set_checked("#kill-flatten", flattens)
    with page.expect_request("**/paper/halt") as sent:
        fill_in(page, "kill", reason="spread doubled")
    wanted = {"reason": "spread doubled"} | ({"flatten": True} if flattens else {})
    assert sent.value.post_data_json == wanted
    expect(page.locator("#halted")).to_be_visible()
    assert page.faults == []


@pytest.fixture
def halted(desk, service, visit):
    """A visit to trading that is halted."""

    def halted(**options):
        desk.halted = WHY
        page = visit(service, **options)
        expect(page.locator("#halted-why")).to_have_text(WHY)
        return page

    return halted


def test_trading_is_resumed_with_a_name_and_the_token_which_is_kept_nowhere(halted, desk):
    page = halted()
    with page.expect_request("**/paper/resume") as sent:
        ask_to_resume(page)
    assert sent.value.method == "POST"
    assert sent.value.post_data_json == {"who": "Ada"}
    assert sent.value.all_headers()["authorization"] == f"Bearer {TOKEN}"
    expect(page.locator("#halted")).to_be_hidden()
    expect(page.locator("#resume")).to_be_hidden()
    expect(page.locator("#pill")).to_have_text("● Trading")
    assert desk.halted == ""
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert TOKEN not in kept
    assert not any(TOKEN in url for url in page.asked)
    assert page.faults == []


def test_a_refused_resume_is_said_in_the_dialog(halted, desk):
    page = halted()
    ask_to_resume(page, "wrong")
    fault = page.locator("#resume-fault")
    expect(fault).to_contain_text("Not resumed: this request changes state and needs the token")
    expect(fault).to_contain_text("(401)")
    expect(page.locator("#resume")).to_be_visible()
    expect(page.locator("#halted")).to_be_visible()
    expect(page.locator("#asked")).to_have_text("")
    assert desk.halted == WHY
    page.fill("#resume-token", TOKEN)
    page.click("#resume-send")
    expect(page.locator("#halted")).to_be_hidden()
    assert [said for said in page.faults if "401" not in said] == []  # the browser's own word


@pytest.mark.parametrize("left_out", ["#resume-who", "#resume-token", "#resume-sure"])
def test_nothing_is_resumed_without_a_name_a_token_and_a_confirmation(halted, desk, left_out):
    page = halted()
    page.click("#resume-open")
    for place, text in (("#resume-who", "Ada"), ("#resume-token", TOKEN)):
        if place != left_out:
            page.fill(place, text)
    if left_out != "#resume-sure":
        page.check("#resume-sure")
    page.click("#resume-send")
    page.wait_for_timeout(300)
    assert page.locator(f"{left_out}:invalid").count() == 1
    assert desk.halted == WHY
    assert not any(url.endswith("/paper/resume") for url in page.asked)


def test_until_the_engine_resumes_the_page_says_that_it_was_asked_to(halted, desk, monkeypatch):
    monkeypatch.setattr(desk, "resume", lambda who: None)
    page = halted()
    ask_to_resume(page)
    expect(page.locator("#asked")).to_contain_text("Ada asked to resume")
    expect(page.locator("#asked-age")).to_have_text(re.compile(r"Asked [1-9] s ago\."))
    expect(page.locator("#halted-why")).to_have_text(WHY)
    expect(page.locator("#pill")).to_have_text("■ Halted")
    desk.halted = ""
    expect(page.locator("#halted")).to_be_hidden()
    expect(page.locator("#pill")).to_have_text("● Trading")
    expect(page.locator("#main")).to_be_focused()  # the button is gone, the place is kept
    desk.halted = "dead feed"
    expect(page.locator("#halted")).to_be_visible()
    expect(page.locator("#asked")).to_have_text("")  # that was for the halt before
    assert page.faults == []


def test_a_resume_that_the_engine_refuses_is_said_until_somebody_asks_again(
    halted, desk, monkeypatch
):
    desk.alert("resume refused", "asked by Bob: the disk is full")
    resume = desk.resume
    monkeypatch.setattr(desk, "resume", lambda who: None)
    page = halted()
    ask_to_resume(page)
    expect(page.locator("#asked")).to_contain_text("Ada asked to resume")
    desk.step()
    desk.alert("resume refused", "asked by Ada: north does not answer")
    expect(page.locator("#asked")).to_have_text("Not resumed: asked by Ada: north does not answer")
    monkeypatch.setattr(desk, "resume", resume)
    page.click("#resume-open")
    expect(page.locator("#resume-token")).to_have_value(TOKEN)  # remembered by the page
    fill_in(page, "resume", who="Ada")
    expect(page.locator("#halted")).to_be_hidden()
    assert page.faults == []


def test_an_answer_that_comes_after_the_dialog_was_closed_is_not_lost(halted):
    page = halted()
    held = []
    page.route("**/paper/resume", lambda route: held.append(route))
    ask_to_resume(page, "wrong")
    page.keyboard.press("Escape")
    expect(page.locator("#resume")).to_be_hidden()
    held[0].continue_()
    expect(page.locator("#resume-fault")).to_be_visible()
    expect(page.locator("#resume-fault")).to_contain_text("Not resumed")


def test_resuming_works_by_keyboard_alone(halted):
    page = halted()
    for _ in range(8):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "resume-open":
            break
    expect(page.locator("#resume-open")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#resume-who")).to_be_focused()
    expect(page.locator("#resume-why")).to_contain_text(WHY)
    page.keyboard.type("gk")  # a name, no shortcuts
    page.keyboard.press("Escape")
    expect(page.locator("#resume")).to_be_hidden()
    expect(page.locator("#resume-open")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("resume trading after a halt")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    expect(page.locator("#resume-who")).to_be_focused()
    page.keyboard.press("Control+A")
    for text in ("Ada", TOKEN):
        page.keyboard.type(text)
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.locator("#halted")).to_be_hidden()
    assert page.faults == []


def test_the_key_to_resume_does_nothing_while_trading(ready):
    page = ready()
    page.keyboard.press("g")
    expect(page.locator("#resume")).to_be_hidden()
    expect(page.locator("#resume-open")).to_be_hidden()


def test_a_session_that_failed_says_why_and_what_to_do(desk, service, visit):
    desk.state = "failed: paper.db is in use: end process 4711"
    page = visit(service)
    banner = page.locator("#failed")
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("paper.db is in use: end process 4711")
    expect(banner).to_contain_text("start the service again")
    expect(banner.locator("[role=alert]")).to_have_count(1)
    expect(page.locator("#pill")).to_have_text("■ Failed")
    expect(page.locator("#halted")).to_be_hidden()
    desk.halted = WHY
    expect(page.locator("#halted")).to_be_visible()
    expect(page.locator("#pill")).to_have_text("■ Failed")
    expect(page.locator("#resume-open")).to_be_hidden()  # nobody would obey
    assert page.faults == []


def test_a_session_that_ended_says_so(desk, service, visit):
    page = visit(service)
    expect(page.locator("#pill")).to_have_text("● Trading")
    expect(page.locator("#ended")).to_be_hidden()
    desk.state = "ended"
    expect(page.locator("#ended")).to_contain_text("nothing more is traded")
    expect(page.locator("#ended")).to_be_visible()
    expect(page.locator("#pill")).to_have_text("□ Ended")
    expect(page.locator("#failed")).to_be_hidden()
    assert page.faults == []


def test_a_session_that_opens_is_no_trading_yet(desk, service, visit, monkeypatch):
    whole = desk.snapshot
    about = {"name": "replay", "speed": None, "state": "opening"}
    bare = {"ts_ns": 0, "halted": "", "session": about, "model": None}
    monkeypatch.setattr(desk, "snapshot", lambda: bare)
    page = visit(service)
    expect(page.locator("#pill")).to_have_text("Opening")
    expect(page.locator("#main")).to_have_attribute("aria-busy", "true")
    expect(page.locator("#glance-equity .note")).to_have_text("the account is being opened")
    expect(page.locator("#clock")).to_have_text("")
    text = page.locator("body").inner_text()
    assert not any(word in text for word in ("NaN", "undefined", "1970"))
    monkeypatch.setattr(desk, "snapshot", whole)
    expect(page.locator("#pill")).to_have_text("● Trading")
    expect(page.locator("#main")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#price .scatterlayer path.js-line")).to_have_count(1)
    assert page.faults == []


def test_a_session_that_failed_before_its_account_was_open_says_so(visit, monkeypatch):
    desk = FakeDesk()
    about = {"name": "replay", "speed": None, "state": "failed: no model"}
    bare = {"ts_ns": 0, "halted": "", "session": about, "model": None}
    monkeypatch.setattr(desk, "snapshot", lambda: bare)
    with shown(desk) as service:
        page = visit(service)
        expect(page.locator("#failed-why")).to_have_text("no model")
        expect(page.locator("#glance-equity .note")).to_have_text("the account was not opened")
        assert page.faults == []


@pytest.mark.parametrize("name", ["kill", "resume"])
def test_on_a_phone_dialogs_and_banners_fit_the_screen(halted, desk, name):
    desk.state = "ended"
    page = halted(**PHONE)
    page.click(f"#{name}-open")
    fill_in(page, name, "wrong", **{"reason" if name == "kill" else "who": "Ada"})
    expect(page.locator(f"#{name}-fault")).to_be_visible()
    width, height = (PHONE["viewport"][side] for side in ("width", "height"))
    box = page.locator(f"#{name}").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    assert box["y"] >= 0 and box["y"] + box["height"] <= height
    page.keyboard.press("Escape")
    desk.state = "failed: " + "x" * 300  # a path has no place to break
    expect(page.locator("#failed")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == width
