"""The dashboard in a browser: what it shows, and when it cannot."""

import re
import time

import pytest

from tests.dashboard_cases import (
    DASH,
    FakeDesk,
    Service,
    make_store,
    needs_chromium,
    push,
    shown,
)

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's driver is missing")
pytestmark = needs_chromium
expect = playwright.expect
EVIL = "<img src=x onerror=window.hacked=1><b>bold</b>"


def wait_for_figures(page):
    expect(page.locator("#price .scatterlayer path.js-line")).to_have_count(1)
    expect(page.locator("#equity .scatterlayer path.js-line")).to_have_count(2)


def test_it_loads_without_a_fault_and_asks_nobody_else(service, visit):
    page = visit(service)
    expect(page.locator("#pill")).to_have_text("● Trading")
    wait_for_figures(page)
    page.wait_for_timeout(1500)
    assert page.faults == []
    assert {re.match(r"(?:http|ws)://([^/]+)/", url)[1] for url in page.asked} == {
        f"127.0.0.1:{service.port}"
    }
    assert page.evaluate("window.Plotly.version")


def test_every_part_of_the_state_is_shown(service, desk, visit):
    page = visit(service)
    wait_for_figures(page)
    state = desk.snapshot()
    equity = f"{state['standing']['equity']:,.2f}"
    expect(page.locator("#glance-equity .big")).to_have_text(equity)
    for place, n_rows in (
        ("symbols", len(state["positions"])),
        ("fills", len(state["fills"])),
        ("orders", len(state["orders"])),
        ("checks", len(state["checks"])),
        ("drift", len(state["drift"]["columns"])),
    ):
        expect(page.locator(f"#{place} tbody tr")).to_have_count(n_rows)
    expect(page.locator("#alerts li")).to_have_count(len(state["alerts"]))
    expect(page.locator("#limits li")).to_have_count(len(state["limits"]))
    expect(page.locator("#statistics")).to_contain_text("0.84")
    expect(page.locator("#statistics")).to_contain_text("52.9 %")
    expect(page.locator("#drift-verdict")).to_have_text("◆ drift")
    expect(page.locator("#model-name")).to_have_text("alpha 1")
    expect(page.locator("#limits")).to_contain_text("34 of 100")
    expect(page.locator("#limits")).to_contain_text(", no limit")


def test_fills_are_marked_where_they_were_made(service, desk, visit):
    page = visit(service)
    page.select_option("#symbol", "CRUDE")
    fills = [fill for fill in desk.fills if fill["symbol"] == "CRUDE"]
    assert len(fills) >= 4
    expect(page.locator("#price .scatterlayer path.point")).to_have_count(len(fills))
    bought = sum(fill["quantity"] > 0 for fill in fills)
    said = re.compile(f"{bought} buys and {len(fills) - bought} sells")
    expect(page.locator("#price")).to_have_attribute("aria-label", said)


def test_a_new_snapshot_is_shown(service, desk, visit):
    page = visit(service)
    wait_for_figures(page)
    before = page.locator("#clock").inner_text()
    n_fills = len(desk.fills)
    for _ in range(7):
        desk.step()
    desk.alert("slow_venue", "east is slow")
    expect(page.locator("#clock")).not_to_have_text(before)
    expect(page.locator("#fills tbody tr")).to_have_count(n_fills + 1)
    expect(page.locator("#alerts li").first).to_contain_text("east is slow")
    expect(page.locator("#said")).to_have_text("Alert: east is slow")  # read out


def test_predictions_come_over_the_stream_and_are_asked_for_at_the_start(service, visit):
    page = visit(service)
    expect(page.locator("#glance-wants .note")).to_contain_text("last asked:")
    push(service)
    row = page.locator("#symbols tbody tr").first
    expect(row).to_contain_text(re.compile(r"▲ \+\d+\.\d %"))
    expect(row).to_contain_text("75 %")  # confidence: 1 - .25 / 1
    expect(page.locator("#glance-wants li")).to_have_count(5)
    page.wait_for_timeout(1500)  # at most one drawing a second
    shown = row.inner_text()
    page.reload()
    expect(page.locator("#glance-wants li")).to_have_count(5)
    assert page.locator("#symbols tbody tr").first.inner_text() == shown


def test_a_burst_of_messages_is_drawn_once_a_second_and_the_same_state_once(service, desk, visit):
    page = visit(service)
    wait_for_figures(page)
    page.evaluate(
        "() => { const react = Plotly.react; window.drawn = 0;"
        "Plotly.react = (...all) => { window.drawn += 1; return react(...all); }; }"
    )
    page.wait_for_timeout(2500)
    assert page.evaluate("window.drawn") == 0
    desk.moves = True
    start = time.monotonic()
    while time.monotonic() < start + 3:
        push(service, 1)
    page.wait_for_timeout(200)
    seconds = time.monotonic() - start
    assert 4 <= page.evaluate("window.drawn") <= 2 * (seconds + 1)  # two figures


def test_figures_fill_their_panels_whatever_the_size(service, visit):
    page = visit(service)
    wait_for_figures(page)
    for width in (1440, 1900, 720):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(700)
        for name in ("price", "equity"):
            place, drawn = (
                page.locator(part).first.bounding_box()
                for part in (f"#{name}", f"#{name} .main-svg")
            )
            assert drawn == pytest.approx(place, abs=1)
    assert page.faults == []


def test_the_book_is_merged_or_by_venue(service, visit):
    page = visit(service)
    ladder = page.locator("#book")
    expect(ladder.locator(".venue")).to_have_text(["north + south + east"])
    page.click("#book-venues")
    expect(ladder.locator(".venue")).to_have_text(["north", "south", "east"])
    expect(page.locator("#book-venues")).to_have_attribute("aria-pressed", "true")
    prices = [
        float(text.replace(",", ""))
        for text in ladder.locator("tr td:nth-child(2):not([colspan])").all_inner_texts()
    ]
    assert len(prices) == 16
    assert prices == sorted(prices, reverse=True)


def test_an_outage_is_said_and_ends_when_the_service_is_back(desk, visit):
    service = Service(desk)
    page = visit(service)
    wait_for_figures(page)
    service.stop()
    expect(page.locator("#outage-title")).to_have_text("No connection to the service.")
    expect(page.locator("#pill")).to_have_text("■ No connection")
    expect(page.locator("#outage-age")).to_contain_text(re.compile(r"Last message [3-6] s ago"))
    expect(page.locator("#outage-next")).to_contain_text(re.compile(r"Next attempt in \d+ s"))
    expect(page.locator("#glance-equity .big")).not_to_have_text(DASH)  # as it was
    again = Service(desk, port=service.port)
    try:
        desk.step()
        page.click("#retry")
        expect(page.locator("#outage")).to_be_hidden()
        expect(page.locator("#pill")).to_have_text("● Trading")
    finally:
        again.stop()


def test_it_comes_back_by_itself(desk, visit):
    service = Service(desk)
    page = visit(service)
    expect(page.locator("#pill")).to_have_text("● Trading")
    service.stop()
    expect(page.locator("#outage")).to_be_visible()
    again = Service(desk, port=service.port)
    try:
        expect(page.locator("#outage")).to_be_hidden()
    finally:
        again.stop()


def test_a_silent_stream_is_lost_and_heartbeats_are_life(visit):
    with shown(None, heartbeat_s=60.0) as service:
        page = visit(service, before=lambda page: page.clock.install())
        expect(page.locator("#pill")).to_have_text("No paper trading")
        page.clock.fast_forward(10_000)
        expect(page.locator("#outage")).to_be_hidden()
        page.clock.fast_forward(10_000)
        expect(page.locator("#outage")).to_be_visible()
    with shown(None, heartbeat_s=0.2) as service:
        page = visit(service, before=lambda page: page.clock.install())
        expect(page.locator("#pill")).to_have_text("No paper trading")
        for _ in range(4):
            page.clock.fast_forward(10_000)
            page.wait_for_timeout(500)
        expect(page.locator("#outage")).to_be_hidden()
        assert sum(url.endswith("/ws") for url in page.asked) == 1  # the first one lives


def test_an_engine_that_says_nothing_is_noticed_though_the_service_lives(service, desk, visit):
    page = visit(service, before=lambda page: page.clock.install())
    expect(page.locator("#pill")).to_have_text("● Trading")
    desk.error = RuntimeError("the file is locked")
    page.wait_for_timeout(1200)
    page.clock.fast_forward(8000)
    expect(page.locator("#trouble")).to_contain_text("paper trading has said nothing")
    expect(page.locator("#outage")).to_be_hidden()


def test_a_refused_stream_still_shows_the_state(desk, visit):
    with shown(desk, max_streams=1) as service:
        visit(service)
        page = visit(service)
        expect(page.locator("#outage-title")).to_contain_text("the stream is refused")
        expect(page.locator("#glance-equity .big")).to_have_text(re.compile(r"\d"))


def test_without_paper_trading_every_panel_says_what_would_fill_it(visit):
    with shown(None) as service:
        page = visit(service)
        expect(page.locator("#pill")).to_have_text("No paper trading")
        expect(page.locator("#empty")).to_contain_text("make serve")
        expect(page.locator("#kill-open")).to_be_disabled()
        for place in ("price", "book", "equity", "limits", "fills", "alerts", "checks", "orders"):
            expect(page.locator(f"#{place} .nothing")).to_be_visible()
        push(service)
        expect(page.locator("#price .scatterlayer path.js-line")).to_have_count(1)
        expect(page.locator("#glance-wants li")).to_have_count(5)
        assert page.faults == []


def test_before_the_first_fill_what_is_not_defined_is_a_dash(visit):
    with shown(FakeDesk(n_bars=2, has_traded=False)) as service:
        page = visit(service)
        expect(page.locator("#fills")).to_contain_text("No fills yet")
        expect(page.locator("#alerts")).to_contain_text("No alerts.")
        expect(page.locator("#drift-verdict")).to_have_text("not measured yet")
        sharpe = page.locator("#statistics dt:text-is('Sharpe ratio') + dd")
        expect(sharpe).to_have_text(DASH)
        wait_for_figures(page)
        assert "NaN" not in page.locator("body").inner_text()
        assert page.faults == []


def test_a_service_without_a_model_says_why(desk, visit):
    with shown(desk, store=make_store(), model="broken") as service:
        page = visit(service)
        expect(page.locator("#model")).to_contain_text("export it again")
        expect(page.locator("#pill")).to_have_text("● Trading")


def test_text_of_the_service_is_never_html(visit):
    desk = FakeDesk(symbols={EVIL: 100.0, "GOLD": 4310.0})
    desk.alert(EVIL, EVIL)
    desk.halted = EVIL
    desk.fills[-1] = {**desk.fills[-1], "venue": EVIL}
    with shown(desk) as service:
        page = visit(service)
        expect(page.locator("#alerts")).to_contain_text(EVIL)
        expect(page.locator("#halted")).to_contain_text(EVIL)
        expect(page.locator("#fills")).to_contain_text(EVIL)
        page.select_option("#symbol", EVIL)
        expect(page.locator("#price .scatterlayer path.js-line")).to_have_count(1)
        assert page.locator("main img, main b, .banners img, .banners b").count() == 0
        assert page.evaluate("window.hacked") is None
        assert page.faults == []


def test_a_tripped_breaker_is_said(service, desk, visit, monkeypatch):
    whole = desk.snapshot
    tripped = {"phase": "open", "reason": "daily loss"}
    monkeypatch.setattr(desk, "snapshot", lambda: whole() | {"breaker": tripped})
    page = visit(service)
    expect(page.locator("#pill")).to_have_text("◆ Only reducing")
    expect(page.locator("#trouble")).to_contain_text("daily loss")
