"""Stage `extract_text`: class names, templates or captions in, text vectors out.

    python -m deponij.stages.extract_text

Text vectors are rows of their own kind in the depot, keyed by the text. Their view has the columns
`text` (as encoded), `group` (the class it speaks of) and `template`. Where there are captions of items, these stand
behind the texts of classes, each different one once, with empty `group` and `template`; a column `caption_column` then
names the items' column that they come from (empty for texts of classes).
"""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from deponij.pipeline.templates import fill, templates
from deponij.project.extraction.texts import Prompt, TextResult, encode, prompts_of, summary
from deponij.project.frame.console import say
from deponij.project.frame.harness import run_stage
from deponij.project.frame.layout import Layout
from deponij.project.frame.settings import BackboneParams, RunOptions, Section, Slug
from deponij.store.errors import DataError, UsageError
from deponij.store.items import Items


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
    """Bring every text's vector into the depot and write their view; see `encode`."""
    return encode(prompts, backbone=backbone, precision=params.precision, out=out, options=options, name=name)


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
