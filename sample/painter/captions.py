"""What a person might write under a crop: not always what it is called, not always all that is seen."""

import numpy as np

from deponij.sample.painter.categories import Category

# Shares of captions with the everyday name and with another fitting name; the others are vague. Captions
# seldom use a surveyor's labels, so zero-shot has to make do with the words that both have in common.
P_PLAIN, P_CALLS = 0.02, 0.82

_GROUND = {
    "grass": ("in the grass", "on a lawn", "between green blades"),
    "sand": ("on sand", "on the beach", "in the dunes"),
    "asphalt": ("on asphalt", "on the road", "in a car park"),
    "paving": ("on paving stones", "on the pavement", "on a tiled square"),
    "leaves": ("among dead leaves", "in the woods", "on fallen leaves"),
    "water": ("floating in water", "in a pond", "on the water"),
    "gravel": ("on gravel", "among stones", "on a gravel path"),
    "concrete": ("on concrete", "on a grey floor", "by a concrete wall"),
    "planks": ("on wooden boards", "on a pier", "on a deck"),
    "soil": ("on bare earth", "in the mud", "in a flower bed"),
}
_OPENINGS = (
    "a photo of {}",
    "a photo of {}",
    "a picture of {}",
    "close-up of {}",
    "{}",
    "{}",
    "{}",
    "{} left behind",
    "found {}",
)


def caption(
    rng: np.random.Generator,
    category: Category,
    traits: dict[str, str],
    *,
    ground: str,
    length_px: float,
) -> str:
    """One line about one object.

    Args:
        category: what it is.
        traits: `colour` and `material`, and `state` where there is one to tell.
        ground: a key of `deponij.sample.painter.ground.GROUNDS`.
        length_px: its length in the picture, which tells small from large.
    """
    draw = rng.random(6)
    if draw[0] < P_PLAIN:
        noun = category.plain
    else:
        options = category.calls if draw[0] < P_PLAIN + P_CALLS else category.vague
        noun = options[int(rng.integers(len(options)))]
    words = []
    if draw[1] < 0.22:
        words.append("small" if length_px < 50 else "large" if length_px > 150 else "ordinary")
    if draw[2] < 0.6 and "state" in traits:
        words.append(traits["state"])
    if draw[3] < 0.55:
        words.append(traits["colour"])
    if draw[4] < 0.25 and traits["material"] not in noun:
        words.append(traits["material"])
    phrase = " ".join([*words, noun])
    article = "an" if phrase[0] in "aeiou" else "a"
    text = _OPENINGS[int(rng.integers(len(_OPENINGS)))].format(f"{article} {phrase}")
    if draw[5] < 0.45:
        places = _GROUND[ground]
        text += " " + places[int(rng.integers(len(places)))]
    return text
