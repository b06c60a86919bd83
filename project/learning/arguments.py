"""What a constructor takes (of a head, a decoder), as people say it: `--set NAME=VALUE`, and `kinds: {…}` of a profile."""

import json
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue, ValidationError

from deponij.pipeline.cards import parameters_of
from deponij.pipeline.heads.head import Head
from deponij.pipeline.heads.registry import head_class
from deponij.store.errors import UsageError

# Of each type: in words, several of it in words, and an example.
_WORDS: Mapping[object, tuple[str, str, str]] = {
    bool: ("true or false", "true or false", "true"),
    int: ("a whole number", "whole numbers", "1"),
    float: ("a number", "numbers", "0.1"),
    str: ("a word", "words", "none"),
    type(None): ("null", "null", "null"),
}


class Argument(NamedTuple):
    """One argument: its name, what it may be in words, and its default as it would be written."""

    name: str
    type: str
    default: str

    def __str__(self) -> str:
        return f"{self.name}={self.default}  ({self.type})"


def parse_arguments(pairs: Sequence[str]) -> dict[str, JsonValue]:
    """`name=value` texts; a value that is JSON is read as such, anything else is a text.

    Raises:
        UsageError: a text without `=`.
    """
    arguments: dict[str, JsonValue] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(
                f"an argument is given as NAME=VALUE, got {pair!r}; `--set help` lists the names"
            )
        try:
            arguments[name] = json.loads(value)
        except (ValueError, RecursionError):
            arguments[name] = value
    return arguments


def arguments_of(kind: str) -> list[Argument]:
    """What a head takes, in the order of its constructor.

    Raises:
        UsageError: there is no such head.
    """
    return arguments_in(parameters_of(head_class(kind)))


def arguments_in(model: type[BaseModel], usual: Mapping[str, JsonValue] | None = None) -> list[Argument]:
    """What a model takes, in its order.

    Args:
        usual: values where nothing is named that are not the model's own.
    """
    usual = usual or {}
    return [
        Argument(name, _in_words(field.annotation), _written(usual.get(name, field.default)))
        for name, field in model.model_fields.items()
    ]


def make_head(kind: str, arguments: Mapping[str, JsonValue]) -> Head:
    """A head that has learned nothing yet.

    Raises:
        UsageError: there is no such head, or arguments that its constructor does not have or allow; all are named,
            each in a line that says what it may be.
    """
    made = head_class(kind)
    model = parameters_of(made)
    unknown = sorted(set(arguments) - set(model.model_fields))
    if unknown:
        raise UsageError(
            f"head {kind!r} has no argument {', '.join(unknown)}; it has {', '.join(model.model_fields)} "
            f"(`deponij fit --head {kind} --set help` says what they may be)"
        )
    try:
        checked = model.model_validate(dict(arguments))
    except ValidationError as error:
        raise UsageError(_told(kind, model, arguments, error)) from None
    head: Head = made(**{name: getattr(checked, name) for name in arguments})
    head.check_params()
    return head


def _told(
    kind: str, model: type[BaseModel], arguments: Mapping[str, JsonValue], error: ValidationError
) -> str:
    """Of each wrong argument once what it may be, whatever of its value does not fit."""
    wrong = dict.fromkeys(str(issue["loc"][0]) for issue in error.errors())
    return "\n".join(
        f"head {kind!r}: {name} is {_in_words(model.model_fields[name].annotation)}, "
        f"got {_written(arguments[name])}"
        for name in wrong
    )


def _in_words(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_in_words, inner))
    if isinstance(origin, type) and issubclass(origin, Sequence):
        _, several, example = _WORDS.get(inner[0], ("", str(inner[0]), "…"))
        return f"a list of {several} such as [{example}]"
    return _WORDS.get(kind, (str(kind), "", ""))[0]


def _written(value: Any) -> str:
    """As `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)
