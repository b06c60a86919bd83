"""What a person might write under a crop: not always what it is called, not always all that is seen."""

from collections.abc import Sequence

import numpy as np

from pipeline.data.sample.categories import Category

# People rarely name what they photograph as a label does; zero-shot must cope with that.
P_NAME, P_CALLS = 0.03, 0.8
# What lies beside it is mentioned more often, and by its plain name.
P_BESIDE = 0.35

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
_BESIDE = ("next to", "beside", "not far from", "and")
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
    neighbours: Sequence[str],
) -> str:
    """One line about one object.

    Args:
        category: what it is.
        traits: `colour` and `material`, and `state` where there is one to tell.
        ground: a key of `pipeline.data.sample.ground.GROUNDS`.
        length_px: its length in the picture, which tells small from large.
        neighbours: names of the other kinds of litter in the scene.
    """
    draw = rng.random(7)
    if draw[0] < P_NAME:
        noun = category.name
    else:
        options = category.calls if draw[0] < P_NAME + P_CALLS else category.vague
        noun = options[int(rng.integers(len(options)))]
    words = []
    if draw[1] < 0.5 and not 60 < length_px < 150:
        words.append("small" if length_px <= 60 else "large")
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
    if neighbours and draw[6] < P_BESIDE:
        beside = neighbours[int(rng.integers(len(neighbours)))]
        text += f" {_BESIDE[int(rng.integers(len(_BESIDE)))]} a {beside}"
    return text
