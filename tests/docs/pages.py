"""Runs pages of the documentation as programs: their blocks, and the outputs that the pages show."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from markdown_it import MarkdownIt
from matplotlib.figure import Figure

from nsdflow.cli import main
from tests.docs.outputs import differences

__all__ = ["Block", "blocks", "run_page"]

LANGUAGES = ("python", "bash", "yaml", "text")
#: Blocks that only lay out a page. Code is in colon fences or outside of them, so none is hidden in these.
DIRECTIVE = re.compile(r"\{(toctree|eval-rst|include|math|figure|image)\}.*", re.DOTALL)
OPTED_OUT = re.compile(r"(python|bash|yaml) no-run: (\S+ ){2,}\S+")
SECONDS = 240


@dataclass(frozen=True)
class Block:
    """One fenced block: its place (lines from 1, including the fences), the text of its fence, and its content."""

    page: Path
    line: int
    end: int
    info: str
    text: str

    @property
    def action(self) -> str:
        """The language to run or parse it as, ``shown`` or ``layout``; ``undeclared`` is a mistake of the page."""
        if DIRECTIVE.fullmatch(self.info):
            return "layout" if "```" not in self.text else "undeclared"
        if OPTED_OUT.fullmatch(self.info):
            return "shown"
        return self.info if self.info in LANGUAGES else "undeclared"

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line} ({self.info or 'no language'})"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a Markdown page, in order, also those inside lists and colon fences."""
    for token in MarkdownIt("commonmark").parse(page.read_text()):
        assert token.type != "code_block", f"{page.name}:{token.map}: an indented block declares nothing"
        if token.type == "fence":
            assert token.map is not None
            yield Block(page, token.map[0] + 1, token.map[1], token.info.strip(), token.content)


def run_python(block: Block, namespace: dict[str, object]) -> None:
    """Run a block so that a traceback names the page and its line; print the value of its last line, if it has one."""
    tree = ast.parse("\n" * block.line + block.text, str(block.page))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(block.page), "exec"), namespace)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), str(block.page), "eval"), namespace)
        if value is not None and not isinstance(value, Figure):  # a notebook draws it
            print(repr(value))


def run_bash(block: Block) -> None:
    """Run a block in the current folder: commands of nsdflow in this process, which spares their imports."""
    commands = [shlex.split(line, comments=True) for line in block.text.replace("\\\n", " ").splitlines()]
    commands = [words for words in commands if words]
    if all(words[0] == "nsdflow" and not {"|", ">", "&&", ";"} & set(words) for words in commands):
        for words in commands:
            status = run_here(words)
            assert status == 0, f"{block}: {shlex.join(words)}: exit status {status}"
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{block}: exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    print(done.stdout, end="")


def run_here(words: list[str]) -> int:
    """The exit status of one command of nsdflow."""
    before, sys.argv = sys.argv, words
    try:
        main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    finally:
        sys.argv = before
    return 0


def run_page(page: Path, *, write: bool = False) -> None:
    """Run every block of a page in order, and compare its output with the ``text`` block right below it.

    Parameters
    ----------
    page : Path
        The page.
    write : bool
        Write the outputs into the page instead of comparing them.
    """
    namespace: dict[str, object] = {"__name__": "__main__"}
    lines = page.read_text().splitlines()
    found = list(blocks(page))
    changes: list[tuple[Block, Block | None, str]] = []
    for block, after in zip(found, [*found[1:], None], strict=False):
        if block.action == "yaml":
            yaml.safe_load(block.text)
        if block.action not in ("python", "bash"):
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            run_python(block, namespace) if block.action == "python" else run_bash(block)
        text = printed.getvalue().replace(f"{Path.cwd()}/", "")  # the name of the reader's folder is arbitrary
        below = after and after.info == "text" and not "".join(lines[block.end : after.line - 1]).strip()
        output = after if below else None
        problem = differences(output.text if output else "", text)
        if problem and write:
            changes.append((block, output, text))
        else:
            assert not problem, f"{block}: the page shows another output:\n{problem}"
    for block, output, text in reversed(changes):
        below_it = [line.rstrip() for line in text.strip("\n").splitlines()]
        lines[block.end : output.end if output else block.end] = ["```text", *below_it, "```"]
    if changes:
        page.write_text("\n".join(lines) + "\n")
