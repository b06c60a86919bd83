"""Stage `extract_text`: class names, templates or captions in, text vectors out.

    python -m deponij.stages.extract_text

Text vectors are rows of their own kind in the depot, keyed by the text. Their view has the columns
`text` (as encoded), `group` (the class it speaks of) and `template`. Where there are captions of items, these stand
behind the texts of classes, each different one once, with empty `group` and `template`; a column `caption_column` then
names the items' column that they come from (empty for texts of classes).
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from deponij.pipeline.backbones import Description, describe
from deponij.pipeline.templates import fill, templates
from deponij.project.extraction import identities
from deponij.project.extraction.devices import load_backbone, pick_device
from deponij.project.frame.console import bar, say
from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import BackboneParams, RunOptions, Section, Slug
from deponij.project.learning.class_texts import CAPTION_COLUMN
from deponij.store.depot import FeatureStore
from deponij.store.errors import BackboneError, DataError, UsageError
from deponij.store.hdf5 import Array
from deponij.store.identity import Identity
from deponij.store.items import Items
from deponij.store.keys import key_of_text
from deponij.store.texts import is_storable
from deponij.store.view import write_view

BATCH = 64


class TextParams(Section):
    """How class names become texts.

    Attributes:
        templates: sets (`name`, `photo`, `simple`, `imagenet`), files, or texts with one `{}`.
        captions: column of the items whose texts are encoded too, as they are; None for none.
        precision: of computing.
    """

    templates: tuple[str, ...] = ("name", "photo")
    captions: str | None = None
    precision: str = Field(default="fp32", pattern="^(fp32|bf16|fp16)$")


class Params(Section):
    """The sections of params.yaml that this stage reads."""

    backbones: dict[Slug, BackboneParams]
    text_backbones: list[Slug]
    labels: list[str]
    classes: list[str] = Field(default_factory=list)
    texts: TextParams = TextParams()


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


def prompts_from_labels(items: Path, labels: Sequence[str], wanted_templates: Sequence[str]) -> list[Prompt]:
    """Every class of some label columns under every template; each (class, template) once.

    Raises:
        StoreError: a column is missing; they are listed.
        UsageError: it has no values, or none that name classes.
    """
    table = Items(items)
    prompts: dict[Prompt, None] = {}
    for column in labels:
        values = table.table([column]).column(0)
        if pa.types.is_nested(values.type) or pa.types.is_floating(values.type):
            raise UsageError(f"column {column!r} holds {values.type}; labels are names or whole numbers")
        # As learning reads labels: a truth value is `true`, not Python's `True`.
        names = sorted(set(values.cast(pa.string()).drop_null().to_pylist()))
        if not names:
            raise UsageError(f"column {column!r} of {items} has no values to make texts from")
        prompts |= dict.fromkeys(prompts_of(names, wanted_templates))
    return list(prompts)


def prompts_of(classes: Sequence[str], wanted_templates: Sequence[str]) -> list[Prompt]:
    """Every one of these classes under every template."""
    forms = templates(wanted_templates)
    return [Prompt(fill(form, name), name, form) for name in classes for form in forms]


def captions_from(items: Path, column: str | None) -> list[Prompt]:
    """Every different caption of a column of the items, as it is, in item order; none without a column.

    Raises:
        StoreError: there is no such column; they are listed.
        UsageError: it holds no texts.
    """
    if column is None:
        return []
    values = Items(items).column(column)
    texts = dict.fromkeys(value for value in values if isinstance(value, str) and value.strip())
    if not texts:
        raise UsageError(f"column {column!r} of {items} holds no captions")
    return [Prompt(text, "", "", column) for text in texts]


def prompts_from_file(path: Path, wanted_templates: Sequence[str]) -> list[Prompt]:
    """Texts from a file: JSON `{class: [texts]}` or `[texts]`, otherwise one text a line.

    Templates apply to each text.

    Raises:
        DataError: absent, empty or not of these shapes.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"texts cannot be read from {path}: {error}") from error
    groups = _parse_groups(path, content)
    forms = templates(wanted_templates)
    prompts = [
        Prompt(fill(f, text), group, f) for group, texts in groups.items() for text in texts for f in forms
    ]
    if not prompts:
        raise DataError(f"{path} holds no text")
    return prompts


def _parse_groups(path: Path, content: str) -> dict[str, list[str]]:
    if path.suffix.lower() != ".json":
        return {line.strip(): [line.strip()] for line in content.splitlines() if line.strip()}
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if isinstance(values, list) and all(isinstance(text, str) for text in values):
        return {text: [text] for text in values}
    if isinstance(values, dict):
        groups = {name: [texts] if isinstance(texts, str) else texts for name, texts in values.items()}
        lists = groups.values()
        if all(isinstance(texts, list) and all(isinstance(t, str) for t in texts) for texts in lists):
            return groups
    raise DataError(f"{path} must hold a list of texts, or an object of class names to lists of texts")


def run(
    params: TextParams,
    prompts: Sequence[Prompt],
    *,
    backbone: str,
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
    identity = identities.of_texts(description, params.precision)
    store = FeatureStore(options.depot, create=True)
    store.sweep()
    text_of = {key_of_text(prompt.text): prompt.text for prompt in prompts}
    missing = store.missing(identity, text_of)
    if missing:
        _compute(store, identity, [(key, text_of[key]) for key in missing], backbone, params, options)
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
    params: TextParams,
    options: RunOptions,
) -> None:
    device = pick_device(options.device)
    model = load_backbone(backbone, device, params.precision, options.n_threads)
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
        mend = "bf16 or fp32" if params.precision == "fp16" else "another backbone"
        raise BackboneError(
            f"{backbone}: the vectors of {len(failed)} of {len(texts)} texts are not finite when computed in "
            f"{params.precision}, the first: {failed[0]!r}; the others are stored. Take {mend}"
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


def main(params: Params, at: Layout, options: RunOptions) -> None:
    """Every backbone of the profile that knows words; texts of others that lie there go."""
    unknown = sorted(set(params.text_backbones) - set(params.backbones))
    if unknown:
        raise UsageError(
            f"text_backbones names {', '.join(unknown)}; the profile has {', '.join(params.backbones)}"
        )
    if given := [name for name in params.text_backbones if params.backbones[name].given is not None]:
        raise UsageError(
            f"text_backbones names {given[0]}, whose features were given: no model is known that could encode words for them"
        )
    folder = at.texts("any").parent
    folder.mkdir(parents=True, exist_ok=True)
    for path in set(folder.glob("*.h5")) - {at.texts(backbone) for backbone in params.text_backbones}:
        path.unlink()
    prompts = prompts_from_labels(at.items, params.labels, params.texts.templates)
    # A class may stand among the labels, too.
    prompts = list(dict.fromkeys([*prompts, *prompts_of(params.classes, params.texts.templates)]))
    prompts += captions_from(at.items, params.texts.captions)
    for name in params.text_backbones:
        backbone = params.backbones[name].spec or name
        result = run(params.texts, prompts, backbone=backbone, out=at.texts(name), options=options, name=name)
        say(summary(result))


if __name__ == "__main__":
    run_stage("extract_text", Params, main)
