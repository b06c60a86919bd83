"""The page of results in a real browser: everyone can use it, on a phone and a desk, in light and dark."""

from pathlib import Path
from typing import Any

import pytest
from report_world import make_report_world, more_results
from segmentation_world import make_results, make_scenes
from test_flips import of_multilabel

from deponij.project.frame.layout import Layout
from deponij.stages import report
from deponij.stages.report import ReportParams

SIZES = ((1280, 900), (390, 844))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with every part, toys and long tables on it."""
    made = make_report_world(tmp_path_factory.mktemp("report"))
    results = [*made.results, *more_results(made.results[1], tmp_path_factory.mktemp("more"), 12)]
    several = [one.files[0].parent for one in of_multilabel(tmp_path_factory.mktemp("several"))]
    out: Path = tmp_path_factory.mktemp("page")
    at = Layout(tmp_path_factory.mktemp("segmented"))
    given = made.arguments(results=results, multilabel=several, toys={"other"})
    given |= {"segmentation": make_results(make_scenes(at.scenes), at), "scenes": at.scenes}
    return report.run(ReportParams(), **given, out=out).as_uri()


@pytest.fixture(scope="module")
def axe() -> Any:
    module = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    return module.Axe()


def opened(browser: Any, address: str, size: tuple[int, int], scheme: str) -> Any:
    """The page with everything unfolded; its own policy would keep the measure out."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(address)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    return page


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_it(
    browser: Any,
    address: str,
    axe: Any,
    size: tuple[int, int],
    scheme: str,
) -> None:
    """axe-core finds nothing (WCAG A and AA, best practices), and nothing is wider than the screen."""
    page = opened(browser, address, size, scheme)
    there = set(page.eval_on_selector_all("main > section", "all => all.map((one) => one.id)"))
    assert there >= {"next", "likeness", "words", "multilabel", "curves", "segmentation"}
    assert page.locator("#curves .ahead").count()
    found = axe.run(page)
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20
    assert page.evaluate("document.documentElement.scrollWidth") == size[0]
    page.context.close()


def test_the_measure_of_use_can_fail(browser: Any, address: str, axe: Any) -> None:
    page = opened(browser, address, SIZES[0], "light")
    page.evaluate("document.querySelector('.said').style.setProperty('color', '#bbb')")
    page.evaluate("document.querySelector('.sheet img').removeAttribute('alt')")
    assert {"color-contrast", "image-alt"} <= {one["id"] for one in axe.run(page).response["violations"]}
    page.context.close()


def test_what_names_a_row_stays_where_a_table_is_wider_than_a_phone(browser: Any, address: str) -> None:
    page = opened(browser, address, SIZES[1], "light")
    places = page.evaluate(
        """[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth).map((box) => {
            const name = box.querySelector('tbody th[scope=row]');
            if (!name) return 0;
            box.scrollLeft = 1000;
            return Math.round(name.getBoundingClientRect().left - box.getBoundingClientRect().left);
        })"""
    )
    assert len(places) >= 2 and set(places) == {0}
    page.context.close()


def test_a_long_name_makes_no_page_wider(browser: Any, address: str) -> None:
    page = opened(browser, address, SIZES[1], "light")
    places = ".confused .wrong, .classes th[scope=row], .best-card h3 bdi, .sheet figcaption b, summary .name, .said"
    page.evaluate(
        "(places) => document.querySelectorAll(places).forEach((one) => { one.textContent = 'назва_класу_'.repeat(9) })",
        places,
    )
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[1][0]
    page.context.close()


def test_the_answer_comes_first_and_nothing_is_said_twice(browser: Any, address: str) -> None:
    page = opened(browser, address, SIZES[0], "light")
    sections = page.eval_on_selector_all("main > section", "all => all.map((one) => one.id)")
    asked = [
        "multilabel",
        "best",
        "next",
        "segmentation",
        "words",
        "answers",
        "mistakes",
        "curves",
        "results",
    ]
    assert sections[: len(asked)] == asked
    assert "test pictures, from which it learned nothing" in page.inner_text(".said")
    # Baselines stand in the table of all results alone.
    assert page.locator("#tables .baseline").count() == 0
    page.context.close()


@pytest.mark.parametrize("size", SIZES)
def test_what_to_do_next_is_unfolded_by_keys(browser: Any, address: str, size: tuple[int, int]) -> None:
    """Tab goes from finding to finding, each with a ring that is seen; Enter and Space fold and unfold."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(address)
    page.locator("#next details").evaluate_all("all => all.forEach((one) => { one.open = false })")
    summaries = page.locator("#next summary")
    page.locator("#best a").last.focus()
    for i in range(summaries.count()):
        page.keyboard.press("Tab")
        assert summaries.nth(i).evaluate("one => one === document.activeElement")
        ring = summaries.nth(i).evaluate(
            "one => getComputedStyle(one)['outline-style'] + getComputedStyle(one)['outline-width']"
        )
        assert ring == "solid3px"
        for key, is_open in (("Enter", True), ("Space", False)):
            page.keyboard.press(key)
            assert summaries.nth(i).evaluate("one => one.parentElement.open") is is_open
    assert summaries.count() == 2
    page.close()


def test_a_command_is_broken_at_no_hyphen_of_a_flag(browser: Any, address: str) -> None:
    """Each flag is on one line, however narrow the screen; as copied the command is what it was."""
    page = opened(browser, address, (200, 844), "light")
    acts = page.locator("#next .acts code")
    said = "deponij advice runs/made-up --take duplicates --into corrections.csv"
    assert said in acts.evaluate_all("all => all.map((one) => one.textContent)")
    lines = page.locator("#next .acts code span").evaluate_all(
        "all => all.map((one) => one.getClientRects().length)"
    )
    assert len(lines) >= 3 and set(lines) == {1}
    page.context.close()
