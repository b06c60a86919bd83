"""The documentation is true as far as a machine can tell: links, sizes, commands, imports."""

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command

from deponij import cli

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def fences(page: Path, *kinds: str) -> list[str]:
    return [text for kind, text in FENCE.findall(page.read_text()) if kind in kinds]


def anchor(heading: str) -> str:
    """A heading's address, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"https?:", link):
            continue
        path, _, place = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if place:
            assert place in {anchor(one) for one in re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)}, (
                link
            )


def test_every_page_can_be_reached_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(prose(ROOT / "README.md"))}
    contents = set(LINK.findall(prose(ROOT / "docs" / "README.md")))
    for page in (ROOT / "docs").glob("*.md"):
        if page.name != "README.md":
            assert f"docs/{page.name}" in linked, page
            assert page.name in contents, page


def test_the_readme_is_short_and_has_a_picture_of_the_page() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 10_240
    picture = ROOT / "docs" / "page.png"
    assert picture.stat().st_size <= 150_000
    with Image.open(picture) as image:
        assert image.width >= 1000


def test_the_reference_of_commands_is_current() -> None:
    out = subprocess.run(
        [sys.executable, "-c", "import make_reference as it; print(it.reference(), end='')"],
        cwd=ROOT / "docs",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ROOT / "docs" / "commands.md").read_text() == out.stdout, "run: python docs/make_reference.py"


@every_page
def test_python_imports_things_that_exist(page: Path) -> None:
    for text in fences(page, "python"):
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "deponij":
                assert hasattr(importlib.import_module("deponij"), node.attr), f"deponij has no {node.attr}"


def spoken(page: Path) -> list[list[str]]:
    """The words of each `deponij …` in a page's fences and inline code."""
    inline = re.findall(r"`(deponij [^`]+)`", prose(page))
    lines = [line for text in fences(page, "") for line in text.replace("\\\n", " ").splitlines()]
    commands = [part.strip() for line in (*lines, *inline) for part in re.split(r"&&|\s{3,}", line)]
    return [
        shlex.split(one, comments=True)[1:]
        for one in commands
        if re.match(r"deponij( |$)", one) and "'" not in one
    ]


@every_page
def test_commands_and_their_flags_exist(page: Path) -> None:
    for line in spoken(page):
        command: Any = get_command(cli.app)
        words = line
        while words and words[0] in getattr(command, "commands", {}):
            command, words = command.commands[words[0]], words[1:]
        flags = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        flags |= {"--help", "--install-completion", "--show-completion"}
        typed = {word.partition("=")[0].strip("[]") for word in words if word.lstrip("[").startswith("--")}
        assert {one.partition("|")[0] for one in typed} <= flags, f"{command.name} {typed - flags}"
        groups = getattr(command, "commands", None)
        if groups and words and words[0].isalpha() and words[0].islower():
            pytest.fail(f"{page.name}: there is no command {words[0]!r} in {command.name}")


@every_page
def test_modules_that_are_run_exist(page: Path) -> None:
    for name in re.findall(r"python -m (deponij[\w.]*)", page.read_text()):
        assert importlib.util.find_spec(name) is not None, name
    for script in re.findall(r"python ((?:docs|examples|benchmarks)/\w+\.py)", page.read_text()):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name
)
def test_folders_and_files_of_the_checkout_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:pipeline|store|stages|services|project|sample|commands|tests|docs|examples)/[\w./]+)`",
        prose(page),
    )
    placeholders = re.compile(r"[A-Z]{4,}")
    missing = [name for name in named if not placeholders.search(name) and not (ROOT / name).exists()]
    assert not missing
