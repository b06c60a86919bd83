"""The version is written once, and told by the command, the library and the changelog; shells complete the command."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cli_world import done

import deponij

ROOT = Path(__file__).resolve().parent.parent
WRITTEN: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_command_and_library_tell_what_pyproject_says() -> None:
    # What is installed here is a checkout: after a new version `make setup` installs it anew.
    assert deponij.__version__ == WRITTEN
    assert done("--version").out == f"deponij {WRITTEN}\n"


def test_the_changelog_has_this_version_in_its_place() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.MULTILINE)
    assert versions[0] == ("Unreleased", "")
    assert versions[1][0] == WRITTEN
    assert all(date for _, date in versions[1:])
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize(
    ("typed", "offered"), [("deponij extr", "extract-text"), ("deponij depot m", "merge")]
)
def test_a_shell_completes_commands(typed: str, offered: str) -> None:
    # Just what bash does with the function that `--show-completion` prints.
    question = {
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
        "_DEPONIJ_COMPLETE": "complete_bash",
    }
    process = subprocess.run(
        [sys.executable, "-m", "deponij.cli"],
        cwd=ROOT,
        env=question,
        capture_output=True,
        text=True,
        check=True,
    )
    assert offered in process.stdout.split()


def test_completion_is_installed_by_the_command_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else it is for the shell that started the tests, which need not be one that completes.
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    out = done("--show-completion", "bash").out
    assert "complete -o default -F _deponij_completion deponij" in out
    assert "--install-completion" in done("--help").out
