"""What goes over the wire: requests, strictly typed and bounded, and answers. This is no stage."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat

from deponij.pipeline.retrieval.filters import Op
from deponij.services.serve.limits import Limits
from deponij.store.texts import is_storable

LIMITS = Limits()
_MAX_INT = 2**63 - 1


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("a text must be valid Unicode without NUL")
    return text


def _spoken(text: str) -> str:
    if not text.strip():
        raise ValueError("a text must hold more than blanks")
    return text


def _not_zero(weight: float) -> float:
    if weight == 0:
        raise ValueError("a term of weight 0 says nothing; leave it out")
    return weight


Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[Text, Field(max_length=200)]
ItemId = Annotated[Text, Field(min_length=1, max_length=LIMITS.id_chars)]
Words = Annotated[Text, Field(min_length=1, max_length=LIMITS.text_chars), AfterValidator(_spoken)]
Weight = Annotated[FiniteFloat, Field(ge=-100, le=100), AfterValidator(_not_zero)]
Integer = Annotated[int, Field(ge=-_MAX_INT, le=_MAX_INT)]
Plain = Annotated[Text, Field(max_length=LIMITS.id_chars)] | bool | Integer | FiniteFloat
Top = Annotated[int, Field(ge=1, le=LIMITS.top)]


class Request(BaseModel):
    """Base of what is sent: no unknown fields, no conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Term(Request):
    """One part of a query."""

    weight: Weight = 1.0


class TextTerm(Term):
    """Words."""

    kind: Literal["text"]
    value: Words


class ItemTerm(Term):
    """An item by its id."""

    kind: Literal["item"]
    value: ItemId


class PictureTerm(Term):
    """An encoded picture as Base64, or a data URL of it. name: for messages."""

    kind: Literal["picture"]
    value: Annotated[str, Field(min_length=1)]
    name: Name = "the picture"


AnyTerm = Annotated[TextTerm | ItemTerm | PictureTerm, Field(discriminator="kind")]


class Filter(Request):
    """A column compared with a value; a list for `in`, `not in` and `between`, nothing for `is null`."""

    column: Name
    op: Op
    value: Plain | Annotated[list[Plain], Field(max_length=LIMITS.values)] | None = None


def _few_values(filters: list[Filter]) -> list[Filter]:
    n_values = sum(len(one.value) for one in filters if isinstance(one.value, list))
    if n_values > LIMITS.values:
        raise ValueError(f"all filters together have at most {LIMITS.values:,} values, got {n_values:,}")
    return filters


class Query(Request):
    """What is asked. Without terms: the items that pass the filters, in their own order.

    Attributes:
        backbone: whose index; null for the first.
        top: hits wanted.
        unique: fold near-duplicates.
        leave_out_named: the items that are terms are no hits.
        labels: column of the labels; null for the first.
    """

    backbone: Name | None = None
    terms: Annotated[list[AnyTerm], Field(max_length=LIMITS.terms)] = []
    top: Top = 24
    filters: Annotated[list[Filter], Field(max_length=LIMITS.filters), AfterValidator(_few_values)] = []
    unique: bool = False
    leave_out_named: bool = True
    labels: Name | None = None


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True)


class Problem(Answer):
    """Why there is no answer: a word for programs, a sentence for people."""

    code: str
    message: str


class ErrorAnswer(Answer):
    """All errors look like this."""

    error: Problem


class PictureSize(Answer):
    """Of an item's picture."""

    width_px: int | None
    height_px: int | None


class KnownItem(Answer):
    """What is said of an item wherever it is."""

    item_id: str
    key: str
    label: str | None
    metadata: dict[str, Any]


class HitAnswer(KnownItem, PictureSize):
    """One item found.

    Attributes:
        score: cosine; null where nothing was compared.
        folded: ids of its near-duplicates.
    """

    score: float | None
    folded: list[str]


class LabelShare(Answer):
    """A label among the nearest items. share: by softmax of cosine / 0.07; n: of these items."""

    label: str
    share: float
    n: int


class QueryFacts(Answer):
    """stored_text: all words of the query were stored vectors."""

    stored_text: bool


class SearchAnswer(Answer):
    """Hits, best first. n_searched: items that pass the filters. labels: what the nearest of them are."""

    backbone: str
    n_searched: int
    took_ms: float
    query: QueryFacts
    hits: list[HitAnswer]
    labels: list[LabelShare]


Status = Literal["loading", "ready", "failed"]


class IndexHealth(Answer):
    """Whether an index's model is loaded. Items and stored words can be asked for meanwhile."""

    backbone: str
    status: Status
    message: str


class Health(Answer):
    """status: of the server; a model that is missing does not make it fail."""

    status: Literal["ok", "loading", "failed"]
    indexes: list[IndexHealth]
    uptime_s: float


class BackboneFacts(Answer):
    """One index; `input_px` is (height, width) of what its backbone is given of a picture. A toy learnt from drawn pictures
    only, and these are others.
    """

    name: str
    is_toy: bool
    family_has_text: bool
    n: int
    dim: int
    kind: str
    fingerprint: str
    input_px: tuple[int, int] | None
    has_map: bool
    status: Status
    message: str


ColumnType = Literal["text", "number", "bool", "list", "date"]


class Column(Answer):
    """A column to filter by. values: the most frequent ones with their counts, where there are not too many."""

    name: str
    type: ColumnType
    operators: list[str]
    values: list[tuple[str | bool | int | float, int]] | None
    n_values: int
    min: float | str | None
    max: float | str | None
    n_null: int


class About(Answer):
    """What this server holds."""

    version: str
    title: str
    backbones: list[BackboneFacts]
    default_backbone: str
    columns: list[Column]
    label_columns: list[str]
    has_photographs: bool
    items: int
    limits: Limits
    examples: list[str]


Box = tuple[float, float, float, float]


class Neighbour(Answer):
    """Another item of the same photograph."""

    item_id: str
    label: str | None
    box: Box | None


class Photograph(Answer):
    """What an item was cut from. box: [x, y, w, h] in its pixels; null where the item is all of it."""

    image_id: str
    width_px: int
    height_px: int
    box: Box | None
    items: list[Neighbour]


class ItemAnswer(KnownItem):
    """One item."""

    picture: PictureSize
    photograph: Photograph | None


class MapAnswer(Answer):
    """Places of items in a plane, within 0..1 and y downwards. labels: each item's class; null where it has none."""

    backbone: str
    layout: str
    layouts: list[str]
    ids: list[str]
    x: list[float]
    y: list[float]
    labels: list[int | None]
    classes: list[str]
    n_items: int
    n_shown: int
