"""Data flows to the right only: the arrows of docs/architecture.md, read from the imports."""

import ast
import re
from pathlib import Path

import pytest

import upright

PACKAGE = Path(upright.__file__).parent
FOUNDATIONS = {
    "calling",
    "errors",
    "files",
    "finding",
    "machine",
    "masks",
    "parameters",
    "plain",
    "seeds",
    "spec",
    "tensors",
    "windows",
}


def arrows_of_the_documentation():
    """Place: the places that it may import, or None for all; read from the table."""
    arrows = {"__init__": None, "__main__": None}
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    for row in re.findall(r"^\| (`upright/.*) \|$", text, re.MULTILINE):
        names, _, allowed = row.split(" | ")
        meanings = {"everything": None, "each other": FOUNDATIONS}
        if allowed not in meanings:
            places = set(allowed.split(", "))
            if "foundations" in places:
                places = places - {"foundations"} | FOUNDATIONS
            meanings[allowed] = places
        for place in re.findall(r"`(?:upright/)?(\w+)(?:\.py|/)`", names):
            arrows[place] = meanings[allowed]
    return arrows


ARROWS = arrows_of_the_documentation()
FILES = sorted(PACKAGE.rglob("*.py"))


def place(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path):
    """Dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            if node.module == "upright":
                yield from (f"upright.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path):
    here = place(path)
    allowed = ARROWS[here]
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("upright.")} - {here}
    if allowed is not None:
        assert ours <= allowed, f"{here} must not import {ours - allowed}"


def test_matplotlib_is_in_figures_alone():
    users = {place(p) for p in FILES if any(n.startswith("matplotlib") for n in imports(p))}
    assert users == {"figures"}


def test_jax_stays_out_of_what_a_robot_needs():
    without = ("errors", "files", "parameters", "plain", "spec", "policy", "runs", "figures", "cli")
    heavy = {"jax", "equinox", "optax"}
    users = {place(p) for p in FILES if heavy & {name.split(".")[0] for name in imports(p)}}
    assert users.isdisjoint(without)


def test_nothing_unpickles():
    dangerous = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    for path in FILES:
        assert dangerous.isdisjoint(name.split(".")[0] for name in imports(path)), path
        assert "allow_pickle" not in path.read_text(), path


def test_every_place_is_in_the_table():
    assert {place(path) for path in FILES} == set(ARROWS)
    for allowed in ARROWS.values():
        assert allowed is None or allowed <= set(ARROWS)
