"""How many spoilt pictures `deponij.pipeline.advice.quality` finds, and how many sound ones it flags.

    .venv/bin/python benchmarks/quality.py [N]

Of real photographs (CIFAR-10 and CamVid, in DEPONIJ_SHARED) one in twenty is spoilt on purpose, in each way in turn: the
rest is what a data set usually is. `sound` are those of the others that are flagged. docs/next.md has the table.
"""

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance, ImageFilter

from deponij.pipeline.advice.quality import FAULTS, Look, faults, look
from deponij.pipeline.pictures import decode

SHARED = Path(os.environ.get("DEPONIJ_SHARED", "../shared")) / "data"
EVERY = 20
Spoil = Callable[[Image.Image], Image.Image]


def cifar10(n: int) -> Iterator[Image.Image]:
    """The first n test pictures, 32 x 32."""
    table = pq.read_table(SHARED / "cifar10/plain_text/test-00000-of-00001.parquet", columns=["img"])
    for one in table.slice(0, n)["img"].to_pylist():
        yield decode(one["bytes"])


def camvid(n: int) -> Iterator[Image.Image]:
    """The first n frames, 480 x 360."""
    paths = [
        path for part in ("train", "val", "test") for path in sorted((SHARED / "camvid" / part).iterdir())
    ]
    for path in paths[:n]:
        yield decode(path.read_bytes())


def again(image: Image.Image) -> Image.Image:
    """As it comes back from a JPEG file, with the noise that a camera adds after its lens has blurred."""
    noise = np.random.default_rng(0).normal(0, 2, (image.height, image.width, 3))
    noisy = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    file = io.BytesIO()
    noisy.save(file, "JPEG", quality=90)
    return Image.open(file).convert("RGB")


def blur(share: float) -> Spoil:
    """A Gaussian whose sigma is this share of the longer side."""
    return lambda image: again(image.filter(ImageFilter.GaussianBlur(share * max(image.size))))


def moved(share: float) -> Spoil:
    """Moved sideways by this share of the longer side."""

    def spoil(image: Image.Image) -> Image.Image:
        pixels, n = np.asarray(image, np.float32), max(1, round(share * max(image.size)))
        shown = np.mean([np.roll(pixels, step, axis=1) for step in range(n + 1)], axis=0)
        return again(Image.fromarray(shown.astype(np.uint8)))

    return spoil


def darker(factor: float) -> Spoil:
    """Each value times a factor."""
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def smaller(factor: int) -> Spoil:
    """A fraction of the sides."""
    return lambda image: image.resize((max(1, image.width // factor), max(1, image.height // factor)))


def strip(image: Image.Image) -> Image.Image:
    """A fifth of the height."""
    return image.crop((0, 0, image.width, max(1, image.height // 5)))


# What is meant by blurred depends on the size: of 32 pixels, a thirty-second of the side is one.
BLURRED = {
    "CIFAR-10": {"sigma 1 px": blur(1 / 32), "sigma 1.5 px": blur(1.5 / 32), "moved by 4 px": moved(1 / 8)},
    "CamVid": {"sigma 2 px": blur(2 / 480), "sigma 4 px": blur(4 / 480), "moved by 15 px": moved(1 / 32)},
}
SPOILT = {
    "a tenth of the light": (("dark", "flat"), darker(0.1)),
    "a fifth of the light": (("dark", "flat"), darker(0.2)),
    "one colour": (("flat",), lambda image: Image.new("RGB", image.size, (90, 120, 60))),
    "an eighth of the size": (("tiny",), smaller(8)),
    "a strip of a fifth of the height": (("odd-shape",), strip),
}


def main() -> None:
    """Print a table for each set."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for name, pictures in (("CIFAR-10", cifar10), ("CamVid", camvid)):
        images = list(pictures(n))
        looks = [look(image) for image in images]
        clean = faults(looks)
        said = ", ".join(f"{fault} {len(clean[fault])}" for fault in FAULTS)
        n_flagged = len({row for rows in clean.values() for row in rows})
        print(
            f"{name}, {len(images):,} as they are: flagged {n_flagged} ({n_flagged / len(images):.1%}): {said}"
        )
        blurred = {what: (("blurred",), spoil) for what, spoil in BLURRED[name].items()}
        for what, (kinds, spoil) in {**blurred, **SPOILT}.items():
            mixed: list[Look] = [
                look(spoil(image)) if row % EVERY == 0 else looks[row] for row, image in enumerate(images)
            ]
            found = faults(mixed)
            spoilt = set(range(0, len(images), EVERY))
            right = len(spoilt & {row for kind in kinds for row in found[kind]})  # type: ignore[index]
            wrong = len({row for rows in found.values() for row in rows} - spoilt)
            print(f"  {what:34} found {right / len(spoilt):6.1%}   sound flagged {wrong / len(images):6.2%}")


if __name__ == "__main__":
    main()
