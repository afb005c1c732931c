"""Every way in which one file of a folder can be broken, in turn."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

from nsdflow.errors import NsdflowError

#: Longest reading of a tiny folder; a pipe or a device would be read for ever.
HANGS_AFTER_S = 30


def _flip(file: Path, data: bytes, draw: random.Random) -> None:
    changed = bytearray(data or b"\0")
    changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    file.write_bytes(changed)


#: Each puts something in the place of a file that was removed; ``data`` were its content.
DAMAGES: Mapping[str, Callable[[Path, bytes, random.Random], object]] = {
    "removed": lambda file, data, draw: None,
    "cut": lambda file, data, draw: file.write_bytes(data[: draw.randrange(max(1, len(data)))]),
    "emptied": lambda file, data, draw: file.write_bytes(b""),
    "bit flipped": _flip,
    "lengthened": lambda file, data, draw: file.write_bytes(data + bytes(17)),
    "zeros": lambda file, data, draw: file.write_bytes(bytes(len(data))),
    "a folder": lambda file, data, draw: file.mkdir(),
    "a pipe": lambda file, data, draw: os.mkfifo(file),
    "a link to a device": lambda file, data, draw: file.symlink_to("/dev/zero"),
    "a link to nothing": lambda file, data, draw: file.symlink_to("nothing"),
    "a link to itself": lambda file, data, draw: file.symlink_to(file.name),
}


@contextmanager
def _in_time(what: str) -> Iterator[None]:
    def fail(*_: object) -> None:
        raise TimeoutError(what)

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANGS_AFTER_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damage_each_file(
    root: Path, readers: Mapping[str, Callable[[], object]], *, ways: int | None = None, seed: int = 0
) -> Counter[str]:
    """Damage each file below a folder in each way (or in some ways, in turn), and read everything.

    A reader returns what it returned for the whole folder, or raises an error of one line; nothing hangs.

    Returns
    -------
    Counter of str
        How often a damage was noticed, by its kind.
    """
    draw, noticed, unclear = random.Random(seed), Counter[str](), list[str]()
    in_turn = cycle(DAMAGES)
    whole = {name: read() for name, read in readers.items()}
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for kind in islice(in_turn, ways or len(DAMAGES)):
            file.unlink()
            DAMAGES[kind](file, data, draw)
            for name, read in readers.items():
                what = f"{name} of {file.relative_to(root)}: {kind}, seed {seed}"
                try:
                    with _in_time(what):
                        assert read() == whole[name], f"other values from {what}"
                except NsdflowError as error:
                    unclear += [f"{what}: {error}"] if "\n" in str(error) else []
                    noticed[kind] += 1
                except Exception as error:
                    raise AssertionError(f"{what}: {error!r}") from error
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            else:
                file.unlink(missing_ok=True)
            file.write_bytes(data)
    assert not unclear
    return noticed
