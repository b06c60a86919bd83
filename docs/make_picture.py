"""The picture of the page in README.md: two pieces of a real page, side by side. Needs chromium.

python docs/make_picture.py runs/sample/report/page.html
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

OUT = Path(__file__).parent / "page.png"
# In CSS px: of one piece.
WIDTH, HEIGHT = 760, 840


def piece(page: Page, heading: str, above: int = 24) -> Image.Image:
    """What stands from a heading on."""
    place = page.locator("h1, h2, h3, h4, h5", has_text=heading).first
    top = place.evaluate("e => e.getBoundingClientRect().top + scrollY") - above
    area = {"x": 0, "y": max(top, 0), "width": WIDTH, "height": HEIGHT}
    return Image.open(io.BytesIO(page.screenshot(full_page=True, clip=area)))


def main(report: Path) -> None:
    """Photograph a page."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(report.resolve().as_uri())
        page.emulate_media(reduced_motion="reduce")
        # Pictures come when they are scrolled to.
        for top in range(0, page.evaluate("document.documentElement.scrollHeight"), HEIGHT // 2):
            page.evaluate(f"scrollTo(0, {top})")
            page.wait_for_timeout(30)
        pieces = [piece(page, "The answer"), piece(page, "Mistakes worth looking at")]
        browser.close()
    both = Image.new("RGB", (2 * WIDTH + 8, HEIGHT), (190, 190, 190))
    for number, one in enumerate(pieces):
        both.paste(one, (number * (WIDTH + 8), 0))
    both.quantize(128, dither=Image.Dither.NONE).save(OUT, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
