"""Writes docs/commands.md from the commands themselves; a test holds the committed file against them.

python docs/make_reference.py
"""

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, get_args, get_type_hints

from typer.main import get_command

from deponij.cli import app

OUT = Path(__file__).parent / "commands.md"
INTRO = """\
# Commands

<!-- Written by docs/make_reference.py from the commands themselves; edit the help texts or that script. -->

`deponij COMMAND --help` tells the same. `--json` prints one JSON document on standard output and nothing else there;
messages and progress go to standard error. `deponij --version` tells the version, and `deponij --install-completion`
makes the shell complete commands and flags.

**Exit status.** 0: done. 1: failed, with a message. 2: wrong usage. 3: done, but some items failed and are recorded.
130: interrupted. Under DVC recorded failures are a warning, with status 0.

**A backbone** is a name of `deponij backbones`, a folder with a model in open_clip's, transformers' (SigLIP, DINOv2) or
timm's format, `open_clip:ARCH/TAG`, `open_clip:ARCH//path/to/weights`, `timm:NAME`, `hf:ORG/REPO@COMMIT`, or
`new:NETWORK@SIZE`, a network that has [learned nothing yet](tuning.md). Weights are safetensors, or loaded with
`weights_only`; no code from them is run, and weights that do not fill the model exactly are refused.

**A template** is a text with `{}`, a file of them, or a set: `name`, `photo`, `simple`, `imagenet`. **A label map** is a
CSV file of rows `category,label`; it makes a column named after the file.

**How a run is carried out** is never a parameter of the experiment: it is a flag of a command or, for `dvc repro` and
`make run`, a variable.

| flag | variable | |
|---|---|---|
| `--depot` | `DEPONIJ_DEPOT` | folder or URL of the depot; default `depot` in the working directory |
| `--device` | `DEPONIJ_DEVICE` | `auto` (default), `cpu`, `cuda`, `cuda:1`, `mps` |
| `--batch-size` | `DEPONIJ_BATCH_SIZE` | pictures a pass; `auto`: 32 on a CPU, 256 on CUDA; halved when memory runs out |
| `--workers` | `DEPONIJ_WORKERS` | threads that decode ahead of the model; 0 is one per core |
| `--processes` | `DEPONIJ_PROCESSES` | processes that train a backbone together, one a GPU (`tune`, the stage `finetune`) |
| `--threads` | `DEPONIJ_THREADS` | the model's threads on a CPU; 0: one per core, on a busy machine fewer can be faster |
| `--cluster` | `DEPONIJ_CLUSTER` | a Dask scheduler's address or `local[:N]`, for items and features ([more](clusters.md)) |
| | `DEPONIJ_CACHE` | what is remembered (of large depots, where rows lie), weights put by hand; default `~/.cache/deponij` |
| | `DEPONIJ_MEMORY_GIB` | GiB of memory to take for available where arrays are large ([more](scale.md#memory)) |
| | `TMPDIR` | where arrays lie that would take more than an eighth of it; default `/var/tmp` |
| | `DEPONIJ_LOCKS` | `leases`: processes know of each other by leases, not by locks ([when](depot.md#who-is-at-work)) |
| | `DEPONIJ_KEEP_PAGES` | 0 or no: give the memory of large arrays back, where glibc else keeps it (which is faster) |
| | `DEPONIJ_LIMIT_…` | how much a stranger's weights may ask for, by the limit's name; see [adding a backbone](adding.md) |
| | `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE` | as for every Hugging Face library |
"""
# What a type is called where a value of it is typed; others are `TEXT`.
KINDS = {Path: "PATH", int: "N", float: "X"}


def commands(command: Any, words: tuple[str, ...] = ("deponij",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below one, groups before their members."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*words, name))


def heading(words: tuple[str, ...], command: Any) -> str:
    """A command as it is typed, with what it takes by place."""
    arguments = [signature(one) for one in command.params if is_argument(one)]
    return " ".join((*words, *arguments, *(["COMMAND"] if hasattr(command, "commands") else [])))


def section(words: tuple[str, ...], command: Any) -> str:
    """A heading, what the command does, and its arguments."""
    options = [one for one in command.params if not is_argument(one) and "--help" not in one.opts]
    arguments = [one for one in command.params if is_argument(one)]
    lines = [f"{'#' * min(len(words), 3)} `{heading(words, command)}`", "", line(command.help)]
    if arguments or options:
        types = get_type_hints(command.callback)
        lines += ["", "| | default | |", "|---|---|---|"]
        for one in (*arguments, *options):
            shown = f"`{signature(one)}`" if is_argument(one) else flag(one, types[one.name])
            lines.append(f"| {shown} | {default(one)} | {line(one.help)} |")
    return "\n".join(lines) + "\n"


def is_argument(parameter: Any) -> bool:
    """Whether it is given by its place."""
    return str(parameter.param_type_name) == "argument"


def signature(argument: Any) -> str:
    """An argument as it stands in a line of usage."""
    name = (argument.metavar or argument.name).upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def flag(option: Any, hint: Any) -> str:
    """What is typed, and which values are allowed."""
    typed = " / ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kinds = [one for one in (get_args(hint) or (hint,)) if one is not type(None)]
    kind = get_args(kinds[0])[0] if get_args(kinds[0]) else kinds[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"{typed} " + " ".join(f"`{one.value}`" for one in kind)
    return typed if option.is_flag else " ".join((typed, *[KINDS.get(kind, "TEXT")] * option.nargs))


def default(parameter: Any) -> str:
    """What holds where nothing is typed."""
    if parameter.required:
        return "required"
    value = getattr(parameter.default, "value", parameter.default)
    unset = value is None or value is False or value in ("", [], ())
    return "" if unset else f"`{value}`"


def line(text: str | None) -> str:
    """A help text as one line of a table."""
    return " ".join((text or "").split()).replace("|", "\\|")


def overview(found: list[tuple[tuple[str, ...], Any]]) -> str:
    """All commands, a line each, with the way to their sections."""
    lines = ["| command | what it does |", "|---|---|"]
    for words, command in found:
        place = re.sub(r"[^\w\- ]", "", heading(words, command).lower()).replace(" ", "-")
        lines.append(f"| [`{' '.join(words[1:])}`](#{place}) | {line(command.help)} |")
    return "\n".join(lines) + "\n"


def reference() -> str:
    """The whole page."""
    found = [(words, command) for words, command in commands(get_command(app)) if len(words) > 1]
    return "\n".join((INTRO, overview(found), *(section(words, command) for words, command in found)))


if __name__ == "__main__":
    OUT.write_text(reference())
