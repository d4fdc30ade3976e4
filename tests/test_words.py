"""User-facing texts and names use the field's terms: no banned phrases, no names from before the renames."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from docs.openapi import document
from paretofit.cli.main import app
from paretofit.search import registry

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGES: Final = ("api", "core", "db", "launch", "models", "paretofit", "search", "workers")
REST: Final = ("benchmarks", "tests", "docs", ".ci")
"""Folders with code that is not installed."""
THIS: Final = Path(__file__).name

BANNED: Final = (
    # "X is no Y" instead of "X is not a Y" or "invalid X".
    r"(?<!there )\b(?:is|are) no (?!longer\b|more than\b|less than\b|worse\b|better\b)\w+",
    r"\b(?:is|are|was|were) told\b",
    r"\bwhat (?:came|became|comes|becomes) of\b",
    r"\bwhat there is\b",
    r"\bgood for nothing\b",
    r"\bfarewell\b",
    r"\bnot written yet\b",
    r"\bmarked ones\b",
    r"\bbeing looked at\b",
    r"\bis it well\b",
    r"\bwoken\b",
    r"\btaken for\b",
    # The subject of a sentence comes first.
    r"(?:^|[.;:] )Of (?:an?|the|its|their|what|each|all|every|them)\b",
    # Former names of modules, classes and concepts.
    r"\b(?:leash|scribe|speaker|outlasts?|patience|legible|steer(?:s|ed|ing)?|wake-?ups?|materialis\w*)\b",
    r"\bin (?:this|that|two|the same) manners?\b",
    # American spelling; `licence` is the name of a field, so only prose counts.
    r"(?<![-`'\"._\w/])licences?(?![`'\"_=:\w])",
    r"\b(?:colour|grey|centre|behaviour|favour|artefact)\w*",
    r"\b\w*(?:normalis|optimis|initialis|serialis|quantis|summaris|organis|recognis|finalis|regularis)\w*",
)

DEFINITIONS: Final = frozenset(
    {
        "ArgumentParser",
        "add_argument",
        "add_parser",
        "Counter",
        "Gauge",
        "Histogram",
        "GaugeMetricFamily",
        "CounterMetricFamily",
    }
)

OLD_NAMES: Final = """
Alone Asked Blocking Concurrent Effort Ending Judge Keeper Meter OwnBuckets PAUSES Paced Scribe Searched Speaker
Together Withheld _Chore _lay_out _said _told _wanted forget guarded halts hurry leash legible materialise
mortal outlast patience sketch station steer until_the_end
"""
"""Identifiers that were renamed and have no other meaning."""

OLD_MODULES: Final = """
bound collection delivering exporting figures leash materialise parent publication recipes rivals scribe sketch starts
steering trial_views visitor warm wires
"""


def banned(texts: Iterable[tuple[str, str]]) -> list[str]:
    """The banned phrases in texts, each with the place of its text."""
    return [
        f"{place}: {match[0]!r} in {' '.join(text[max(0, match.start() - 40) : match.end() + 40].split())!r}"
        for place, text in texts
        for pattern in BANNED
        for match in re.finditer(pattern, text, re.IGNORECASE if "Of (?" not in pattern else 0)
    ]


def check(found: list[str]) -> None:
    assert not found, "\n".join(["", *found])


def package_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def openapi_texts(value: Any, place: str = "#") -> Iterator[tuple[str, str]]:
    """The summaries and descriptions of an OpenAPI document."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if key in {"summary", "description"} and isinstance(each, str):
                yield f"{place}/{key}", " ".join(each.split())
            else:
                yield from openapi_texts(each, f"{place}/{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from openapi_texts(each, f"{place}/{index}")


def help_texts(command: Any, name: str = "paretofit") -> Iterator[tuple[str, str]]:
    """The help of a command, of its parameters and of its subcommands."""
    for text in (command.help, command.epilog, command.short_help):
        yield f"{name} --help", " ".join((text or "").split())
    for parameter in command.params:
        yield f"{name} {parameter.name}", " ".join((getattr(parameter, "help", None) or "").split())
    for child, subcommand in getattr(command, "commands", {}).items():
        yield from help_texts(subcommand, f"{name} {child}")


def page_texts() -> Iterator[tuple[str, str]]:
    """The text of page templates, and the string literals of their scripts."""
    for path in sorted((ROOT / "api" / "pages" / "templates").rglob("*.html")):
        text = re.sub(r"{#.*?#}|<!--.*?-->|{%.*?%}", " ", path.read_text(), flags=re.DOTALL)
        yield str(path.relative_to(ROOT)), " ".join(text.split())
    for path in sorted((ROOT / "api" / "pages" / "static").glob("*.js")):
        if ".min." in path.name:
            continue
        code = re.sub(r"^\s*//.*$|^\s*/?\*.*$|\s//\s.*$", "", path.read_text(), flags=re.MULTILINE)
        for literal in re.findall(r"\"((?:[^\"\\\n]|\\.)*)\"|`((?:[^`\\]|\\.)*)`", code):
            if " " in (text := " ".join(literal).strip()):
                yield str(path.relative_to(ROOT)), text


def documentation_texts() -> Iterator[tuple[str, str]]:
    """The prose of README and documentation, without code."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        prose = re.sub(r"`[^`\n]*`|\]\([^)]*\)", "`code`", text)
        for paragraph in prose.split("\n\n"):
            yield str(path.relative_to(ROOT)), " ".join(paragraph.split())


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """The calls in the package: place, name of the function, call."""
    for path in package_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node


def definition_texts() -> Iterator[tuple[str, str]]:
    """The strings in definitions of command line options, settings and metrics, and the help of commands."""
    for place, name, call in calls():
        function = name.rpartition(".")[2]
        if function in DEFINITIONS or (function == "Field" and place.startswith("core/settings.py")):
            for each in (*call.args, *(keyword.value for keyword in call.keywords)):
                yield place, " ".join(strings(each))
    for path in (path for path in package_files() if path.name == "__main__.py"):
        yield str(path.relative_to(ROOT)), " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())


def strings(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield " ".join(each.value.split())


def error_texts() -> Iterator[tuple[str, str]]:
    """The string literals of `raise` statements."""
    for path in package_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and node.exc is not None:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", " ".join(strings(node.exc))


def all_files() -> list[Path]:
    """All Python files but this one, which quotes what is banned."""
    rest = (path for folder in REST for path in (ROOT / folder).rglob("*.py") if path.name != THIS)
    return [*package_files(), *sorted(rest)]


def docstrings_and_comments() -> Iterator[tuple[str, str]]:
    for path in all_files():
        place, code = str(path.relative_to(ROOT)), path.read_text()
        for node in ast.walk(ast.parse(code)):
            # Docstrings of modules, classes, functions and constants.
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                yield f"{place}:{node.lineno}", " ".join(str(node.value.value).split())
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{place}:{node.lineno}", re.sub("(?:colour|licence)s?", "", node.name).replace("_", " ")
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type == tokenize.COMMENT:
                yield f"{place}:{token.start[0]}", token.string


def script_comments() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "api" / "pages" / "static").glob("*.js")):
        if ".min." not in path.name:
            for comment in re.findall(r"(?:^|\s)//.*|/\*.*?\*/", path.read_text()):
                yield str(path.relative_to(ROOT)), comment


def test_openapi_document() -> None:
    registry.setup()
    check(banned(openapi_texts(document())))


def test_help_of_all_commands() -> None:
    check(banned(help_texts(typer.main.get_command(app))))


def test_options_settings_and_metrics() -> None:
    check(banned(definition_texts()))


def test_log_events_are_named_noun_verbed() -> None:
    events = [
        (place, call.args[0].value)
        for place, name, call in calls()
        if re.fullmatch(r"_?log(ger)?\.(debug|info|warning|error|exception|critical)", name)
        and call.args
        and isinstance(call.args[0], ast.Constant)
    ]
    assert events
    check([f"{place}: {event!r}" for place, event in events if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", str(event))])


def test_docstrings_and_comments() -> None:
    check(banned(docstrings_and_comments()))


def test_comments_of_scripts() -> None:
    check(banned(script_comments()))


def test_pages() -> None:
    check(banned(page_texts()))


def test_documentation() -> None:
    check(banned(documentation_texts()))


def test_error_messages() -> None:
    check(banned(error_texts()))


def test_renamed_identifiers() -> None:
    names = set(OLD_NAMES.split())
    found = {
        f"{path.relative_to(ROOT)}: {token.string}"
        for path in all_files()
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        if token.type == tokenize.NAME and token.string in names
    }
    check(sorted(found))


def test_renamed_modules() -> None:
    modules = set(OLD_MODULES.split())
    check([str(path.relative_to(ROOT)) for path in package_files() if path.stem in modules])


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("'many' is no quantity", "is no quantity"),
        ("there is no such file", None),
        ("it is no longer valid", None),
        ("The caller is told so.", "is told"),
        ("Of the images.", "Of the"),
        ("Number of the images.", None),
        ("Licence of the images", "Licence"),
        ("the field `licence`", None),
        ("normalisation", "normalisation"),
    ],
)
def test_banned_phrases(text: str, phrase: str | None) -> None:
    assert [repr(phrase)] * (phrase is not None) == [
        each.split(": ", 1)[1].split(" in ")[0] for each in banned([("", text)])
    ]
