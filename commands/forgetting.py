"""One picture out of everything."""

from typing import Annotated

import typer

from deponij.commands.answers import lead, print_json
from deponij.commands.options import Json, RunOpt, Threads, run_options

app = typer.Typer()


@app.command()
def forget(
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, item ids, photographs or keys; none: go on where an interrupted one stopped."
        ),
    ] = None,
    of_run: RunOpt = None,
    depot: Annotated[
        str | None, typer.Option("--depot", help="Where its rows of features are; by default the run's.")
    ] = None,
    with_file: Annotated[bool, typer.Option("--file", help="Delete the original files too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Remove pictures everywhere: items, features in views and depot, indexes, maps, suspects, pages.

    What was computed with them is made again without them. What could not be reached is told, with what to do.
    """
    from deponij.commands.show.forgotten import print_forgotten
    from deponij.project.meant import run_meant
    from deponij.services import run as whole_way
    from deponij.services.forget import forget as forgetting
    from deponij.services.forget import targets
    from deponij.store.errors import UsageError

    options = run_options(depot or "depot", "auto", "auto", 0, threads)
    meant = run_meant(of_run)
    chosen = targets.find(meant, pictures or ())
    if not chosen.items and not chosen.keys:
        raise UsageError("name a picture: a file, an item id or a key, as in `deponij forget cat/1.jpg`")
    lead(
        meant.said(f"{'would forget' if dry_run else 'forget'} {', '.join(chosen.items) or 'a key'}"),
        as_json,
    )
    report = forgetting.run(meant, chosen, depot, dry_run=dry_run, with_file=with_file)
    is_remade = False
    if not dry_run:
        if report.must_remake:
            is_remade = whole_way.relearn(meant.at, options)
        targets.done(meant.at)
    if as_json:
        print_json({**report.model_dump(), "is_remade": is_remade})
    else:
        print_forgotten(report, is_remade=is_remade)
