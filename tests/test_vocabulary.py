"""One word per concept: the retired words of the glossary are in no name and in no sentence."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.settings import ROOT
from tests.vocabulary import (
    KEPT_NAMES,
    RETIRED_NAMES,
    RETIRED_PHRASES,
    RETIRED_WORDS,
)

PAGES = sorted(
    [
        *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "README", "SECURITY")),
        *(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    ]
)

TEMPLATES = sorted((ROOT / "django_jobbatch").rglob("*.html"))
MODULES = sorted(
    path
    for folder in ("django_jobbatch", "benchmarks", "sandbox")
    for path in (ROOT / folder).rglob("*.py")
)
#: All but the lists of the words themselves.
TESTS = sorted(
    path
    for path in (ROOT / "tests").rglob("*.py")
    if path.name not in ("vocabulary.py", "test_vocabulary.py")
)

#: Openings that hide the subject of a docstring.
OPENING = re.compile(r"(?:What|Those|The same)\b")
PHRASE = re.compile(rf"\b(?:{'|'.join(RETIRED_PHRASES)})", re.IGNORECASE)
NAME = re.compile("|".join(RETIRED_NAMES))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose_of_page(path: Path) -> str:
    """The text of a page without code, links and the glossary's table of retired words."""
    text = path.read_text().partition("## Retired words")[0]
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", text)


def prose_of_module(path: Path) -> str:
    """The docstrings, comments and messages of a module: all text with a space in it."""
    source = path.read_text()
    texts = [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    ]
    return without_code([*texts, *comments_of(source)])


def prose_of_test(path: Path) -> str:
    """The docstrings and comments of a module of the tests: its other texts are data."""
    source = path.read_text()
    return without_code([*docstrings_of(source), *comments_of(source)])


def docstrings_of(source: str) -> list[str]:
    return [
        ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def comments_of(source: str) -> list[str]:
    return [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]


def without_code(texts: list[str]) -> str:
    return re.sub(r"`[^`\n]*`", "", "\n".join(texts))


def prose_of_template(path: Path) -> str:
    """The visible texts of a template."""
    return re.sub(
        r"\{[{%#].*?[}%#]\}|<[^>]*>", " ", path.read_text().replace('{% translate "', " ")
    )


def names_of(path: Path) -> Iterator[str]:
    """The names that a module gives: to itself, functions, classes, arguments and variables."""
    yield path.stem
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr


def is_retired(name: str) -> bool:
    if name in KEPT_NAMES:
        return False
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return bool(RETIRED_WORDS & set(snake.split("_")) or NAME.search(snake))


def test_the_words_are_found() -> None:
    names = ["go_on_reopening", "has_begun", "BatchesAround", "rest_of_lanes", "_rest", "at_rest"]
    text = "What nobody has told is taken back, and the batches around go on."

    assert [name for name in names if is_retired(name)] == names[:-1]
    assert PHRASE.findall(text) == ["nobody", "told", "taken back", "batches around", "go on"]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_no_retired_word_is_on_a_page(path: Path) -> None:
    assert PHRASE.findall(prose_of_page(path)) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_no_retired_word_is_in_a_template(path: Path) -> None:
    assert PHRASE.findall(prose_of_template(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_retired_word_is_in_a_sentence_of_a_module(path: Path) -> None:
    assert PHRASE.findall(prose_of_module(path)) == []


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_no_retired_word_is_in_a_sentence_of_a_test(path: Path) -> None:
    assert PHRASE.findall(prose_of_test(path)) == []


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)
def test_a_docstring_starts_with_its_subject_or_verb(path: Path) -> None:
    assert [text for text in docstrings_of(path.read_text()) if OPENING.match(text)] == []


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)
def test_no_retired_word_is_in_a_name(path: Path) -> None:
    assert sorted({name for name in names_of(path) if is_retired(name)}) == []
