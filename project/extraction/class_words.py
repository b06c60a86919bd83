"""What classes of pixels are said to be, in words of several kinds: the texts whose vectors decoders compare with. No stage.

Kinds of words: `names`, the classes' names as people say them; `descriptions`, what the scenes' files say of them (the name
where they say nothing); a set of templates (`deponij.pipeline.templates`) or one template, filled with the names.
"""

from collections.abc import Sequence

from deponij.pipeline.templates import TEMPLATE_SETS, fill, templates
from deponij.project.extraction.texts import Prompt
from deponij.store.errors import UsageError
from deponij.store.label_maps import SceneClass

NAMES, DESCRIPTIONS = "names", "descriptions"


def prompts_of_classes(classes: Sequence[SceneClass], words: Sequence[str]) -> list[Prompt]:
    """A text for each class in each kind of words, of a set one for each template; `template` is the kind.

    Raises:
        UsageError: no such kind of words.
    """
    return [
        Prompt(text, one.name, kind)
        for kind in dict.fromkeys(words)
        for one in classes
        for text in _texts(one, kind)
    ]


def _texts(one: SceneClass, kind: str) -> list[str]:
    if kind == NAMES:
        return [one.spoken]
    if kind == DESCRIPTIONS:
        return [one.description or one.spoken]
    try:
        return [fill(form, one.spoken) for form in templates([kind])]
    except UsageError as error:
        raise UsageError(
            f"words of classes are {NAMES}, {DESCRIPTIONS}, a set of templates ({', '.join(TEMPLATE_SETS)}) or a text "
            f"with one {{}}, got {kind!r}"
        ) from error
