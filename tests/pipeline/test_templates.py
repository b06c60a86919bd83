"""Prompt templates: sets, files, literals; and open_clip's own lists, compared with the library's."""

import subprocess
import sys
from pathlib import Path

import pytest

from deponij.pipeline.templates import TEMPLATE_SETS, fill, templates
from deponij.store.errors import UsageError


def test_sets_are_the_librarys() -> None:
    from open_clip import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

    for name, theirs in (("imagenet", OPENAI_IMAGENET_TEMPLATES), ("simple", SIMPLE_IMAGENET_TEMPLATES)):
        ours = templates([name])
        assert len(ours) == len(theirs)
        for word in IMAGENET_CLASSNAMES[:3]:
            assert [fill(template, word) for template in ours] == [make(word) for make in theirs]
    assert len(templates(["imagenet"])) == 80
    assert len(templates(["simple"])) == 7


def test_own_sets_literals_and_files_in_order_each_once(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("litter: {}\n\na photo of a {}\n")
    wanted = ["name", str(file), "photo", "a {} on grass", "name"]
    assert templates(wanted) == ["{}", "litter: {}", "a photo of a {}", "a {} on grass"]


def test_names_are_filled_in_as_written() -> None:
    assert fill("a photo of a {}", "plastic_bottle_cap") == "a photo of a plastic bottle cap"
    assert fill("{}", "50% {off}") == "50% {off}"


@pytest.mark.parametrize("wrong", ["nmae", "no braces", "{} and {}", "absent.txt"])
def test_what_is_no_template_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match=r"template") as refusal:
        templates([wrong])
    assert wrong in str(refusal.value)


def test_a_file_with_a_line_that_is_no_template_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("a {}\nnothing to fill\n")
    with pytest.raises(UsageError, match="nothing to fill"):
        templates([str(file)])


def test_reading_the_sets_imports_no_model_library() -> None:
    code = (
        "import sys; from deponij.pipeline.templates import TEMPLATE_SETS, templates; templates(TEMPLATE_SETS);"
        "print([m for m in ('torch', 'open_clip', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(TEMPLATE_SETS) == {"name", "photo", "imagenet", "simple"}
