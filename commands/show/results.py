"""Tables for the command line: what is collected for `--json` is what is printed."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from deponij.commands.show.advice import show_next
from deponij.commands.show.multilabel import print_multilabel
from deponij.commands.show.segmentation import print_segmentation_tables
from deponij.commands.show.tables import (
    bounded,
    percent,
    plain,
    show_lines,
    show_notes,
    show_records,
    show_table,
    show_toy_note,
)
from deponij.commands.show.unlabelled import print_unlabelled
from deponij.pipeline.metrics.evaluation import Evaluation, not_a_result, shown_part
from deponij.pipeline.reports.provenance import is_toy, marked
from deponij.pipeline.reports.segmentation.table import SegmentationTable
from deponij.pipeline.reports.table import ResultRow, by_rank
from deponij.pipeline.reports.wording import interval_of, p_value, points
from deponij.project.learning.compare import Comparison
from deponij.project.learning.learn import HeadResult
from deponij.project.report.summary import Record
from deponij.services.agreement import AgreementReport
from deponij.store.texts import in_percent

if TYPE_CHECKING:
    from deponij.stages.ensembles import EnsembleResult


def print_results(record: Record, *, whole: bool = True) -> None:
    """The table of results, features, times and the page to open.

    Args:
        whole: all classifiers; else of each backbone, or several together, the one that validation chooses.
    """
    for of_pair in _by_question(record["results"]):
        shown = of_pair if whole else _first_of_each(of_pair)
        _print_results(shown)
        if more := len(of_pair) - len(shown):
            show_notes([f"the first of each backbone; {more} more classifiers with --all"])
    print_multilabel(record["multilabel"])
    segmented = [SegmentationTable.model_validate(table) for table in record["segmentation"]]
    print_segmentation_tables(segmented, frozenset(record["toys"]), classes=False)
    print_unlabelled(record)
    show_toy_note(record["toys"], record["toys"])
    of_several = len(record["twice"]) > 1
    for one in record["twice"]:
        where = f"{one['labels']}, split {one['split']}: " if of_several else ""
        show_lines(f"{where}{one['head']} on {one['backbone']}: {one['told']}")
    show_lines(f"{record['n_items']:,} items, {record['n_failed']} failed", *record["parts"])
    for view in record["views"]:
        show_lines(
            f"features  {view['view']}  {view['n']:,} x {view['kind']}  identity {view['fingerprint']}"
        )
    facts = {
        "depot": record["depot"],
        "times": _times(record["seconds"]) if record["seconds"] else None,
        "page": record["page"],
        "sheet": record["sheet"],
    }
    show_lines(*(f"{name:10}{fact}" for name, fact in facts.items() if fact))
    if record["page"] is None:
        told = "there is no page yet: the run has not finished; run it again, and it goes on where it was"
        show_lines(told, style="yellow")
    show_lines(*(f"{'ask':10}{command}" for command in record["ask"]), is_command=True)
    show_next(record["advice"], record["root"])


def print_first_results(record: Record) -> None:
    """The first table of a run that goes on."""
    for rows in _by_question(record["results"]):
        _print_results(rows)
    show_notes(["the quick classifiers; the run goes on with retrieval, curves, tables and the page"])


def _by_question(rows: Sequence[Record]) -> list[list[Record]]:
    """Rows of one split and label column each."""
    pairs = dict.fromkeys((row["split"], row["labels"]) for row in rows)
    return [[row for row in rows if (row["split"], row["labels"]) == pair] for pair in pairs]


def _first_of_each(rows: Sequence[Record]) -> list[Record]:
    """Baselines, then the first of each backbone by rank; and of several backbones together only the first."""
    first: dict[str, Record] = {}
    for row in _ranked(rows):
        name = row["backbone"] or row["method"]
        first.setdefault("+" if "+" in row["backbone"] else name, row)
    return list(first.values())


def _ranked(rows: Sequence[Record]) -> list[Record]:
    return [row.to_json() for row in by_rank([ResultRow(**row) for row in rows])]


def _times(seconds: Mapping[str, float]) -> str:
    """Summed over the backbones of a stage, longest first."""
    sums: dict[str, float] = {}
    for stage, took in seconds.items():
        name = stage.partition("@")[0]
        sums[name] = sums.get(name, 0.0) + took
    ordered = sorted(sums.items(), key=lambda pair: -pair[1])
    return f"{sum(sums.values()):.0f} s: " + ", ".join(f"{name} {took:.1f}" for name, took in ordered)


def _print_results(rows: Sequence[Record]) -> None:
    first, rows = rows[0], _ranked(rows)

    def style(row: Record) -> str:
        if row["is_chosen"]:
            return "bold"
        return "dim" if row["is_baseline"] or row["is_toy"] else ""

    show_table(
        f"{first['labels']}: {first['n_classes']} classes, {first['part']} part of split {first['split']}, "
        f"percent of {max(row['n'] for row in rows):,} items",
        {
            # Joined ones in words, so that a narrow table folds between names.
            "backbone": lambda row: marked((row["backbone"] or "-").replace("+", " + "), row["is_toy"]),
            "method": lambda row: row["method"],
            **({"val.": lambda row: percent(row["val_top1"])} if any(row["n_val"] for row in rows) else {}),
            **({"n": lambda row: f"{row['n']:,}"} if len({row["n"] for row in rows}) > 1 else {}),
            "top-1 [95 %]": lambda row: _share(row, "top1"),
            "top-2": lambda row: percent(row["top2"]),
            "top-3": lambda row: percent(row["top3"]),
            "balanced [95 %]": lambda row: _share(row, "balanced"),
        },
        rows,
        style=style,
        spare=("top-3", "top-2", "balanced [95 %]", "n", "val."),
    )
    effects = (row["design_effect"] for row in rows)
    show_notes([f"intervals: {interval_of(first['n_groups'], first['unit'], effects)}"])
    chosen = next((row for row in rows if row["is_chosen"]), None)
    if chosen is not None and chosen["n_folds"]:
        show_notes([_told_choice(chosen)])
    elif chosen is not None:
        show_notes(["in order of top-1 on validation, which chooses the first"])
    else:
        show_notes([f"no validation part to choose by: sorted by {first['part']}, which flatters the first"])
    if said := not_a_result(first["part"]):
        show_lines(said, style="yellow")


def _told_choice(row: Record) -> str:
    """Of cross-validation: how the first one was chosen, and what that is worth."""
    said = f"{row['n_folds']} folds: every item was tested once, by what had not learned from its fold"
    if row["fair_top1"] is None or row["n_candidates"] < 2:
        return said
    return (
        f"{said}; the first is the best of {row['n_candidates']} by these very answers, which flatters it: chosen on "
        f"the other folds each time it is {bounded(row['fair_top1'], row['fair_interval'])}"
    )


def _share(row: Record, name: str) -> str:
    share = row["balanced_accuracy" if name == "balanced" else name]
    return percent(share) if row["is_baseline"] else bounded(share, row[f"{name}_interval"])


def print_evaluation(result: Evaluation, toys: Set[str] = frozenset()) -> None:
    """One classifier's scores on every part; toys are marked."""
    by = marked(result.backbone, is_toy(result.backbone, toys))
    title = f"{by}, {result.title} on {result.labels} ({result.n_classes} classes)"
    show_table(
        title,
        {
            "part": lambda row: row[0],
            "n": lambda row: f"{row[1].n:,}",
            "top-1 [95 %]": lambda row: bounded(row[1].top1, row[1].top1_interval),
            "top-2 [95 %]": lambda row: bounded(row[1].top2, row[1].top2_interval),
            "top-3 [95 %]": lambda row: bounded(row[1].top3, row[1].top3_interval),
            "balanced [95 %]": lambda row: bounded(row[1].balanced_accuracy, row[1].balanced_interval),
            "majority": lambda row: percent(row[1].majority),
        },
        result.parts.items(),
        spare=("majority", "top-3 [95 %]", "top-2 [95 %]", "balanced [95 %]"),
    )
    outside = f"; {result.n_outside_pool:,} items are outside the pool" if result.n_outside_pool else ""
    show_lines(f"chance {in_percent(result.chance)}; {result.protocol}{outside}")
    shown = shown_part(result.parts)
    scores = result.parts[shown]
    of_part = interval_of(scores.n_groups, scores.unit, [scores.design_effect])
    show_notes([f"intervals of {shown}: {of_part}", *result.notes])
    show_toy_note([result.backbone], toys)


def print_ensemble(result: "EnsembleResult", toys: Set[str]) -> None:
    """Scores, and the members' shares in the answer; toys are marked."""
    print_evaluation(result, toys)
    show_table(
        "members",
        {
            "backbone": lambda one: marked(one.backbone, is_toy(one.backbone, toys)),
            "method": lambda one: one.method,
            "share": lambda one: percent(one.share),
        },
        result.members,
    )


def print_few_shot(result: HeadResult) -> None:
    """What a few items of each class give, where the head was asked that."""
    shots: Any = result.learned.get("few_shot") or []
    few = [one for one in shots if one["chosen"]]
    if few:
        show_table(
            f"a few items of each class, test part, mean of {few[0]['tries']} draws",
            {
                "per class": lambda one: one["per_class"],
                "train": lambda one: one["n_train"],
                "k": lambda one: one["k"],
                "± of draws": lambda one: percent(one["top1_std"]),
                "top-1 [95 %]": lambda one: bounded(one["top1"], one["top1_interval"]),
                "balanced [95 %]": lambda one: bounded(one["balanced_accuracy"], one["balanced_interval"]),
            },
            few,
        )


def print_comparison(result: Comparison, toys: Set[str], n_classes: int = 5) -> None:
    """Two classifiers on the same items; of the classes those that gain and lose most; toys are marked."""
    title = f"{result.labels}: {result.n:,} items, {result.part} part of split {result.split}"
    show_table(
        title,
        {
            "": lambda row: row[0],
            "backbone": lambda row: marked(row[1].backbone, is_toy(row[1].backbone, toys)),
            "method": lambda row: row[1].method,
            "folder": lambda row: row[1].folder,
            "right": lambda row: f"{row[1].n_right:,}",
            "top-1 [95 %]": lambda row: bounded(row[1].top1, row[1].top1_interval),
        },
        [("A", result.a), ("B", result.b)],
        spare=("right", "folder"),
    )
    found, bounds = result.difference, result.difference.interval
    between = "" if bounds is None else f" [{points(bounds[0])}, {points(bounds[1])}]"
    show_lines(
        f"A − B: {points(found.value)} points{between}, {interval_of(result.n_groups, result.unit)}",
        f"only A right {found.only_a:,}, only B right {found.only_b:,}: {p_value(found.p)} ({found.test})",
    )
    _print_consistency(result.consistency.model_dump())
    gains = [one for one in result.classes if one.n_difference > 0][:n_classes]
    losses = [one for one in result.classes if one.n_difference < 0][-n_classes:]
    if gains or losses:
        show_table(
            "classes where A gains or loses most",
            {
                "class": lambda one: one.name,
                "n": lambda one: one.support,
                "recall A": lambda one: percent(one.recall_a),
                "recall B": lambda one: percent(one.recall_b),
                "items": lambda one: f"{one.n_difference:+d}",
            },
            [*gains, *losses],
        )
    show_lines(result.verdict, style="bold")
    show_notes(result.notes)
    show_toy_note([result.a.backbone, result.b.backbone], toys)


def print_agreement(result: AgreementReport) -> None:
    """Two observers' error consistency."""
    left_out = f"; left out: {result.n_only_a} only in A, {result.n_only_b} only in B"
    show_lines(f"{result.n:,} items{left_out if result.n_only_a or result.n_only_b else ''}")
    for letter, accuracy, unanswered in (
        ("A", result.accuracy_a, result.n_unanswered_a),
        ("B", result.accuracy_b, result.n_unanswered_b),
    ):
        silent = f", {unanswered} without an answer, which count as wrong" if unanswered else ""
        show_lines(f"{letter}: accuracy {in_percent(accuracy)}{silent}")
    _print_consistency(asdict(result))


def _print_consistency(record: Record) -> None:
    show_lines(
        f"agreement {record['observed_agreement']:.3f}, expected of independent observers "
        f"{record['expected_agreement']:.3f}: kappa {record['kappa']:.3f}"
    )
    names = (("true classes", "js_class"), ("confusions", "js_inter"))
    said = [f"{what} {'undefined' if record[key] is None else f'{record[key]:.3f}'}" for what, key in names]
    undefined = record["js_class"] is None
    reason = " (one of them made no errors among its answers)" if undefined else ""
    show_lines(f"distance of errors (Jensen-Shannon, 0 to 0.8326): {', '.join(said)}{reason}")


def _device(record: Record) -> Record:
    """A device with its precisions by name."""
    usable = [name for name, works in record["precisions"].items() if works]
    return {**_in_gib(record), "precisions": usable}


def _in_gib(record: Record) -> Record:
    """Sizes in bytes as GiB."""
    return {
        name.removesuffix("_bytes"): f"{value / 2**30:.1f} GiB"
        if name.endswith("_bytes") and value is not None
        else value
        for name, value in record.items()
    }


def print_doctor(report: Any) -> None:
    """What the machine offers."""
    facts: Record = report.model_dump(mode="json")
    show_lines(f"deponij {facts['deponij']}, Python {facts['python']}, {facts['system']}")
    show_lines(
        f"{facts['n_cores_usable']} of {facts['n_cores']} cores, "
        f"{facts['memory_free_bytes'] / 2**30:.1f} of {facts['memory_bytes'] / 2**30:.1f} GiB memory free"
    )
    show_lines(f"pages of large arrays: {facts['pages'] or 'unknown'}")
    show_records("devices", [_device(one) for one in facts["devices"]])
    show_lines("faiss     " + ", ".join(f"{k} {plain(v)}" for k, v in facts["faiss"].items()))
    show_lines("libraries " + ", ".join(f"{k} {v or 'absent'}" for k, v in facts["libraries"].items()))
    show_records("folders", [_in_gib(one) for one in facts["folders"]])
    present = [
        {name: one[name] for name in ("name", "source", "licence")}
        for one in facts["backbones"]
        if one["present"]
    ]
    show_records("weights", present) if present else show_lines("weights   none")
    show_records("data sets", facts["data_sets"])
    for problem in facts["problems"]:
        show_lines(f"problem: {problem['what']}; {problem['mend']}", style="yellow")
    if not facts["problems"]:
        show_lines("no problems found")
