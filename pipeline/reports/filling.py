"""How the templates are filled in: their filters, and what names may bring into HTML. What is shown lives in `page`."""

from functools import cache
from pathlib import Path
from typing import Any

from deponij.pipeline.advice.records import SHOWN
from deponij.pipeline.metrics.evaluation import not_a_result
from deponij.pipeline.reports import wording
from deponij.pipeline.reports.cell_tables import mean_and_std, published
from deponij.pipeline.reports.provenance import JOINED
from deponij.store.texts import duration, one_line

TEMPLATES = Path(__file__).parent / "templates"


def _breakable(name: str) -> Any:
    """Joined names and paths, escaped, that may be broken after each join and each folder."""
    from markupsafe import Markup, escape

    joined = Markup("+<wbr>").join(escape(one_line(one)) for one in name.split(JOINED))
    return joined.replace("/", Markup("/<wbr>"))


def _command(text: str) -> Any:
    """A command, escaped, that is broken at no hyphen of a flag."""
    from markupsafe import Markup, escape

    words = one_line(text).split(" ")
    return Markup(" ").join(
        Markup("<span>{}</span>").format(word) if word.startswith("-") else escape(word) for word in words
    )


def _unbroken(text: str) -> str:
    """No number is parted from its sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _seen(value: Any) -> Any:
    """What stands in the HTML page, names among it; markup that is safe is of another type."""
    return one_line(value) if type(value) is str else value


@cache
def environment_of_templates(autoescape: bool) -> Any:
    """The one environment of HTML (escaped), and that of Markdown."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_seen if autoescape else None,
    )
    environment.filters |= {
        "percent": wording.percent,
        "interval": wording.interval,
        "published": published,
        "points": wording.points,
        "p_value": wording.p_value,
        "duration": duration,
        "number": wording.number,
        "short": wording.short,
        "cell": wording.cell,
        "code": wording.code,
        "sentence": wording.sentence,
        "unbroken": _unbroken,
        "breakable": _breakable,
        "command": _command,
        "not_a_result": not_a_result,
    }
    environment.globals |= {"mean": mean_and_std, "interval_of": wording.interval_of, "n_advised": SHOWN}
    return environment
