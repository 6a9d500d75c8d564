"""Using the dashboard: the keyboard, a phone, light and dark."""

import json
import re

import pytest

from tests.dashboard_cases import PHONE, SYMBOLS, FakeDesk, fill_in, needs_chromium, push, shown
from tests.test_dashboard_files import MIN_CONTRAST

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's driver is missing")
pytestmark = needs_chromium
expect = playwright.expect
READABLE = """
() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parse(getComputedStyle(one).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *:not(svg *):not(option)")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.disabled) continue;
    const pair = [parse(getComputedStyle(element).color), ground(element)].map(light);
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    found.push([ratio, element.outerHTML.slice(0, 90)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}
"""


def test_everything_is_reached_by_tab_and_the_focus_is_seen(ready):
    page = ready()
    wanted = {"theme", "help-open", "kill-open", "symbol", "book-merged", "book-venues"}
    wanted |= {"symbols", "book", "fills", "alerts", "checks", "orders", "drift"}
    wanted |= set(SYMBOLS)
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "() => { const at = document.activeElement, style = getComputedStyle(at);"
            "return [at.dataset.key ?? at.id,"
            " style.outlineStyle + parseFloat(style.outlineWidth)]; }"
        )
        if name in seen:
            break
        if name in wanted:
            assert outline == "solid2", name
        seen.append(name)
    assert wanted <= set(seen)


def test_keys_choose_a_symbol_and_the_venues(ready):
    page = ready()
    names = list(SYMBOLS)
    page.keyboard.press("3")
    expect(page.locator("#symbol")).to_have_value(names[2])
    expect(page.locator("#price")).to_have_attribute("aria-label", re.compile(names[2]))
    page.keyboard.press("9")  # there is no ninth
    expect(page.locator("#symbol")).to_have_value(names[2])
    page.keyboard.press("b")
    expect(page.locator("#book-venues")).to_have_attribute("aria-pressed", "true")
    page.focus(f"[data-key={names[4]}]")
    page.keyboard.press("Enter")
    expect(page.locator("#symbol")).to_have_value(names[4])
    expect(page.locator(f"[data-key={names[4]}]")).to_be_focused()  # the table was built anew


def test_the_list_of_keys_opens_and_closes_by_key_and_switches_them_off(ready):
    page = ready()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("k")
    expect(page.locator("#kill")).to_be_hidden()
    page.uncheck("#keys")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("k")
    expect(page.locator("#kill")).to_be_hidden()
    page.reload()
    expect(page.locator("#keys")).not_to_be_checked()


def test_what_is_typed_into_a_field_is_no_shortcut(ready):
    page = ready()
    page.keyboard.press("k")
    expect(page.locator("#kill-reason")).to_be_focused()
    page.keyboard.type("bk?t1")
    expect(page.locator("#kill-reason")).to_have_value("bk?t1")
    expect(page.locator("#help")).to_be_hidden()
    expect(page.locator("#book-merged")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(page.locator("#kill")).to_be_hidden()
    expect(page.locator("#kill-open")).not_to_be_disabled()


@pytest.mark.parametrize("has_paper", [True, False])
def test_a_phone_shows_one_column_and_scrolls_in_one_direction(visit, has_paper):
    with shown(FakeDesk() if has_paper else None) as service:
        push(service)
        page = visit(service, **PHONE)
        page.click("#book-venues")
        expect(page.locator("#glance-wants li")).to_have_count(5)
        page.wait_for_timeout(1200)
        assert page.evaluate("document.documentElement.scrollWidth") == 375
        page.evaluate("scrollTo(200, 0)")
        assert page.evaluate("scrollX") == 0
        boxes = [panel.bounding_box() for panel in page.locator(".panel").all()]
        assert {(box["x"], box["width"]) for box in boxes} == {(12, 351)}
        for button in page.locator("button:visible, select:visible").all():
            assert button.bounding_box()["height"] >= 24  # WCAG 2.2, 2.5.8


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_contrast_in_every_state(visit, theme):
    desk = FakeDesk()
    with shown(desk) as service:
        push(service)
        page = visit(service, color_scheme=theme)
        expect(page.locator("#glance-wants li")).to_have_count(5)
        desk.halted = "spread doubled"
        expect(page.locator("#halted")).to_be_visible()
        found = page.evaluate(READABLE)
        assert len(found) > 300
        for name, field in (("kill", "reason"), ("resume", "who")):
            page.click(f"#{name}-open")
            fill_in(page, name, "clé", **{field: "Ada"})
            expect(page.locator(f"#{name}-fault")).to_be_visible()
            found += page.evaluate(READABLE)
            page.keyboard.press("Escape")
        for state in ("ended", "failed: no model"):
            desk.state = state
            expect(page.locator(f"#{state.split(':')[0]}")).to_be_visible()
            found += page.evaluate(READABLE)
        worst = min(found)
        assert worst[0] >= MIN_CONTRAST, worst
    expect(page.locator("#outage")).to_be_visible()
    found = page.evaluate(READABLE)
    assert found[0][0] >= MIN_CONTRAST, found[0]


def test_the_theme_follows_the_system_until_somebody_chooses(ready):
    page = ready(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(16, 21, 27)"
    page.emulate_media(color_scheme="light")
    expect(page.locator("body")).to_have_css("background-color", "rgb(243, 245, 248)")
    page.keyboard.press("t")
    expect(page.locator("body")).to_have_css("background-color", "rgb(16, 21, 27)")
    line = page.locator("#price .scatterlayer path.js-line")
    expect(line).to_have_css("stroke", "rgb(228, 234, 241)")  # the figures follow
    page.reload()
    expect(page.locator("body")).to_have_css("background-color", "rgb(16, 21, 27)")
    expect(page.locator("#theme")).to_have_text("Light")


def test_nothing_moves_for_who_asked_for_less_motion(ready):
    place = "#limits .fill"
    assert (
        ready().locator(place).first.evaluate("e => getComputedStyle(e).transitionDuration") != "0s"
    )
    page = ready(reduced_motion="reduce")
    assert page.locator(place).first.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"


def test_the_page_has_landmarks_headings_and_named_tables(ready):
    page = ready()
    tree = page.locator("body").aria_snapshot()
    for role in ("banner", "main", "contentinfo"):
        assert f"- {role}" in tree
    assert page.locator("h1").count() == 1
    faults = page.evaluate(
        "() => [...document.querySelectorAll('table')].filter((t) => !t.caption?.textContent"
        " || [...t.querySelectorAll('th')].some((th) => !th.scope)).length"
    )
    assert faults == 0
    assert page.locator("table").count() == 6
    unnamed = page.evaluate(
        "() => [...document.querySelectorAll('section')].filter((s) => s.checkVisibility() &&"
        " !s.ariaLabel && !document.getElementById(s.getAttribute('aria-labelledby'))).length"
    )
    assert unnamed == 0
    assert page.locator("#halted [role=alert]").count() == 1
    assert json.loads(page.evaluate("JSON.stringify(document.title)")) == "● Trading · hftlib"
