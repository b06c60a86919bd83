"""Parameters: typed, frozen, and every mistake of a file reported at once."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from deponij import stages
from deponij.project.frame.settings import (
    BackboneParams,
    RunOptions,
    Section,
    Slug,
    known_sections,
    load,
    n_cores,
)
from deponij.store.errors import UsageError


class Heads(Section):
    max_iter: int = 7


class Params(Section):
    backbones: dict[Slug, BackboneParams]
    heads: Heads = Heads()


def write(path: Path, text: str) -> Path:
    file = path / "params.yaml"
    file.write_text(text)
    return file


def refusal(path: Path, text: str) -> str:
    with pytest.raises(UsageError) as error:
        load(Params, write(path, text))
    return str(error.value)


def test_sections_of_the_model_are_read_and_the_others_left_alone(tmp_path: Path) -> None:
    # What is wrong in another stage's section is no business of this one.
    text = "backbones: {a: {}, b-2: {spec: some/folder}}\nsplits: {group: nonsense}\n"
    params = load(Params, write(tmp_path, text))
    assert {name: one.spec for name, one in params.backbones.items()} == {"a": None, "b-2": "some/folder"}
    assert params.heads.max_iter == 7
    with pytest.raises(ValidationError):
        params.heads.max_iter = 8  # type: ignore[misc]


def test_all_mistakes_together_each_with_its_place(tmp_path: Path) -> None:
    said = refusal(tmp_path, "backbone: {}\nbackbones: {a: {sepc: x}, ../b: {}}\nheads: {max_iter: many}\n")
    assert "4 problem(s)" in said
    assert "backbone: unknown section; did you mean 'backbones'?" in said
    assert "backbones.a.sepc" in said
    assert "../b" in said
    assert "heads.max_iter" in said
    assert "(got 'many')" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("heads: {}\n", "backbones: Field required"),
        ("backbones: [a]\n", "backbones: Input should be a valid dictionary"),
        ("- a\n- b\n", "must hold sections, got list"),
        ("", "must hold sections, got NoneType"),
        ("a: [1\n", "is not valid YAML"),
        (
            "backbones: {}\nprobe: {}\n",
            "probe: unknown section; heads are named in one section now, such as `heads:",
        ),
        ("backbones: {}\nzzz: 1\n", f"zzz: unknown section; known: {', '.join(known_sections())}"),
    ],
)
def test_refusals(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_no_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="deponij profile use NAME"):
        load(Params, tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not valid YAML"):
        load(Params, tmp_path / "params.yaml")


def test_run_options_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RunOptions.model_fields:
        monkeypatch.delenv(f"DEPONIJ_{name.upper()}", raising=False)
    plain = RunOptions.from_environment()
    assert plain == RunOptions()
    assert plain.n_workers == plain.n_threads == n_cores() >= 1
    monkeypatch.setenv("DEPONIJ_DEPOT", "s3://bucket/depot")
    monkeypatch.setenv("DEPONIJ_WORKERS", "3")
    monkeypatch.setenv("DEPONIJ_BATCH_SIZE", "")
    options = RunOptions.from_environment()
    assert (options.depot, options.n_workers, options.batch_size) == ("s3://bucket/depot", 3, 0)
    monkeypatch.setenv("DEPONIJ_WORKERS", "-1")
    monkeypatch.setenv("DEPONIJ_DEVICE", "gpu")
    with pytest.raises(UsageError, match=r"(?s)environment.*2 problem.*device.*workers|workers.*device"):
        RunOptions.from_environment()


def sections() -> set[type[BaseModel]]:
    """All that params.yaml can hold: what the stages' `Params` are made of."""
    for name in iter_modules(stages.__path__):
        import_module(f"deponij.stages.{name.name}")
    found, waiting = set(), [BaseModel]
    while waiting:
        waiting += (more := set(waiting.pop().__subclasses__()) - found)
        found |= more
    return {one for one in found if one.__module__.startswith("deponij.")}


def test_a_section_that_names_one_value_keeps_the_other_defaults() -> None:
    """A default that differs from its class's own would be lost as soon as something is said."""
    n_seen = 0
    for section in sections():
        for name, field in section.model_fields.items():
            if isinstance(field.default, BaseModel):
                said: Any = TypeAdapter(Annotated[field.annotation, field]).validate_python({})
                assert said == field.default, f"{section.__name__}.{name}"
                n_seen += 1
    assert n_seen > 15
