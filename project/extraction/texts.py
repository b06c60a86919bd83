"""Texts into the depot, and their view: what the stages that encode words share. This is no stage.

Text vectors are rows of their own kind in the depot, keyed by the text. Their view has the columns `text` (as encoded),
`group` (the class it speaks of) and `template`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from deponij.pipeline.backbones import Description, describe
from deponij.pipeline.templates import fill, templates
from deponij.project.extraction import identities
from deponij.project.extraction.devices import load_backbone
from deponij.project.frame.console import bar
from deponij.project.frame.device import pick_device
from deponij.project.frame.settings import RunOptions
from deponij.project.frame.text_columns import CAPTION_COLUMN
from deponij.store.depot import FeatureStore
from deponij.store.errors import BackboneError, DataError
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.keys import key_of_text
from deponij.store.texts import is_storable
from deponij.store.view import write_view

BATCH = 64


class TextResult(BaseModel):
    """What was encoded."""

    backbone: str
    fingerprint: str
    view: str
    n_texts: int
    n_groups: int
    n_captions: int
    n_computed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """One text, the class it speaks of and the template it was made with; or a caption, which has neither.

    Attributes:
        caption_column: the items' column that a caption stands in; empty for a text of a class.
    """

    text: str
    group: str
    template: str
    caption_column: str = ""


def prompts_of(classes: Sequence[str], wanted_templates: Sequence[str]) -> list[Prompt]:
    """Every one of these classes under every template."""
    forms = templates(wanted_templates)
    return [Prompt(fill(form, name), name, form) for name in classes for form in forms]


def encode(
    prompts: Sequence[Prompt],
    *,
    backbone: str,
    precision: str,
    out: Path,
    options: RunOptions,
    name: str | None = None,
) -> TextResult:
    """Bring every text's vector into the depot and write their view.

    Raises:
        BackboneError: no text tower, its weights are absent, or a text has no finite vector; the others are
            stored then.
        DataError: a text cannot be stored.
    """
    start = time.perf_counter()
    strange = [p for p in prompts if not all(map(is_storable, (p.text, p.group, p.template)))]
    if strange:
        raise DataError(f"texts must be valid Unicode without NUL, got {strange[0].text!r}")
    description = describe(backbone)
    identity = identities.of_texts(description, precision)
    store = FeatureStore(options.depot, create=True)
    store.sweep()
    text_of = {key_of_text(prompt.text): prompt.text for prompt in prompts}
    missing = store.missing(identity, text_of)
    if missing:
        _compute(store, identity, [(key, text_of[key]) for key in missing], backbone, precision, options)
    keys = [key_of_text(prompt.text) for prompt in prompts]
    arrays = store.read(keys, identity, ["embedding", "checksums"]) if keys else _none(description)
    write_view(
        out,
        identity=identity,
        backbone=name or description.name,
        ids=_ids(prompts),
        keys=keys,
        checksums=arrays.pop("checksums"),
        arrays=arrays,
        columns=_columns(prompts),
    )
    classes = [prompt for prompt in prompts if not prompt.caption_column]
    return TextResult(
        backbone=name or description.name,
        fingerprint=identity.fingerprint,
        view=str(out),
        n_texts=len(prompts),
        n_groups=len({prompt.group for prompt in classes}),
        n_captions=len(prompts) - len(classes),
        n_computed=len(missing),
        seconds=round(time.perf_counter() - start, 3),
    )


def _none(description: Description) -> dict[str, Array]:
    """What there is of no texts: then words are encoded when they are asked for."""
    width = description.text_dim or 0
    return {"embedding": np.empty((0, width), np.float32), "checksums": np.empty(0, np.uint32)}


def _compute(
    store: FeatureStore,
    identity: Identity,
    texts: list[tuple[str, str]],
    backbone: str,
    precision: str,
    options: RunOptions,
) -> None:
    device = pick_device(options.device)
    model = load_backbone(backbone, device, precision, options.n_threads)
    facts = identities.provenance(backbone, device, options.n_threads, BATCH, "texts")
    failed: list[str] = []
    with bar(f"texts {backbone}", len(texts), "texts") as advance, store.writer(identity, facts) as writer:
        for begin in range(0, len(texts), BATCH):
            part = texts[begin : begin + BATCH]
            vectors = model.embed_texts([text for _, text in part]).float().cpu().numpy()
            finite = np.isfinite(vectors).all(axis=1)
            keys = [key for (key, _), is_finite in zip(part, finite, strict=True) if is_finite]
            writer.add(keys, {"embedding": vectors[finite].astype(np.float32)})
            failed += [text for (_, text), is_finite in zip(part, finite, strict=True) if not is_finite]
            advance(len(part))
    if failed:
        mend = "bf16 or fp32" if precision == "fp16" else "another backbone"
        raise BackboneError(
            f"{backbone}: the vectors of {len(failed)} of {len(texts)} texts are not finite when computed in "
            f"{precision}, the first: {failed[0]!r}; the others are stored. Take {mend}"
        )


def _columns(prompts: Sequence[Prompt]) -> dict[str, list[str]]:
    columns = {
        "text": [prompt.text for prompt in prompts],
        "group": [prompt.group for prompt in prompts],
        "template": [prompt.template for prompt in prompts],
    }
    # Without captions the view stays as it always was.
    if any(prompt.caption_column for prompt in prompts):
        columns[CAPTION_COLUMN] = [prompt.caption_column for prompt in prompts]
    return columns


def _ids(prompts: Sequence[Prompt]) -> list[str]:
    seen: dict[str, int] = {}
    ids = []
    for prompt in prompts:
        if prompt.caption_column:
            # Other ids end in # and a number, so that no class can have this one.
            ids.append(f"{prompt.caption_column}={key_of_text(prompt.text)}")
            continue
        number = seen[prompt.group] = seen.get(prompt.group, -1) + 1
        ids.append(f"{prompt.group}#{number}")
    return ids


def summary(result: TextResult) -> str:
    """One line for a person."""
    captions = f" and {result.n_captions} captions" if result.n_captions else ""
    return (
        f"{result.backbone}: {result.n_texts - result.n_captions} texts of {result.n_groups} classes{captions}, "
        f"{result.n_computed} computed "
        f"({result.seconds:.1f} s) -> {result.view}"
    )
