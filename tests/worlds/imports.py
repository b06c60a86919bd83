"""The project's own import graph, read from the source without running it.

A room that a registry is filled from (`room="…"`, `names_in("…")`) counts as imported whole.
"""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("services", "stages", "project", "sample", "pipeline", "store")


def module_path(name: str) -> Path | None:
    """File of a module of the project, None for others."""
    top, _, inner = name.partition(".")
    base = ROOT / Path(*inner.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if top == "deponij" and inner.partition(".")[0] in ROOMS and path.is_file():
            return path
    return None


@cache
def imports_of(path: Path) -> frozenset[Path]:
    """Files of the project that a file imports anywhere, in functions too, but not for type checking only."""
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in _running(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    found = {module_path(part) for name in names for part in _prefixes(name)}
    for room in _rooms_named(tree):
        path = module_path(room)
        found |= set(path.parent.rglob("*.py")) if path is not None else set()
    return frozenset(path for path in found if path is not None)


def closure(path: Path) -> set[Path]:
    """All files of the project that running a file may import, itself included."""
    seen, todo = {path}, [path]
    while todo:
        fresh = imports_of(todo.pop()) - seen
        seen |= fresh
        todo += fresh
    return seen


def _running(node: ast.AST) -> list[ast.AST]:
    nodes = [node]
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        nodes += _running(child)
    return nodes


def _prefixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _rooms_named(tree: ast.AST) -> list[str]:
    values: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            values += [keyword.value for keyword in node.keywords if keyword.arg == "room"]
            values += node.args if isinstance(node.func, ast.Name) and node.func.id == "names_in" else []
    return [
        value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)
    ]
