"""What was forgotten, on a terminal."""

from deponij.commands.show.tables import show_lines
from deponij.services.forget.forget import Report
from deponij.store.texts import one_line


def print_forgotten(report: Report, *, is_remade: bool) -> None:
    """What went, what was made again, and what could not be reached."""
    verb = "would go" if report.dry_run else "gone"
    for one in report.removed:
        what = one.what.replace("s", "", 1) if one.n == 1 else one.what
        show_lines(f"{verb:9} {one.n:,} {what}: {one.where}")
    if not report.removed:
        show_lines("nothing of it was left")
    if report.dry_run:
        show_lines("nothing was changed; leave out --dry-run to do it")
    elif is_remade:
        show_lines(f"made anew what was computed, of what is left: {report.run}/report/page.html")
    elif report.must_remake:
        show_lines("lacking   what was computed with it; `dvc repro`, or `deponij run` again, makes it anew")
    for reason in report.left:
        show_lines(f"left      {one_line(reason)}", style="yellow")
