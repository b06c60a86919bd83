"""The page of `deponij serve` in a real headless browser, on a real server with a made-up backbone."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from serve_page_world import ATTACK, BOX_PX, COLOURS, DESKTOP, PHONE, SIZE_PX, Tab, made, served

from deponij.pipeline.unit_vectors import unit
from deponij.project.frame.layout import Layout
from deponij.store.items import Items
from deponij.store.view import View


@pytest.fixture(scope="module")
def world(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    with made(tmp_path_factory.mktemp("page")) as at:
        yield at


@pytest.fixture(scope="module")
def address(world: Layout) -> Iterator[str]:
    with served(world.root.parent.parent) as address:
        yield address


@pytest.fixture
def tab(browser: Any, address: str) -> Iterator[Tab]:
    tab = Tab(browser, address)
    yield tab
    tab.context.close()
    assert tab.dialogs == []
    # A refusal by the server is an answer, though the browser writes it down.
    assert [text for text in tab.said if "status of 4" not in text] == []
    assert {url.split(":")[0] for url in tab.asked if not url.startswith(address)} <= {"blob", "data"}


def nearest(world: Layout, vector: np.ndarray, k: int) -> list[float]:
    """The k highest cosines, by NumPy."""
    rows = unit(View(world.view("words")).embedding).astype(np.float64)
    return sorted((rows @ unit(vector[None])[0]).tolist(), reverse=True)[:k]


def shown_scores(tab: Tab) -> list[float]:
    return [float(text.replace("−", "-")) for text in tab.page.locator("#hits .score").all_inner_texts()]


def an_item(world: Layout, category: str) -> str:
    items = Items(world.items)
    return next(i for i, name in zip(items.ids, items.column("category"), strict=True) if name == category)


def test_words_find_what_brute_force_finds(tab: Tab, world: Layout) -> None:
    assert "Try" in tab.page.inner_text("#advice")
    answer = tab.ask("can")
    assert tab.ids == [hit["item_id"] for hit in answer["hits"]]
    texts = View(world.texts("words"))
    vector = texts.embedding[texts.columns["text"].tolist().index("can")]
    assert shown_scores(tab) == pytest.approx(nearest(world, vector, 24), abs=6e-4)  # shown with three digits
    assert tab.terms == [("+", "can")]
    assert tab.page.is_hidden("#advice")
    assert tab.page.input_value("#words") == ""
    n = len(View(world.view("words")))
    assert f"24 of {n} items" in tab.count()
    assert tab.page.title().startswith("can")
    # Words that were never stored need the model.
    assert tab.ask("a thing of metal")["hits"]
    assert tab.terms == [("+", "can"), ("+", "a thing of metal")]


def test_an_example_is_one_click(tab: Tab) -> None:
    example = tab.page.locator("#advice .example").first
    words = example.inner_text()
    tab.answer(example.click)
    assert tab.terms == [("+", words)]


def test_more_like_this_and_back(tab: Tab, world: Layout) -> None:
    lid = an_item(world, "lid")
    tab.go(f"/?term={quote(f'1*item:{lid}')}")
    assert set(tab.labels[:12]) == {"lid"}
    assert lid not in tab.ids
    second = tab.page.locator("#hits > li").nth(1)
    wanted = second.get_attribute("data-id")
    tab.answer(lambda: second.get_by_role("button", name="Similar").click())
    assert [words for _, words in tab.terms] == [f"lid {wanted}"]
    assert set(tab.labels[:12]) == {"lid"} and wanted not in tab.ids
    tab.answer(tab.page.go_back)
    assert [words for _, words in tab.terms] == [lid]
    tab.answer(tab.page.go_forward)
    assert wanted in tab.terms[0][1]
    tab.revisit()
    assert wanted in tab.terms[0][1], "the question is in the address"


def test_plus_minus_and_weights(tab: Tab, world: Layout) -> None:
    can, cup = an_item(world, "can"), an_item(world, "cup")
    tab.go(f"/?term={quote(f'1*item:{can}')}")
    card = tab.page.locator("#hits > li").first
    added = card.get_attribute("data-id")
    tab.answer(lambda: card.get_by_role("button", name="Add to the question").click())
    assert [sign for sign, _ in tab.terms] == ["+", "+"]
    tab.go(f"/?term={quote(f'1*item:{can}')}&term={quote(f'-1*item:{cup}')}")
    view = View(world.view("words"))
    a, b = (unit(view.read([one]))[0].astype(np.float64) for one in (can, cup))
    left_out = 2  # the question's own items, of which the first would be found
    assert shown_scores(tab)[:5] == pytest.approx(nearest(world, a - b, 5 + left_out)[1:6], abs=1e-3)
    assert [sign for sign, _ in tab.terms] == ["+", "−"]
    tab.answer(lambda: tab.page.get_by_label(f"Weight of {cup}").select_option("×½"))
    assert shown_scores(tab)[:3] == pytest.approx(nearest(world, a - b / 2, 4)[1:], abs=1e-3)
    tab.answer(lambda: tab.page.locator("#terms .sign").nth(1).click())
    assert [sign for sign, _ in tab.terms] == ["+", "+"]
    tab.answer(lambda: tab.page.get_by_label(f"Remove {cup}").click())
    assert len(tab.terms) == 1 and tab.terms[0][1] == can and added in tab.ids


def test_less_like_words(tab: Tab) -> None:
    tab.page.fill("#words", "cup")
    tab.answer(lambda: tab.page.click("#less"))
    assert tab.terms == [("−", "cup")]
    tab.page.click("#terms .words")
    assert tab.page.input_value("#words") == "cup" and tab.terms == [], "words can be changed"


def key(world: Layout, item_id: str) -> str | None:
    """What is seen of an item; many rectangles are alike to the last pixel."""
    items = Items(world.items)
    return items.keys[items.ids.index(item_id)]


def png(world: Layout, category: str) -> bytes:
    return Items(world.items).content(an_item(world, category))


def test_a_picture_is_uploaded(tab: Tab, world: Layout) -> None:
    content = png(world, "cup")
    tab.answer(
        lambda: tab.page.set_input_files(
            "#file", [{"name": "cup.png", "mimeType": "image/png", "buffer": content}]
        )
    )
    assert key(world, tab.ids[0]) == key(world, an_item(world, "cup"))
    assert shown_scores(tab)[0] == pytest.approx(1, abs=2e-3)
    assert tab.terms == [("+", "cup.png")]
    assert tab.page.evaluate("document.querySelector('#terms img').naturalWidth") == BOX_PX[0]
    # With words it is one question; and Back finds the picture again, which no address could hold.
    tab.ask("lid")
    assert [words for _, words in tab.terms] == ["cup.png", "lid"]
    tab.answer(tab.page.go_back)
    assert tab.terms == [("+", "cup.png")] and tab.labels[0] == "cup"
    tab.page.reload()
    tab.page.wait_for_selector("#notice :text('give it again')")


HAND_OVER = """([event, name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
  const given = new DataTransfer();
  given.items.add(new File([bytes], name, { type }));
  const options = event === "paste" ? { clipboardData: given } : { dataTransfer: given };
  const kind = event === "paste" ? ClipboardEvent : DragEvent;
  document.body.dispatchEvent(new kind(event, { bubbles: true, cancelable: true, ...options }));
}"""


@pytest.mark.parametrize("how", ["paste", "drop"])
def test_a_picture_is_pasted_or_dropped(tab: Tab, world: Layout, how: str) -> None:
    given = ["x.png", "image/png", base64.b64encode(png(world, "can")).decode()]
    if how == "drop":
        tab.page.evaluate(HAND_OVER, ["dragenter", *given])
        assert tab.page.is_visible("#drop")
    tab.answer(lambda: tab.page.evaluate(HAND_OVER, [how, *given]))
    assert key(world, tab.ids[0]) == key(world, an_item(world, "can"))
    assert tab.page.is_hidden("#drop")


def test_what_is_no_picture_is_refused(tab: Tab) -> None:
    def give(name: str, kind: str, content: bytes) -> None:
        tab.page.set_input_files("#file", [{"name": name, "mimeType": kind, "buffer": content}])

    # By its type, without asking the server.
    n_searches = tab.n_searches
    give("notes.txt", "text/plain", b"hello")
    assert "“notes.txt” is not a picture" in tab.page.inner_text("#notice")
    give("empty.png", "image/png", b"")
    assert "is empty" in tab.page.inner_text("#notice")
    tab.there_and_back()
    assert tab.n_searches == n_searches
    # By its content, by the server; the question is as it was before.
    before = tab.ids
    give("page.png", "image/png", b"<html><body>sign in</body></html>")
    tab.page.wait_for_selector("#notice:not([hidden]) :text('picture')")
    tab.settled()
    assert "“page.png” cannot be searched with" in tab.page.inner_text("#notice")
    assert tab.terms == [] and tab.ids == before
    tab.ask("can")
    assert tab.page.is_hidden("#notice")


def test_a_file_that_is_too_large_is_not_sent(tab: Tab) -> None:
    limit = tab.page.evaluate(
        "fetch('/api/about').then((one) => one.json()).then((one) => one.limits.upload_bytes)"
    )
    n_searches = tab.n_searches
    give = """(n) => {
      const given = new DataTransfer();
      given.items.add(new File([new Uint8Array(n)], 'big.png', { type: 'image/png' }));
      const event = { bubbles: true, cancelable: true, clipboardData: given };
      document.body.dispatchEvent(new ClipboardEvent('paste', event));
    }"""
    tab.page.evaluate(give, limit + 1)
    assert f"up to {limit // 2**20} MiB" in tab.page.inner_text("#notice")
    tab.there_and_back()
    assert tab.n_searches == n_searches


def test_filters_narrow_the_answer(tab: Tab, world: Layout) -> None:
    tab.ask("thing")
    tab.answer(lambda: tab.page.get_by_role("checkbox", name="lid").check())
    assert set(tab.labels) == {"lid"} and len(tab.ids) == 24
    n = Items(world.items).column("category").count("lid")
    assert f"{n} of" in tab.page.inner_text("#passing")
    tab.answer(lambda: tab.page.get_by_role("checkbox", name="can").check())
    assert set(tab.labels) == {"lid", "can"}
    tab.answer(lambda: tab.page.get_by_role("button", name=re.compile("turn into its opposite")).click())
    assert set(tab.labels) == {"cup", ATTACK}
    tab.answer(tab.page.go_back)
    assert set(tab.labels) == {"lid", "can"}
    assert tab.page.get_by_role("checkbox", name="lid").is_checked()
    tab.answer(lambda: tab.page.get_by_label(re.compile("Remove the filter")).click())
    assert tab.page.is_hidden("#active") and not tab.page.get_by_role("checkbox", name="lid").is_checked()


def test_numbers_are_filtered_by_their_range(tab: Tab) -> None:
    summary = tab.page.locator("#facets details", has_text="bbox_y").last.locator("summary")
    tab.page.evaluate("document.querySelector('.others').open = true")
    summary.click()
    tab.page.fill("[aria-label='bbox_y from']", "40")
    answer = tab.answer(lambda: tab.page.press("[aria-label='bbox_y from']", "Enter"))
    assert answer["hits"] and all(hit["metadata"]["bbox_y"] >= 40 for hit in answer["hits"])
    assert "bbox_y ≥ 40" in tab.page.inner_text("#active")


def test_nothing_found_says_why(tab: Tab) -> None:
    where = [["category", "in", ["lid"]], ["supercategory", "in", ["metal"]]]
    tab.go("/?term=1*text:can&" + "&".join(f"where={quote(json.dumps(one))}" for one in where))
    tab.page.wait_for_selector(".offers")
    said = tab.page.inner_text("#advice")
    assert "Nothing found" in said and tab.ids == []
    # Of the two filters each alone leaves something: all lids, or all cans.
    assert len(re.findall(r"leaves 26 items", said)) == 2, said
    tab.answer(lambda: tab.page.get_by_role("button", name="Remove “supercategory is metal”").click())
    assert set(tab.labels) == {"lid"}


def test_words_to_a_backbone_without_a_text_tower(tab: Tab) -> None:
    tab.answer(lambda: tab.page.select_option("#backbone", "mute"))
    assert "sees pictures only" in tab.page.inner_text("#words-note")
    tab.page.fill("#words", "can")
    tab.page.press("#words", "Enter")
    assert "no text tower" in tab.page.inner_text("#notice")
    tab.answer(lambda: tab.page.click("#notice :text('Ask words')"))
    assert tab.terms == [("+", "can")] and tab.page.input_value("#backbone") == "words"
    tab.go("/?backbone=mute&term=1*text:can")
    assert tab.page.is_visible("#advice :text('Ask words')")


def test_another_column_of_labels(tab: Tab) -> None:
    tab.ask("can")
    answer = tab.answer(lambda: tab.page.select_option("#labels", "supercategory"))
    assert {one["label"] for one in answer["labels"]} <= {"metal", "other"}
    assert set(tab.labels) <= {"metal", "other"}
    assert "by supercategory" in tab.page.inner_text("#nearest-about")
    tab.page.wait_for_selector(".legend :text('metal')")
    tab.answer(tab.page.locator("#nearest-bars button").first.click)
    assert len(set(tab.labels)) == 1


@pytest.mark.parametrize(
    ("address_of", "said"),
    [
        ('/?where=["category","in",5]&where=x&where=[1]&area=[1]&term=x&top=7&term=0*text:a', "first 24 of"),
        ("/?backbone=nobody", "no backbone “nobody” here"),
        ("/?labels=nothing&where=[%22nothing%22,%22in%22,[1]]", "no column 'nothing'"),
        ("/?term=1*item:nothing", "no item 'nothing'"),
        ("/?open=nothing", "no item 'nothing'"),
        ('/?area=["words","tsne",0,0,0.00001,0.00001]', "leaves"),
        ("/?term=1*text:can&term=-1*text:can", "cancel each other"),
    ],
)
def test_addresses_that_say_nonsense(tab: Tab, address_of: str, said: str) -> None:
    tab.go(address_of)
    tab.page.get_by_text(said).first.wait_for()


def test_details_show_the_photograph_with_its_boxes(tab: Tab, world: Layout) -> None:
    lid = an_item(world, "lid")
    tab.go(f"/?term={quote(f'1*item:{lid}')}")
    opener = tab.page.locator("#hits .open").first
    shown = tab.ids[0]
    opener.click()
    tab.page.wait_for_selector("#detail .photo .own.line")
    tab.until("document.querySelector('#detail .photo img').naturalWidth === 160")
    items = Items(world.items)
    row = items.ids.index(shown)
    box = [float(items.column(f"bbox_{one}")[row]) for one in "xywh"]
    drawn = [
        float(tab.page.get_attribute("#detail .own.line", name)) for name in ("x", "y", "width", "height")
    ]
    assert drawn == pytest.approx(box)
    # The box on the screen lies on the item's colour, which is blue: the overlay fits the photograph.
    frame, own = (tab.page.locator(f"#detail {one}").bounding_box() for one in (".photo", ".own.line"))
    assert (own["x"] - frame["x"]) / frame["width"] == pytest.approx(box[0] / SIZE_PX[0], abs=0.01)
    assert (own["y"] - frame["y"]) / frame["height"] == pytest.approx(box[1] / SIZE_PX[1], abs=0.01)
    assert shown in tab.page.inner_text("#detail .facts")
    assert "lid" in tab.page.inner_text("#detail .alike .bars")
    other = tab.page.locator("#detail .other").first
    name = other.get_attribute("aria-label")
    other.press("Enter")
    tab.until("([name]) => name.startsWith(document.querySelector('#detail-title').textContent)", [name])
    tab.page.keyboard.press("Escape")
    tab.until("!document.querySelector('#detail').open")
    opener.click()
    tab.page.wait_for_selector("#detail .photo .own.line")
    tab.page.keyboard.press("Escape")
    tab.until("!document.querySelector('#detail').open && document.activeElement.matches('.open')")
    tab.until("!location.search.includes('open=')")


def test_a_label_is_text_wherever_it_stands(tab: Tab, world: Layout) -> None:
    item = an_item(world, ATTACK)
    tab.go(f"/?term={quote(f'1*text:{ATTACK}')}&where={quote(json.dumps(['category', 'in', [ATTACK]]))}")
    assert set(tab.labels) == {ATTACK} and tab.terms == [("+", ATTACK)]
    assert ATTACK in tab.page.inner_text("#active") and ATTACK in tab.page.inner_text("#facets")
    assert ATTACK in tab.page.inner_text(".legend") and ATTACK in tab.page.inner_text("#nearest")
    tab.go(f"/?open={quote(item)}")
    tab.page.wait_for_selector("#detail .photo .own.line")
    assert tab.page.inner_text("#detail-title") == ATTACK
    assert tab.page.locator("img[src='x']").count() == 0


def test_the_map_selects(tab: Tab, world: Layout) -> None:
    tab.page.wait_for_selector(".legend button")
    found = tab.page.evaluate("fetch('/api/map?backbone=words').then((one) => one.json())")
    box = tab.page.locator("canvas.points").bounding_box()
    tab.page.mouse.move(box["x"] + 2, box["y"] + 2)
    tab.page.mouse.down()
    tab.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 2, steps=4)
    answer = tab.answer(tab.page.mouse.up)
    # What lies in the left half; points within a thousandth of the edge may be either.
    inside = {i for i, x in zip(found["ids"], found["x"], strict=True) if x <= 0.499}
    edge = {i for i, x in zip(found["ids"], found["x"], strict=True) if abs(x - 0.5) < 0.003}
    assert 0 < len(inside) < len(found["ids"])
    assert len(inside) <= answer["n_searched"] <= len(inside | edge)
    assert set(tab.ids) <= inside | edge
    assert f"{answer['n_searched']} items selected on the map" in tab.page.inner_text("#active")
    tab.revisit()
    assert f"{answer['n_searched']} items selected on the map" in tab.page.inner_text("#active")
    tab.answer(lambda: tab.page.get_by_label("Remove the selection on the map").click())
    tab.answer(lambda: tab.page.locator(".legend button", has_text="cup").click())
    assert set(tab.labels) == {"cup"}


def test_the_map_by_keyboard(tab: Tab) -> None:
    tab.page.wait_for_selector(".legend button")
    tab.page.focus(".stage")
    tab.page.keyboard.press("ArrowRight")
    first = tab.page.inner_text(".tip small")
    tab.page.keyboard.press("Space")
    for _ in range(3):
        tab.page.keyboard.press("ArrowRight")
    second = tab.page.inner_text(".tip small")
    assert first != second
    answer = tab.answer(lambda: tab.page.keyboard.press("Space"))
    # The rectangle between the two items, both included.
    found = tab.page.evaluate("fetch('/api/map?backbone=words').then((one) => one.json())")
    places = dict(zip(found["ids"], zip(found["x"], found["y"], strict=True), strict=True))
    (xa, ya), (xb, yb) = places[first], places[second]
    inside = [
        i
        for i, (x, y) in places.items()
        if min(xa, xb) <= x <= max(xa, xb) and min(ya, yb) <= y <= max(ya, yb)
    ]
    assert {first, second} <= set(inside) and answer["n_searched"] == len(inside)
    assert "selected on the map" in tab.page.inner_text("#active")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_selector("#detail[open]")


def test_all_by_keyboard(tab: Tab) -> None:
    press = tab.page.keyboard.press
    press("/")
    tab.page.keyboard.type("can")
    tab.answer(lambda: press("Enter"))
    for _ in range(80):
        press("Tab")
        here, outline = tab.page.evaluate(
            "[document.activeElement.className, getComputedStyle(document.activeElement).outlineStyle]"
        )
        assert outline != "none", f"the focus on {here!r} is not seen"
        if here == "open":
            break
    press("ArrowRight")
    assert tab.page.evaluate("document.activeElement.closest('.card').dataset.id") == tab.ids[1]
    press("Enter")
    tab.page.wait_for_selector("#detail .known button.main")
    press("ArrowRight")
    tab.until("(id) => document.querySelector('#detail .facts td')?.textContent === id", tab.ids[2])
    press("Escape")
    wanted = tab.ids[2]
    tab.until("(id) => document.activeElement.closest('.card')?.dataset.id === id", wanted)
    press("Tab")
    tab.answer(lambda: press("Enter"))
    assert wanted in tab.terms[0][1]
    press("/")
    tab.answer(lambda: press("Backspace"))
    assert tab.terms == []


def test_more_results_and_folding(tab: Tab, world: Layout) -> None:
    tab.ask("can")
    first = tab.ids
    tab.answer(lambda: tab.page.click("#more"))
    assert len(tab.ids) == 60 and tab.ids[:24] == first
    assert tab.page.evaluate("document.activeElement.closest('.card').dataset.id") == tab.ids[24]
    folded = tab.answer(lambda: tab.page.check("#unique"))
    n_folded = sum(len(hit["folded"]) for hit in folded["hits"])
    # Rectangles of one colour are the same picture: seven shades of four colours are left.
    assert len(tab.ids) <= 28 < len(tab.ids) + n_folded
    assert tab.page.locator("#hits .folded:visible").count() > 0
    shown = tab.ids
    tab.revisit()
    assert tab.page.is_checked("#unique") and tab.ids == shown


@pytest.fixture
def axe(browser: Any) -> Any:
    module = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed"
    )
    return module.Axe()


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]
)
def test_everyone_can_use_it(
    browser: Any, address: str, world: Layout, axe: Any, size: tuple[int, int], scheme: str
) -> None:
    """axe-core finds nothing (WCAG A and AA, best practices), and nothing is wider than the screen."""
    tab = Tab(
        browser, address, size=size, color_scheme=scheme, reduced_motion="reduce", has_touch=size == PHONE
    )
    lid = quote(an_item(world, "lid"))
    some, nothing = (quote(json.dumps(["category", "in", given])) for given in (["can", ATTACK], ["none"]))
    paths = [f"/?term=1*text:can&term=-0.5*item:{lid}&where={some}", f"/?open={lid}"]
    if (size, scheme) == (DESKTOP, "light"):
        paths += ["/", f"/?where={nothing}", "/?backbone=mute&term=1*text:can"]
    for path in paths:
        tab.go(path)
        tab.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
        tab.settled()
        found = axe.run(tab.page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        assert len(found.response["passes"]) > 20
        assert tab.page.evaluate("document.documentElement.scrollWidth") == size[0], path
    tab.context.close()


def test_the_measure_of_use_can_fail(tab: Tab, axe: Any) -> None:
    tab.page.evaluate("document.querySelector('label[for=words]').remove()")
    tab.page.evaluate("document.querySelector('#words').removeAttribute('placeholder')")
    tab.page.evaluate("document.querySelector('#how').style.setProperty('color', '#999')")
    found = {one["id"] for one in axe.run(tab.page).response["violations"]}
    assert {"label", "color-contrast"} <= found


def test_on_a_phone(browser: Any, address: str) -> None:
    tab = Tab(browser, address, size=PHONE, has_touch=True)
    assert not tab.page.evaluate(
        "document.querySelector('#filters').open || document.querySelector('#map').open"
    )
    assert not any("/api/map" in url for url in tab.asked), "the map waits until it is asked for"
    tab.ask("can")
    tab.page.locator("#map > summary").tap()
    tab.page.wait_for_selector(".legend button")
    # A tap says what a point is, another one opens it.
    tab.page.locator(".stage").scroll_into_view_if_needed()
    box = tab.page.locator("canvas.points").bounding_box()
    found = tab.page.evaluate("fetch('/api/map?backbone=words').then((one) => one.json())")
    at = [
        box[side] + (0.03 + 0.94 * found[axis][0]) * box["width"] for side, axis in (("x", "x"), ("y", "y"))
    ]
    tab.page.touchscreen.tap(*at)
    assert tab.page.locator(".tip b").inner_text() in (*COLOURS,)
    tab.page.touchscreen.tap(*at)
    tab.page.wait_for_selector("#detail[open]")
    tab.page.click("#detail .close")
    for width in (360, 390, 768, 1024, 1600):
        tab.page.set_viewport_size({"width": width, "height": 844})
        assert tab.page.evaluate("document.documentElement.scrollWidth") == width
    tab.context.close()


def test_a_server_that_went_away_is_told(tab: Tab) -> None:
    tab.context.route("**/api/search", lambda route: route.abort())
    tab.page.fill("#words", "can")
    tab.page.press("#words", "Enter")
    tab.page.wait_for_selector("#advice :text('does not answer')")
    tab.context.unroute("**/api/search")
    tab.answer(lambda: tab.page.click("#advice :text('Try again')"))
    assert tab.ids
    tab.said = [text for text in tab.said if "ERR_FAILED" not in text]


def test_a_model_that_loads_is_waited_for(tab: Tab) -> None:
    loading = {"error": {"code": "model_loading", "message": "words is still being loaded"}}
    n_asked = []

    def answer(route: Any) -> None:
        n_asked.append(1)
        if len(n_asked) > 1:
            route.continue_()
        else:
            told = {"status": 409, "headers": {"Retry-After": "3"}, "content_type": "application/json"}
            route.fulfill(body=json.dumps(loading), **told)

    tab.context.route("**/api/search", answer)
    tab.page.fill("#words", "never stored")
    tab.page.press("#words", "Enter")
    tab.page.wait_for_selector("#advice :text('still loading')")
    tab.page.wait_for_selector("#hits .card:not(.skeleton)")
    assert len(n_asked) == 2
