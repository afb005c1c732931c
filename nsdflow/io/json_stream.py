"""Large JSON files, element by element: the memory does not grow with the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

__all__ = ["iterate_json"]

#: Bytes that are read at once.
READ_BYTES: Final = 1 << 20
#: Longest element; a longer one counts as damage.
LONGEST_CHARACTERS: Final = 64 << 20
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_BEHIND: Final = frozenset(",]} \t\r\n")


def iterate_json(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON object in the order of the file; the elements of its arrays one by one.

    Parameters
    ----------
    file : binary file
        UTF-8, an object at the top level.

    Yields
    ------
    name, value
        For an array, its name and an element, for each of its elements. For anything else, its name and the value.

    Raises
    ------
    ValueError
        Not such a file, or it ends too early.

    Examples
    --------
    >>> import io
    >>> list(iterate_json(io.BytesIO(b'{"a": [1, {"b": 2}], "c": "d"}')))
    [('a', 1), ('a', {'b': 2}), ('c', 'd')]
    """
    text = _Text(file)
    text.expect("{")
    if text.peek() == "}":
        return
    while True:
        name = text.value()
        text.expect(":")
        if text.peek() == "[":
            text.expect("[")
            yield from _elements(text, str(name))
        else:
            yield str(name), text.value()
        if text.expect(",}") == "}":
            return


def _elements(text: _Text, name: str) -> Iterator[tuple[str, Any]]:
    if text.peek() == "]":
        text.expect("]")
        return
    while True:
        yield name, text.value()
        if text.expect(",]") == "]":
            return


class _Text:
    """The part of a file that is being read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._decode = file, codecs.getincrementaldecoder("utf-8-sig")().decode
        self._scan = json.JSONDecoder().raw_decode
        self._buffer, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """The next character other than a space; empty at the end of the file."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._read():
                return ""

    def expect(self, characters: str) -> str:
        """Take the next character, which must be one of these."""
        found = self.peek()
        if not found or found not in characters:
            raise ValueError(f"{found!r} where {' or '.join(characters)} is expected" if found else "it ends too early")
        self._at += 1
        return found

    def value(self) -> Any:
        """Take the next value whole."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self._buffer, self._at)
            except json.JSONDecodeError:
                if not self._read():
                    raise
                continue
            # a number may go on in the next block
            whole = not isinstance(value, int | float) or self._buffer[end : end + 1] in _BEHIND
            if (whole and end < len(self._buffer)) or not self._read():
                self._at = end
                return value

    def _read(self) -> bool:
        """Append another block to the rest of the text; False at the end of the file."""
        if self._ended:
            return False
        left = self._buffer[self._at :]
        if len(left) > LONGEST_CHARACTERS:
            raise ValueError(f"an element of more than {LONGEST_CHARACTERS:,} characters")
        # double the text, so that a long element is not scanned once per block
        block = self._file.read(max(READ_BYTES, len(left)))
        self._ended = not block
        self._buffer, self._at = left + self._decode(block, self._ended), 0
        return not self._ended
