"""How decoders are chosen and trained: the section `decoders` of a profile."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, JsonValue, field_validator

from deponij.pipeline.training.params import TrainingParams
from deponij.project.frame.settings import Section, Slug

Names = TypeVar("Names", bound=Sequence[str] | None)
PARTS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")
# Of decoders on a few hundred pictures; a profile says what it wants otherwise.
USUAL: dict[str, JsonValue] = {"epochs": 20, "batch_size": 4, "lr": 2e-3, "weight_decay": 1e-4}


def _else_as_usual(given: object) -> object:
    return USUAL | given if isinstance(given, dict) else given


def each_once(names: Names) -> Names:
    """What is counted, learned or answered for each name, and so may be named once.

    Raises:
        ValueError: one is named again.
    """
    if names is not None and (twice := sorted({one for one in names if list(names).count(one) > 1})):
        raise ValueError(f"{', '.join(twice)} must be named once only")
    return names


class Method(Section):
    """One way to segment.

    Attributes:
        decoder: of the registry; by default the name that the method stands under.
        arguments: of its constructor, where they are not the defaults.
        words: what class vectors come from (`names`, `descriptions`, a set of templates, `learned`); those of the whole
            section by default.
        training: what is otherwise than in the section's training.
    """

    decoder: str | None = None
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    words: list[str] | None = None
    training: dict[str, JsonValue] = Field(default_factory=dict)

    _each_once = field_validator("words")(each_once)


class DecodersParams(Section):
    """What learns to segment from stored maps, and how.

    Attributes:
        methods: name -> method.
        words: for backbones that have words; others learn their class vectors.
        window_px: sides of random windows to learn from, multiples of the coarsest stride; None for whole pictures.
        learn_from: parts; with `val` among them nothing is chosen on it, and the last weights are kept.
        loss: `cross_entropy`, or `boundary` (more weight near the borders of classes).
        class_weights: power of 1 / share of the pixels by which a class counts in the loss: 0 for alike, 1 for each class
            as much as any other. What is rare is then found more often, and seen where it is not.
        judged: parts that are answered when all is learned; the others have no figures.
        both_ways: answer by the mean of the picture and the mirrored one, where that is stored.
        training: how long, how fast, with what optimizer; what is not named is as usual.
    """

    methods: dict[Slug, Method] = Field(
        default={"bilinear": Method(), "linear": Method(), "fpn": Method()}, min_length=1
    )
    words: list[str] = Field(default=["names"], min_length=1)
    window_px: tuple[int, int] | None = None
    learn_from: tuple[Literal["train", "val"], ...] = Field(default=("train",), min_length=1)
    loss: Literal["cross_entropy", "boundary"] = "cross_entropy"
    class_weights: float = Field(default=0.0, ge=0, le=1)
    judged: tuple[Literal["train", "val", "test"], ...] = Field(default=PARTS, min_length=1)
    both_ways: bool = False
    training: Annotated[TrainingParams, BeforeValidator(_else_as_usual)] = TrainingParams.model_validate(
        USUAL
    )

    _each_once = field_validator("words", "learn_from", "judged")(each_once)
