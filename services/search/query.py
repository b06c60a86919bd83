"""Asking an index: parts of a query to one vector, the nearest items, and how they are handed out. This is no stage."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from deponij.pipeline.likeness.pairs import Thresholds
from deponij.pipeline.retrieval.filters import Condition
from deponij.pipeline.unit_vectors import blend
from deponij.project.in_force import require_items
from deponij.project.indexes import Hit, Index
from deponij.project.record_files import check_ending, write_records
from deponij.services.search.vectors import KINDS, Kind, QueryEncoder, Term
from deponij.store.atomic import write_bytes
from deponij.store.errors import UsageError
from deponij.store.items import Items

MAX_TOP = 100_000
_FORM = f"[WEIGHT*][{'|'.join(KINDS)}:]VALUE"
_LIKE_A_KIND = re.compile(r"[A-Za-z_-]+:\S")
_LIKE_A_WEIGHT = re.compile(r"\S*\*")
_PART = re.compile(r"(?:(?P<weight>\d+(?:\.\d+)?)\*)?(?:(?P<kind>[a-z]+):)?(?P<value>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        terms: at least one.
        top: items wanted.
        where, conditions: which count.
        unique: fold near-duplicates; None: do not.
        others_only: leave out the items that the question itself names.
    """

    terms: tuple[Term, ...]
    top: int = 10
    where: str | None = None
    conditions: tuple[Condition, ...] = ()
    unique: Thresholds | None = None
    others_only: bool = False


def parse_term(text: str, sign: float = 1.0) -> Term:
    """`[WEIGHT*][KIND:]VALUE`; without a kind it is words: `metal`, `0.5*text:made of metal`, `item:a.jpg#0`.

    What looks like a kind or a weight and is none would be a wrong answer as words, so it is refused.

    Raises:
        UsageError: nothing is named, the weight is zero or none, the kind is unknown, or a file stands for words.
    """
    match = _PART.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"a part of a query is {_FORM}, got {text!r}")
    weight, kind, value = sign * float(match["weight"] or 1), match["kind"], match["value"]
    known: Kind = next((one for one in KINDS if one == kind), "text")
    if known != kind:
        value = value if kind is None else f"{kind}:{value}"
        _check_words(value, text)
    if weight == 0:
        raise UsageError("a part of a query with weight 0 says nothing; leave it out")
    return Term(known, value, weight)


def _check_words(words: str, given: str) -> None:
    """`a sign: stop` is words with a colon in them; `itme:a.jpg` and `x*metal` are mistakes."""
    from deponij.pipeline.data.endings import has_picture_ending

    if _LIKE_A_KIND.match(words) or _LIKE_A_WEIGHT.match(words):
        raise UsageError(
            f"a part of a query is {_FORM}, got {given!r}; weights are positive numbers (--minus subtracts), and words "
            f"that look like it are written text:{words}"
        )
    if has_picture_ending(words) and Path(words).is_file():
        raise UsageError(f"{words} is a file: write image:{words}, or text:{words} for these words")


def ask(index: Index, question: Question, encoder: QueryEncoder) -> list[Hit]:
    """The nearest items, best first.

    Raises:
        UsageError: no terms, too many items wanted, terms that cancel each other, or a filter that cannot be used.
        DeponijError: a term cannot be made a vector.
    """
    if not question.terms:
        raise UsageError("ask for something: a picture, a text, an item or a vector")
    if not 1 <= question.top <= MAX_TOP:
        raise UsageError(f"--top is 1 to {MAX_TOP:,}, got {question.top}")
    # A wrong filter is told before a model is loaded for the rest of the question.
    index.count(question.where, question.conditions)
    vectors = np.stack([np.asarray(encoder.vector(term), np.float64) for term in question.terms])
    named = [term.value for term in question.terms if term.kind == "item"] if question.others_only else []
    return index.search(
        blend(vectors, [term.weight for term in question.terms]),
        question.top,
        where=question.where,
        conditions=question.conditions,
        unique=question.unique,
        leave_out=list(dict.fromkeys(named)),
    )


def write_hits(path: Path, answers: Mapping[str, Sequence[Hit]]) -> None:
    """Hits, as `--json` gives them, as a Parquet table; of several questions each in a column `query`.

    Args:
        answers: by what was asked.

    Raises:
        UsageError: another ending.
        StoreError: it cannot be written.
    """
    kinds = {"item_id": str, "key": str, "score": float, "folded": pa.list_(pa.string())}
    asked = [({"query": query} if len(answers) > 1 else {}, hits) for query, hits in answers.items()]
    write_records(
        path, [{**of, **hit.to_json(with_folded=True)} for of, hits in asked for hit in hits], kinds
    )


def write_sheet(path: Path, hits: Sequence[Hit], items: Items, title: str, source: str) -> None:
    """Hits as a page of pictures (PNG), best first.

    Raises:
        UsageError: another ending.
        StoreError: it cannot be written.
    """
    from deponij.pipeline.reports.sheets import FAINT, INK, Block, Tile, draw_sheet
    from deponij.project.thumbnails import images_of

    check_ending(path, "--sheet", ".png")
    require_items(items, [hit.item_id for hit in hits], [hit.key for hit in hits], "what was found")
    images = images_of(items, [hit.item_id for hit in hits])
    blocks = []
    for hit in hits:
        label = next((str(hit.metadata[n]) for n in ("label", "category") if hit.metadata.get(n)), "")
        lines = [(f"{hit.score:.3f}", INK), *([(label, INK)] if label else [])]
        lines += [(f"and {len(hit.folded)} like it", FAINT)] if hit.folded else []
        blocks.append(Block((Tile(images.get(hit.item_id), tuple(lines), hit.item_id),)))
    write_bytes(path, draw_sheet(blocks, title, source, "Nothing was found."))
