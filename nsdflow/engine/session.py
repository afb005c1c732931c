"""A client for one call: that of the caller, or a cluster that starts when the first task is about to run."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsdflow.errors import ConfigError

if TYPE_CHECKING:
    from distributed import Client

    from nsdflow.monitor.events import Listener

__all__ = ["check_main_guard", "clients"]


@contextmanager
def clients(
    cluster: str | Client = "local",
    client: Client | Callable[[], Client] | None = None,
    *,
    listen: Listener | None = None,
) -> Iterator[Callable[[], Client]]:
    """Provide a client on demand, so that finished work needs no cluster.

    Parameters
    ----------
    cluster : str or distributed.Client
        As for :func:`nsdflow.cluster.connect.connect`, or a client.
    client : distributed.Client or callable, optional
        A client to use instead of ``cluster``, or a function that starts one.
    listen : callable, optional
        Receives notes about the pools and the dashboard of a cluster that is started.

    Yields
    ------
    get : callable
        Returns the client; the first call starts the cluster, which closes at the end of the block.
    """
    if callable(client):
        yield client
        return
    given = client if client is not None else None if isinstance(cluster, str) else cluster
    name = cluster if isinstance(cluster, str) else ""
    started: list[Client] = [] if given is None else [given]
    with ExitStack() as stack:

        def get() -> Client:
            if not started:
                if name == "local":
                    check_main_guard()
                from nsdflow.cluster.connect import announce, connect

                started.append(stack.enter_context(connect(name)))
                if listen is not None:
                    announce(started[0], listen)
            return started[0]

        yield get


def check_main_guard() -> None:
    """Refuse to start processes at the top level of a script, because each process would execute it again.

    Raises
    ------
    ConfigError
        Names the line of the script and what to write instead.
    """
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():  # a notebook, an interpreter, python -c
        return
    frame = inspect.currentframe()
    while frame is not None and not (frame.f_globals is vars(main) and frame.f_code.co_name == "<module>"):
        frame = frame.f_back
    if frame is None or _is_guarded(Path(file), frame.f_lineno):
        return
    raise ConfigError(
        f"{file}, line {frame.f_lineno}",
        ['write if __name__ == "__main__": above this call and indent it, or write cluster="threads": the worker '
         "processes of cluster=\"local\" execute the script's top level again"],
    )  # fmt: skip


def _is_guarded(file: Path, line: int) -> bool:
    """Whether a line of a script is inside ``if __name__ == ...``; True if the file cannot be parsed."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return True
    return any(
        isinstance(statement, ast.If)
        and statement.lineno <= line <= (statement.end_lineno or line)
        and any(_is_name(node) for node in ast.walk(statement.test))
        for statement in tree.body
    )


def _is_name(node: Any) -> bool:
    return isinstance(node, ast.Name) and node.id == "__name__"
