"""The files of the dashboard: how they are served, what they hold, whether they can be read."""

import re

import pytest

from hftlib.live.routes_page import FILES, INDEX, PAGE
from hftlib.live.service import create_app
from tests.live_cases import FakeStore, with_client

MIN_CONTRAST = 4.5  # WCAG 2.2, AA, text of normal size
DEPTH = 0.16  # share of its colour behind a size in the ladder, panels.css
PAIRS = [
    *((ink, ground) for ink in ("ink", "soft") for ground in ("ground", "surface", "grid")),
    *((ink, ground) for ink in ("buy", "sell") for ground in ("surface", "grid", "ground")),
    ("ink", "bad-tint"),
    ("ink", "warn-tint"),
    ("warn", "warn-tint"),
    ("on-bad", "bad"),
    *((ink, "surface") for ink in ("good", "warn", "bad")),
    ("bad", "ground"),
]


def get(path, **headers):
    return with_client(lambda client: client.get(path, headers=headers))


def test_the_page_comes_with_a_strict_policy():
    answer = get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert not any("script" in part or "*" in part for part in policy), "scripts only from here"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_there_and_is_kept_by_the_browser_until_it_changes(name):
    answer = get(f"/page/{name}")
    assert answer.status_code == 200
    assert answer.content == FILES[name].path.read_bytes()
    assert answer.headers["cache-control"] == "no-cache"
    tag = answer.headers["etag"]
    again = get(f"/page/{name}", **{"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert get(f"/page/{name}", **{"if-none-match": '"other"'}).status_code == 200


def test_other_answers_are_not_kept():
    assert get("/health").headers["cache-control"] == "no-store"


def test_every_file_of_the_folder_is_served():
    served = {file.path for file in FILES.values()} | {INDEX.path}
    assert set(PAGE.iterdir()) <= served


@pytest.mark.parametrize(
    "name",
    ["none.js", "..%2fservice.py", "%2e%2e/service.py", "index.html", "style.css/", "%00"],
)
def test_no_other_file_can_be_had(name):
    answer = get(f"/page/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "no_route"


def test_the_page_is_no_part_of_the_api():
    paths = create_app(FakeStore()).openapi()["paths"]
    assert not any(path == "/" or path.startswith("/page") for path in paths)


def test_the_page_asks_nobody_else_and_has_no_inline_script_or_style():
    html = INDEX.path.read_text()
    for tag in re.findall(r"<script[^>]*>[^<]*</script>", html):
        assert re.fullmatch(r'<script src="/page/[\w.]+"[^>]*></script>', tag)
    assert not re.search(r"\son\w+=|\sstyle=|<style", html)
    for file in PAGE.iterdir():
        found = re.findall(r"(?:https?:)?//[a-z][\w.-]+", re.sub(r"//[ /].*", "", file.read_text()))
        assert set(found) <= {"http://www.w3.org"}, file.name  # SVG's name space


def test_text_never_becomes_html():
    for file in PAGE.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|\beval\b", file.read_text())


def test_the_scripts_are_short():
    for file in PAGE.iterdir():
        assert len(file.read_text().splitlines()) <= 250, file.name


def read_palette():
    text = (PAGE / "style.css").read_text()
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", text)
    return {name: (light, dark) for name, light, dark in found}


def channels(colour):
    return [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]


def luminance(rgb):
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_of_black_on_white_is_21():
    assert contrast(channels("#000000"), channels("#ffffff")) == pytest.approx(21)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ink, ground", PAIRS)
def test_text_can_be_read(ink, ground, theme):
    palette = read_palette()
    found = contrast(channels(palette[ink][theme]), channels(palette[ground][theme]))
    assert found >= MIN_CONTRAST


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("ink", ["buy", "sell"])
def test_sizes_can_be_read_on_their_depth_bars(ink, theme):
    assert f"currentColor {DEPTH:.0%}" in (PAGE / "panels.css").read_text()
    palette = read_palette()
    front, back = (channels(palette[name][theme]) for name in (ink, "surface"))
    bar = [DEPTH * a + (1 - DEPTH) * b for a, b in zip(front, back, strict=True)]
    assert contrast(front, bar) >= MIN_CONTRAST


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("edge, ground", [("edge", "surface"), ("buy", "line"), ("soft", "line")])
def test_controls_and_bars_stand_out(edge, ground, theme):
    palette = read_palette()
    found = contrast(channels(palette[edge][theme]), channels(palette[ground][theme]))
    assert found >= 3  # WCAG 2.2, AA, what is no text
