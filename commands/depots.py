"""Housekeeping of depots and views."""

from pathlib import Path
from typing import Annotated, Any

import typer

from deponij.commands.answers import EXIT_FAILED, answer, say
from deponij.commands.options import Json

depot_app = typer.Typer(help="Look at, check, move and tidy a depot of feature rows.", no_args_is_help=True)
DepotArg = Annotated[str, typer.Argument(envvar="DEPONIJ_DEPOT", help="Folder or fsspec URL.")]
view_app = typer.Typer(help="Look at and export a view of features.", no_args_is_help=True)


@depot_app.command("info")
def depot_info(depot: DepotArg = "depot", as_json: Json = False) -> None:
    """What a depot holds, by identity."""
    from deponij.services import depots

    info = depots.info(depot)
    answer(info, depots.describe_info(info), as_json)


@depot_app.command("verify")
def depot_verify(
    depot: DepotArg = "depot",
    repair: Annotated[
        bool, typer.Option("--repair", help="Set damaged shards aside, to be computed again.")
    ] = False,
    items: Annotated[Path | None, typer.Option(help="Items, to extract random rows again.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Whose rows to extract again.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many random rows.")] = 16,
    seed: Annotated[int, typer.Option(help="Which random rows.")] = 0,
    as_json: Json = False,
) -> None:
    """Check every byte; with items and backbone, extract random rows again and report their drift."""
    from deponij.services import depots

    report = depots.verify(depot, repair=repair, items=items, backbone=backbone, n_rows=rows, seed=seed)
    answer(report, depots.describe_verify(report), as_json)
    if not report["sound"]:
        raise typer.Exit(EXIT_FAILED)


@depot_app.command("merge")
def depot_merge(
    source: Annotated[str, typer.Argument(help="Depot to take rows from.")],
    depot: Annotated[str, typer.Argument(envvar="DEPONIJ_DEPOT", help="Depot to bring them to.")] = "depot",
    as_json: Json = False,
) -> None:
    """Bring rows of another depot (filled on a GPU machine, say) into this one."""
    from deponij.services import depots

    report = depots.merge(source, depot)
    taken = report["n_rows"]
    lines = [f"{sum(taken.values()):,} rows of {len(taken)} identities: {source} -> {depot}"]
    lines += [f"  {fingerprint}  {n_rows:>8,} rows" for fingerprint, n_rows in taken.items()]
    answer(report, "\n".join(lines + _damaged(report)), as_json)


@depot_app.command("compact")
def depot_compact(depot: DepotArg = "depot", as_json: Json = False) -> None:
    """Turn many small shards into few large ones."""
    from deponij.services import depots

    report = depots.compact(depot)
    before, after, n_double = report["n_shards_before"], report["n_shards_after"], report["n_double"]
    line = f"{before} shards -> {after}, {n_double} double rows dropped"
    answer(report, "\n".join([line, *_damaged(report)]), as_json)


@depot_app.command("gc")
def depot_gc(
    depot: DepotArg = "depot",
    keep_view: Annotated[
        list[Path] | None, typer.Option(help="Keep the rows of this view; repeatable.")
    ] = None,
    keep_items: Annotated[
        list[Path] | None, typer.Option(help="Keep all rows of these items; repeatable.")
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Do it; without this only what would go is shown.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Drop the rows that no named view or items need. A dry run unless --delete."""
    from deponij.services import depots

    report = depots.gc(depot, keep_view or [], keep_items or [], delete=delete)
    answer(report, "\n".join(_gc_lines(report)), as_json)


@depot_app.command("migrate")
def depot_migrate(depot: DepotArg = "depot", as_json: Json = False) -> None:
    """Bring an older depot up to this version's format."""
    from deponij.services import depots

    report = depots.migrate(depot)
    steps = ", ".join(f"{one} to {one + 1}" for one in report["steps"]) or "none was needed"
    answer(report, f"{depot}: steps {steps}", as_json)


@view_app.command("info")
def view_info(view: Annotated[Path, typer.Argument(help="A view's file.")], as_json: Json = False) -> None:
    """What a view holds, its identity and its failure table."""
    from deponij.services import depots

    info = depots.view_info(view)
    answer(info, depots.describe_view(info), as_json)


@view_app.command("export")
def view_export(
    view: Annotated[Path, typer.Argument(help="A view's file.")],
    out: Annotated[Path, typer.Argument(help="File to write: .parquet, .npz or .npy.")],
    items: Annotated[Path | None, typer.Option(help="Items whose metadata to join.")] = None,
) -> None:
    """Write a view's vectors, with metadata, in a format of everybody's tools."""
    from deponij.services import depots

    say(depots.export(view, out, items))


def _gc_lines(report: dict[str, Any]) -> list[str]:
    done, identities = not report["dry_run"], report["lines"].values()
    n_rows, n_bytes = (sum(one[f"n_{what}_gone"] for one in identities) for what in ("rows", "bytes"))
    lines = [f"{'deleted' if done else 'would go'}: {n_rows:,} rows, {n_bytes / 2**20:.1f} MiB"]
    for fingerprint, one in report["lines"].items():
        identity = one["identity"]
        lines.append(
            f"  {fingerprint}  {one['n_rows_gone']:>8,} go, {one['n_rows_kept']:>8,} stay  "
            f"{identity['backbone']}  {identity['kind']}  {identity['precision']}"
        )
    if report["in_use"]:
        lines.append(f"  {len(report['in_use'])} shards of living writers were left alone")
    lines += _damaged(report)
    return lines if done or not n_rows else [*lines, "nothing was deleted; --delete does it"]


def _damaged(report: dict[str, Any]) -> list[str]:
    return [f"  damaged, left alone: {name}: {why}" for name, why in report["damaged"].items()]
