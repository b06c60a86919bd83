"""The page in a real headless browser: nothing loaded, nothing wider than the screen, all usable by keyboard."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_world import make_report_world, more_results

from deponij.stages import report
from deponij.stages.report import ReportParams

pytestmark = pytest.mark.slow
WIDTHS = {"phone": (390, 844), "desktop": (1280, 900)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("browser")
    made = make_report_world(root)
    results = [*made.results, *more_results(made.results[1], root / "more", 14)]
    return report.run(ReportParams(), **made.arguments(results=results), out=root / "page")


class Watched:
    """A tab that keeps what the page said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.evaluate("document.querySelectorAll('img').forEach((img) => { img.loading = 'eager' })")


@pytest.fixture(params=[(size, scheme) for size in WIDTHS for scheme in ("light", "dark")], ids="-".join)
def tab(browser: Any, path: Path, request: pytest.FixtureRequest) -> Iterator[Watched]:
    size, scheme = request.param
    width, height = WIDTHS[size]
    options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, "has_touch": True}
    watched = Watched(browser, path, **options)
    yield watched
    watched.context.close()


@pytest.fixture
def desktop(browser: Any, path: Path) -> Iterator[Watched]:
    watched = Watched(browser, path, viewport={"width": 1280, "height": 900})
    yield watched
    watched.context.close()


def layers(tab: Watched) -> list[str]:
    """Classes of the map's layers that are seen."""
    found: list[str] = tab.page.eval_on_selector_all(
        ".map .layer",
        "all => all.filter(g => getComputedStyle(g).display != 'none').map(g => g.className.baseVal)",
    )
    return found


def test_nothing_is_wrong_loaded_or_too_wide(tab: Watched) -> None:
    page = tab.page
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    page.wait_for_function("[...document.images].every((img) => img.complete && img.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"]
    assert tab.said == []
    assert [url for url in tab.asked if not url.startswith("data:")] == [page.url]


def test_words_can_be_read_on_their_ground(tab: Watched) -> None:
    """WCAG wants a contrast of 4.5 for words of ordinary size."""
    ratio = """(name) => {
      const rule = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
      const light = [1, 3, 5].map((i) => parseInt(rule.slice(i, i + 2), 16) / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
      return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
    }"""
    grounds = [tab.page.evaluate(ratio, name) for name in ("--paper", "--card")]
    for name in ("--ink", "--muted", "--accent", "--hit", "--miss"):
        ink = tab.page.evaluate(ratio, name)
        for ground in grounds:
            high, low = max(ink, ground), min(ink, ground)
            # Red words are large or bold beside a frame of the same colour; 3 is what graphics need.
            assert (high + 0.05) / (low + 0.05) >= (3 if name in ("--miss", "--hit") else 4.5), name


def test_layouts_and_classes_are_chosen_by_keyboard(desktop: Watched) -> None:
    page = desktop.page
    assert layers(desktop) == ["layer b0 l1"]
    page.focus(".map .pl1")
    page.keyboard.press("ArrowLeft")
    assert layers(desktop) == ["layer b0 l0"]
    page.focus(".pick input:checked")
    page.keyboard.press("ArrowDown")
    faint = "all => all.map((path) => +getComputedStyle(path).opacity)"
    opacities = page.eval_on_selector_all(".layer.l0 .class", faint)
    assert opacities[0] == 1
    assert max(opacities[1:]) < 0.1


def test_focus_is_seen_wherever_it_goes(desktop: Watched) -> None:
    page = desktop.page
    seen = """() => {
      const here = document.activeElement, shown = here.matches('.map input') ? here.nextElementSibling : here;
      return [here.tagName + '.' + here.className, getComputedStyle(shown).outlineStyle, shown.checkVisibility()];
    }"""
    stops = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name, outline, is_visible = page.evaluate(seen)
        if name.startswith("BODY"):
            break
        stops.append(name)
        assert outline != "none", name
        assert is_visible, name
    assert {name.split(".")[0] for name in stops} >= {"A", "INPUT", "SUMMARY", "DIV"}
    assert "DIV.stage" in stops


def test_arrow_keys_walk_over_the_points(desktop: Watched) -> None:
    page = desktop.page
    page.focus(".stage")
    page.keyboard.press("ArrowRight")
    first = page.inner_text(".tip")
    where = page.eval_on_selector(".ring", "ring => parseFloat(ring.style.left)")
    page.keyboard.press("ArrowRight")
    assert page.eval_on_selector(".ring", "ring => parseFloat(ring.style.left)") > where
    assert page.inner_text(".tip") != first
    assert page.is_visible(".tip .tile")
    page.keyboard.press("Escape")
    assert not page.is_visible(".tip")


def test_a_point_tells_its_name_on_hover_and_tap(tab: Watched) -> None:
    page = tab.page
    page.locator(".stage").scroll_into_view_if_needed()
    d = page.eval_on_selector(".layer.l1 .c0", "path => path.getAttribute('d')")
    x, y = (int(number) for number in d[1:].split("m")[0].split())
    box = page.locator("svg.points").bounding_box()
    at = (box["x"] + x * box["width"] / 1000, box["y"] + y * box["height"] / 1000)
    page.mouse.move(*at)
    assert page.inner_text(".tip b") in ("Bottle", "Can", "Cup", "Lid")
    assert page.inner_text(".tip small").startswith("photo")
    tip = page.locator(".tip").bounding_box()
    assert tip["x"] >= 0
    assert tip["x"] + tip["width"] <= page.viewport_size["width"]
    page.mouse.move(2, 2)
    assert not page.is_visible(".tip")
    page.touchscreen.tap(*at)
    assert page.is_visible(".tip")


def test_a_long_table_is_filtered(desktop: Watched) -> None:
    page = desktop.page
    page.click("#results summary")
    page.fill(".filter", "zero tiny")
    rows = page.eval_on_selector_all(
        "[data-filter] tbody tr", "all => all.filter((row) => !row.hidden).map((row) => row.innerText)"
    )
    assert len(rows) == 1
    assert "zero-shot" in rows[0]


def test_links_of_the_contents_arrive(tab: Watched) -> None:
    page = tab.page
    page.click("nav a[href='#mistakes']")
    page.wait_for_function("location.hash == '#mistakes'")
    top = page.eval_on_selector("#mistakes h2", "heading => heading.getBoundingClientRect().top")
    assert 0 <= top < page.viewport_size["height"]


def test_without_its_script_the_page_is_whole(browser: Any, path: Path) -> None:
    width, height = WIDTHS["phone"]
    tab = Watched(browser, path, viewport={"width": width, "height": height}, java_script_enabled=False)
    page = tab.page
    assert page.locator("section").count() == 15
    assert page.locator(".filter").count() == 0
    assert page.locator(".layer.l1").is_visible()
    assert not page.locator(".layer.l0").is_visible()
    page.locator(".map .pl0").check()
    assert page.locator(".layer.l0").is_visible()
    assert not page.locator(".tip").is_visible()
    tab.context.close()


def test_it_can_be_printed(desktop: Watched, tmp_path: Path) -> None:
    desktop.page.emulate_media(media="print")
    assert not desktop.page.is_visible("nav")
    assert desktop.page.pdf(format="A4").startswith(b"%PDF")
