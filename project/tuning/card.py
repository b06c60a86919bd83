"""The model card of a tuned backbone: Markdown that the hub reads too."""

from collections.abc import Mapping

from pydantic import JsonValue

from deponij.pipeline.backbones.access import resolved
from deponij.pipeline.backbones.catalog import parse_spec
from deponij.pipeline.metrics.intervals import Interval
from deponij.project.tuning.record import TunedRecord
from deponij.store.errors import DeponijError
from deponij.store.texts import percent

CARD = "README.md"


_OF_THE_HUB = {
    *(
        "apache-2.0",
        "mit",
        "openrail",
        "unlicense",
        "wtfpl",
        "zlib",
        "isc",
        "bsl-1.0",
        "ecl-2.0",
        "ms-pl",
        "0bsd",
    ),
    *(
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsd-3-clause-clear",
        "mpl-2.0",
        "artistic-2.0",
        "afl-3.0",
        "osl-3.0",
    ),
    *(
        "gpl",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl",
        "lgpl-2.1",
        "lgpl-3.0",
        "agpl-3.0",
        "epl-1.0",
        "epl-2.0",
        "eupl-1.1",
    ),
    *(
        "eupl-1.2",
        "cc",
        "cc0-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
    ),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "unknown", "other"),
}


def card(record: TunedRecord, weights_sha256: str) -> str:
    """What it is, what it learned from, what it reached, and whose weights it began with.

    Args:
        weights_sha256: of its own.
    """
    licence = record.licence or "unknown"
    is_new = record.base.startswith("new:")
    how = "trained from random weights" if is_new else "tuned"
    learned, figures = _learned(record)
    recipe = {name: value for name, value in record.recipe.items() if name != "training"}
    lines = [
        "---",
        *([] if is_new else _licensed(licence)),
        *([f"base_model: {repo}"] if (repo := _repo(record.base)) else []),
        "library_name: deponij",
        "---",
        "",
        f"# {record.name}",
        "",
        f"`{record.base}` {how} by Deponij: {record.said}. {learned}",
        "",
        f"- Learned from {record.n_train:,} pictures, chosen on {record.n_val:,} (split `{record.split}`); their keys are "
        "in `learned_from.parquet`, and no figure may be tested on them.",
        *([f"- Data: items `{record.items}`, manifest `{record.items_sha256}`."] if record.items else []),
        f"- {record.n_learned:,} of {record.n_weights:,} weights learned; the epoch that was kept is "
        f"{record.kept + 1} of {len(record.history)}.",
        f"- Weights of the base: `{record.base_weights}`, "
        + ("drawn here, of no licence." if is_new else f"licence: {licence}."),
        f"- Its own weights: `{weights_sha256}`.",
        "- No classifier lies here: the features go through a probe like any other's.",
        "",
        *figures,
        "",
        "## Recipe",
        "",
        *_listed(recipe),
        "",
        "## Training",
        "",
        *_listed(record.training),
    ]
    return "\n".join(lines) + "\n"


def _listed(settings: Mapping[str, JsonValue]) -> list[str]:
    """Those that are in force."""
    return [f"- {name}: {value}" for name, value in settings.items() if value not in (None, {}, [], 0, 0.0)]


def _learned(record: TunedRecord) -> tuple[str, list[str]]:
    """What it learned, in a sentence, and a table of what it reached."""
    if record.learns == "classes":
        said = f"Learned to tell {len(record.classes)} classes of `{record.labels}` apart: {', '.join(record.classes)}."
        rows = [
            f"| {part} | {record.n_judged.get(part, 0):,} | {percent(top1)}{_bounds(record.top1_interval.get(part))} |"
            for part, top1 in record.top1.items()
        ]
        return said, ["| part | pictures | top-1 of its own classifier, %, and 95 % |", "|-|-:|-:|", *rows]
    said = (
        f"Learned which of {record.n_captions:,} texts of `{record.labels}` a picture has; {record.n_without:,} items "
        "without one were left out."
    )
    rows = [
        f"| {part} | {record.n_judged.get(part, 0):,} | {way.replace('-', ' ')} | {name} | {one} |"
        for part, ways in record.recalls.items()
        for way, figures in ways.items()
        for name, one in figures.items()
    ]
    return said, ["| part | pictures | way | measure | frozen -> tuned |", "|-|-:|-|-|-|", *rows]


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f" [{percent(interval[0])}, {percent(interval[1])}]"


def _licensed(licence: str) -> list[str]:
    """Fields of the head, as the hub takes them."""
    name = licence.lower()
    return (
        [f"license: {name}"]
        if name in _OF_THE_HUB
        else ["license: other", f"license_name: {name.replace(' ', '-')}"]
    )


def _repo(base: str) -> str | None:
    """The hub's repository of a base; of a folder, or one that is gone, None, for the hub takes no other names."""
    try:
        return resolved(parse_spec(base)).repo
    except DeponijError:
        return None
