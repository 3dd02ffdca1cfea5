"""The commands, options and names in the documentation exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import pawqueue
from contract.result_row import CSV_COLUMNS
from pawqueue.cli.app import CommandGroup, ServiceCommand, cli
from tests.support.services import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def command(name: str, group: click.Command = cli) -> click.Command:
    assert isinstance(group, click.Group)
    found = group.get_command(click.Context(group), name)
    assert found, f"there is no command {name}"
    return found.load() if isinstance(found, ServiceCommand) else found


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and text of every code block."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def calls(page: Path) -> Iterator[list[str]]:
    """The arguments of each `pawqueue` call in the code blocks without a language."""
    for language, block in blocks(page):
        for line in [] if language else block.splitlines():
            if found := re.search(r"(?:^|[|] |bin/)pawqueue ([a-z].*)", line):
                yield shlex.split(found[1].split(" | ")[0], comments=True)


def test_every_command_is_documented() -> None:
    assert isinstance(cli, CommandGroup)
    documented = set(re.findall(r"^\| `pawqueue (\w+)`", (ROOT / "docs" / "client.md").read_text(), re.MULTILINE))
    assert documented == set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documented_commands_and_options_exist(page: Path) -> None:
    for name, *words in calls(page):
        known = command(name)
        while isinstance(known, click.Group) and words:
            known = command(words.pop(0), known)
        options = {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            assert not word.startswith("-") or word == "-" or word in options, f"`{name}` has no option {word}"


def test_the_pages_contain_calls_to_check() -> None:
    assert sum(1 for page in PAGES for _ in calls(page)) >= 8


def test_the_columns_are_documented() -> None:
    words = " ".join((ROOT / "docs" / "client.md").read_text().split())
    assert ", ".join(f"`{column}`" for column in CSV_COLUMNS) in words


def test_the_python_examples_use_existing_names() -> None:
    examples = [text for language, text in blocks(ROOT / "docs" / "client.md") if language == "python"]
    assert len(examples) == 2
    for example in examples:
        compile(example, "docs/client.md", "exec")
        for name in re.findall(r"service\.(\w+)", example):
            assert hasattr(pawqueue.Pawqueue, name)
        imported = re.findall(r"from pawqueue import (.*)", example)[0]
        assert set(imported.split(", ")) <= set(pawqueue.__all__)
