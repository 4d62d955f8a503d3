"""The code blocks of the documentation, and how each kind is run as it stands."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from lem_pipeline.settings import PROFILES, AsWritten, settings, settings_of

REPOSITORY = Path(__file__).parents[1]
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md")))
REPLAY = "http://127.0.0.1:8900"  # where the pages say that `make replay` answers


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page, from the repository's root.
        line: Where its text begins, counted from 1.
        language: First word of its info string.
        file: Second word: the file that a reader would save it as; empty where it has none.
        text: Its text.
    """

    page: str
    line: int
    language: str
    file: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.language}"


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page, in its order."""
    tokens = MarkdownIt().parse((REPOSITORY / page).read_text())
    return [
        Block(page, token.map[0] + 2, *(*token.info.split(), "", "")[:2], token.content)
        for token in tokens
        if token.type == "fence" and token.map
    ]


def documented(page: str, definition: str) -> Any:
    """A class that a Python block of a page defines."""
    (block,) = (each for each in blocks(page) if re.search(rf"^class {definition}\b", each.text, re.MULTILINE))
    return run_python(block, {"__name__": f"documented.{definition}"})[definition]


def run_python(block: Block, namespace: dict[str, Any]) -> dict[str, Any]:
    """Execute a block; a traceback names the line of the page."""
    exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), namespace)
    return namespace


def patched(text: str, diff: str) -> str:
    """A file after a diff whose hunks carry no line numbers: each has one place where it fits."""
    for hunk in diff.partition("@@\n")[2].split("@@\n"):
        before, after = (
            "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in kept) for kept in (" -", " +")
        )
        assert text.count(before) == 1, f"this is not there, or not once:\n{before}"
        text = text.replace(before, after)
    return text


@dataclass
class Reader:
    """Somebody who follows a page in a folder of their own, where ``make demo`` has run.

    Attributes:
        folder: The folder.
        replay: Address of a replay that runs.
        namespace: What Python blocks have defined.
        exported: What ``export`` has set for the rest of the page.
    """

    folder: Path
    replay: str
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    exported: dict[str, str] = field(default_factory=dict)

    def follow(self, block: Block) -> None:
        """Run a block of a language that is known here."""
        if block.file:
            (self.folder / block.file).write_text(block.text)
        getattr(self, f"_{block.language or 'unnamed'}")(block)

    def _python(self, block: Block) -> None:
        run_python(block, self.namespace)

    def _sql(self, block: Block) -> None:
        with duckdb.connect("var/demo/readers.duckdb", read_only=True) as readers:
            readers.execute(block.text)
            assert readers.description, "no statement that answers"

    def _json(self, block: Block) -> None:
        json.loads(block.text)

    def _jsonl(self, block: Block) -> None:
        assert [json.loads(line) for line in block.text.splitlines()]

    def _toml(self, block: Block) -> None:
        """A whole profile where it has a file's name, else some settings over those of the demo."""
        demo = {} if block.file else tomllib.loads((PROFILES / "demo.toml").read_text())
        AsWritten(**{"profile": block.file} | demo | tomllib.loads(block.text))

    def _text(self, block: Block) -> None:
        """A list of places in the repository."""
        for line in block.text.splitlines():
            assert (REPOSITORY / line.split()[0]).exists(), line

    def _diff(self, block: Block) -> None:
        (name,) = re.findall(r"^\+\+\+ b/(.*)$", block.text, re.MULTILINE)
        patched((REPOSITORY / name).read_text(), block.text)

    def _mermaid(self, block: Block) -> None:
        """Drawn from the definitions, by ``make docs``."""

    def _sh(self, block: Block) -> None:
        for line in block.text.replace("\\\n", " ").splitlines():
            self._command(line)

    def _command(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        given = dict(_assignments(words))
        match words[len(given) :]:
            case []:
                assert not given, f"{line} sets variables for nothing"
            case ["export", *assignments]:
                self.exported |= dict(_assignments(assignments))
            case ["make", *arguments]:
                assert not _failure(["make", "--dry-run", *arguments], REPOSITORY), line
            case ["lem" | ".venv/bin/lem", "run" | "sweep", "--profile", profile]:
                self._can_run(profile)
            case ["lem" | ".venv/bin/lem", *arguments]:
                self._lem(arguments, given, _exit_code(line))
            case _:
                command = line.replace(REPLAY, self.replay)
                assert not (said := _failure(["bash", "-euc", command], self.folder, self.exported)), said

    def _can_run(self, profile: str) -> None:
        """All that the job needs: settings that hold, and instruments that their sources know."""
        from lem_pipeline.defs.resources import bar_sources

        chosen = settings_of(profile)
        for name, source in bar_sources(chosen).items():
            source.check(chosen.market(name).instruments)

    def _lem(self, arguments: list[str], given: Mapping[str, str], expected: int) -> None:
        from lem_pipeline.cli import app

        settings.cache_clear()
        done = CliRunner().invoke(app, arguments, env={**self.exported, **given})
        assert done.exit_code == expected, f"lem {shlex.join(arguments)}: {done.output} {done.exception!r}"


def _assignments(words: list[str]) -> Iterator[tuple[str, str]]:
    for word in words:
        if not (found := re.fullmatch(r"([A-Z_]+)=(.*)", word)):
            return
        yield found[1], os.path.expandvars(found[2])


def _exit_code(line: str) -> int:
    found = re.search(r"# exit code (\d)", line)
    return int(found[1]) if found else 0


def _failure(command: list[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """What a command that failed has said; empty where it did not."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return f"{shlex.join(command)}: {done.stdout} {done.stderr}" if done.returncode else ""


def venv_beside(folder: Path) -> None:
    """The environment of the tests, where a reader has the one that make built."""
    (folder / ".venv").symlink_to(sys.prefix)
