"""What was learned of segmentation, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from deponij.commands.answers import lead, print_json, say
from deponij.commands.options import Json, RunOpt

app = typer.Typer()


@app.command("segmentation-table")
def segmentation_table(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="Results folders of segmentation; none: all of the run.", show_default=False),
    ] = None,
    of_run: RunOpt = None,
    part: Annotated[
        str | None, typer.Option("--part", help="Whose figures; the test part, where there is one.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Json = False,
) -> None:
    """Approaches to segmentation and their classes, with what was published beside ours on the same classes."""
    from deponij.commands.show.segmentation import print_segmentation_tables
    from deponij.pipeline.reports.segmentation.table import tables_markdown
    from deponij.project.segmentation.tables import tables_meant

    meant = tables_meant(folders or [], of_run, part)
    lead(meant.said, as_json)
    if as_json:
        print_json(meant.tables)
    elif markdown:
        say("\n".join(tables_markdown(table) for table in meant.tables))
    else:
        print_segmentation_tables(meant.tables, meant.toys)
