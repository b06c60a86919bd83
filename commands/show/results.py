"""Tables for the command line: what is collected for `--json` is what is printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from deponij.pipeline.metrics.evaluation import Evaluation
from deponij.project.learning.compare import Comparison
from deponij.project.learning.learn import HeadResult
from deponij.project.report.summary import Record
from deponij.services.agreement import AgreementReport

stdout = Console(highlight=False)
if not stdout.is_terminal:
    # A pipe or a log has no width of its own; tables must not be folded to 80 columns there.
    stdout = Console(highlight=False, width=132)


def print_results(record: Record, *, whole: bool = True) -> None:
    """The table of results, features, times and the page to open.

    Args:
        whole: all classifiers; else of each backbone, or several together, the best one.
    """
    rows = record["results"]
    for pair in dict.fromkeys((row["split"], row["labels"]) for row in rows):
        of_pair = [row for row in rows if (row["split"], row["labels"]) == pair]
        shown = of_pair if whole else _best(of_pair)
        stdout.print(_results(shown))
        if len(shown) < len(of_pair):
            more = len(of_pair) - len(shown)
            stdout.print(
                f"the best of each backbone; {more} more classifiers: deponij results --all", style="dim"
            )
    stdout.print(f"{record['n_items']:,} items, {record['n_failed']} failed")
    for view in record["views"]:
        stdout.print(
            f"features  {view['view']}  {view['n']:,} x {view['kind']}  identity {view['fingerprint']}",
            soft_wrap=True,
        )
    if record["depot"]:
        stdout.print(f"depot     {record['depot']}", soft_wrap=True)
    if record["seconds"]:
        stdout.print(f"times     {_times(record['seconds'])}")
    stdout.print(f"page      {record['page']}", soft_wrap=True)
    stdout.print(f"sheet     {record['sheet']}", soft_wrap=True)
    if record["ask"]:
        between = "   " if len("".join(record["ask"])) < 80 else "\n          "
        stdout.print(f"ask       {between.join(record['ask'])}", markup=False, soft_wrap=True)


def print_first_results(record: Record) -> None:
    """The first table of a run that goes on."""
    for row_table in _tables(record["results"]):
        stdout.print(row_table)
    stdout.print(
        "the quick classifiers; the run goes on with retrieval, curves, tables and the page", style="dim"
    )


def _tables(rows: Sequence[Record]) -> list[Table]:
    pairs = dict.fromkeys((row["split"], row["labels"]) for row in rows)
    return [_results([row for row in rows if (row["split"], row["labels"]) == pair]) for pair in pairs]


def _best(rows: Sequence[Record]) -> list[Record]:
    """Baselines, then the best row of each backbone, best first; and of several backbones together only the best."""
    learned = sorted((row for row in rows if not row["is_baseline"]), key=lambda row: -row["top1"])
    first: dict[str, Record] = {}
    for row in learned:
        first.setdefault("+" if "+" in row["backbone"] else row["backbone"], row)
    return [*(row for row in rows if row["is_baseline"]), *first.values()]


def _times(seconds: Mapping[str, float]) -> str:
    """Summed over the backbones of a stage, longest first."""
    sums: dict[str, float] = {}
    for stage, took in seconds.items():
        name = stage.partition("@")[0]
        sums[name] = sums.get(name, 0.0) + took
    ordered = sorted(sums.items(), key=lambda pair: -pair[1])
    return f"{sum(sums.values()):.0f} s: " + ", ".join(f"{name} {took:.1f}" for name, took in ordered)


def _results(rows: Sequence[Record]) -> Table:
    first = rows[0]
    title = f"{first['labels']}: {first['n_classes']} classes, {first['part']} part of split {first['split']}"
    table = Table(title=title, title_justify="left")
    table.add_column("backbone")
    table.add_column("method")
    for name in ("n", "top-1 [95 %]", "top-2 [95 %]", "top-3 [95 %]", "balanced"):
        table.add_column(name, justify="right", no_wrap=True)
    best = max(row["top1"] for row in rows)
    for row in rows:
        style = "dim" if row["is_baseline"] else "bold" if row["top1"] == best else None
        shares = [_share(row[f"top{k}"], row[f"top{k}_interval"]) for k in (1, 2, 3)]
        table.add_row(
            row["backbone"] or "-",
            row["method"],
            f"{row['n']:,}",
            *shares,
            _share(row["balanced_accuracy"], None),
            style=style,
        )
    return table


def _share(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return ""
    text = f"{100 * value:.1f}"
    return text if interval is None else f"{text} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def print_evaluation(result: Evaluation) -> None:
    """One classifier's scores on every part."""
    table = Table(
        title=f"{result.backbone}, {result.title} on {result.labels} ({result.n_classes} classes)",
        title_justify="left",
    )
    table.add_column("part")
    for name in ("n", "top-1 [95 %]", "top-2 [95 %]", "top-3 [95 %]", "balanced", "majority"):
        table.add_column(name, justify="right")
    for part, scores in result.parts.items():
        table.add_row(
            part,
            f"{scores.n:,}",
            _share(scores.top1, scores.top1_interval),
            _share(scores.top2, scores.top2_interval),
            _share(scores.top3, scores.top3_interval),
            _share(scores.balanced_accuracy, None),
            _share(scores.majority, None),
        )
    stdout.print(table)
    outside = f"; {result.n_outside_pool:,} items are outside the pool" if result.n_outside_pool else ""
    stdout.print(f"chance {100 * result.chance:.1f}; {result.protocol}{outside}", soft_wrap=True)
    for note in result.notes:
        stdout.print(note, style="dim", soft_wrap=True)


def print_few_shot(result: HeadResult) -> None:
    """What a few items of each class give, where the head was asked that."""
    shots: Any = result.learned.get("few_shot") or []
    few = [
        {
            "per class": one["per_class"],
            "train": one["n_train"],
            "k": one["k"],
            "top-1": f"{100 * one['top1']:.1f} ± {100 * one['top1_std']:.1f}",
            "balanced": f"{100 * one['balanced_accuracy']:.1f}",
        }
        for one in shots
        if one["chosen"]
    ]
    if few:
        print_rows(f"a few items of each class, test part, mean of {shots[0]['tries']} draws", few)


def print_comparison(result: Comparison, n_classes: int = 5) -> None:
    """Two classifiers on the same items; of the classes those that gain and lose most."""
    table = Table(
        title=f"{result.labels}: {result.n:,} items, {result.part} part of split {result.split}",
        title_justify="left",
    )
    for name in ("", "backbone", "method", "folder"):
        table.add_column(name, no_wrap=not name)
    for name in ("right", "top-1 [95 %]"):
        table.add_column(name, justify="right", no_wrap=True)
    for letter, one in (("A", result.a), ("B", result.b)):
        share = _share(one.top1, one.top1_interval)
        table.add_row(letter, one.backbone, one.method, one.folder, f"{one.n_right:,}", share)
    stdout.print(table)
    low, high = result.difference.interval
    stdout.print(
        f"A - B: {100 * result.difference.value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], "
        f"p = {result.difference.p:.4f} (paired bootstrap)\n"
        f"only A right {result.mcnemar.b:,}, only B right {result.mcnemar.c:,}: p = {result.mcnemar.p:.4f} "
        f"(McNemar, {result.mcnemar.method})"
    )
    _print_consistency(result.consistency.model_dump())
    changed = [one for one in result.classes if one.n_difference]
    gains = [one for one in changed if one.n_difference > 0][:n_classes]
    losses = [one for one in changed if one.n_difference < 0][-n_classes:]
    if changed:
        rows = [
            {
                "class": one.name,
                "n": one.support,
                "recall A": f"{100 * one.recall_a:.1f}",
                "recall B": f"{100 * one.recall_b:.1f}",
                "items": f"{one.n_difference:+d}",
            }
            for one in (*gains, *losses)
        ]
        print_rows("classes where A gains or loses most", rows)
    stdout.print(result.verdict, style="bold", soft_wrap=True)
    for note in result.notes:
        stdout.print(note, style="dim", soft_wrap=True)


def print_agreement(result: AgreementReport) -> None:
    """Two observers' error consistency."""
    left_out = f"; left out: {result.n_only_a} only in A, {result.n_only_b} only in B"
    stdout.print(f"{result.n:,} items{left_out if result.n_only_a or result.n_only_b else ''}")
    for letter, accuracy, unanswered in (
        ("A", result.accuracy_a, result.n_unanswered_a),
        ("B", result.accuracy_b, result.n_unanswered_b),
    ):
        silent = f", {unanswered} without an answer, which count as wrong" if unanswered else ""
        stdout.print(f"{letter}: accuracy {100 * accuracy:.1f}{silent}")
    _print_consistency(result.model_dump())


def _print_consistency(record: Record) -> None:
    stdout.print(
        f"agreement {record['observed_agreement']:.4f}, expected of independent observers "
        f"{record['expected_agreement']:.4f}: kappa {record['kappa']:.4f}"
    )
    names = (("true classes", "js_class"), ("confusions", "js_inter"))
    said = [f"{what} {'undefined' if record[key] is None else f'{record[key]:.4f}'}" for what, key in names]
    undefined = record["js_class"] is None
    reason = " (one of them made no errors among its answers)" if undefined else ""
    stdout.print(
        f"distance of errors (Jensen-Shannon, 0 to 0.8326): {', '.join(said)}{reason}", soft_wrap=True
    )


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Any list of equal records."""
    table = Table(title=title, title_justify="left")
    for name in rows[0] if rows else ():
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(_plain(value) for value in row.values()))
    stdout.print(table)


def _plain(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(_plain(one) for one in value)
        case _:
            return str(value)


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
    found: Record = report.model_dump(mode="json")
    stdout.print(f"deponij {found['deponij']}, Python {found['python']}, {found['system']}")
    stdout.print(
        f"{found['n_cores_usable']} of {found['n_cores']} cores, "
        f"{found['memory_free_bytes'] / 2**30:.1f} of {found['memory_bytes'] / 2**30:.1f} GiB memory free"
    )
    print_rows("devices", [_device(one) for one in found["devices"]])
    stdout.print(
        "faiss     " + ", ".join(f"{k} {_plain(v)}" for k, v in found["faiss"].items()), soft_wrap=True
    )
    stdout.print("libraries " + ", ".join(f"{k} {v or 'absent'}" for k, v in found["libraries"].items()))
    print_rows("folders", [_in_gib(one) for one in found["folders"]])
    present = [one["name"] for one in found["backbones"] if one["present"]]
    stdout.print("weights   " + (", ".join(present) or "none"))
    print_rows("data sets", found["data_sets"])
    for problem in found["problems"]:
        stdout.print(f"problem: {problem['what']}; {problem['mend']}", style="yellow", soft_wrap=True)
    if not found["problems"]:
        stdout.print("no problems found")
