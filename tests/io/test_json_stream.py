"""JSON read element by element equals the result of the standard library, wherever blocks end."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsdflow.io import json_stream
from nsdflow.io.json_stream import iterate_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(
    content=st.dictionaries(st.text(), st.lists(VALUES, max_size=5) | VALUES, max_size=5),
    block=st.integers(1, 40),
    indent=st.none() | st.integers(0, 2),
    ascii_only=st.booleans(),
)
def test_elements_come_as_the_standard_library_reads_them(content, block, indent, ascii_only) -> None:
    data = json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    expected = [(key, item) for key, value in json.loads(data).items()
                for item in (value if isinstance(value, list) else [value])]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "READ_BYTES", block)
        assert list(iterate_json(io.BytesIO(data))) == expected


@pytest.mark.parametrize(
    "text", ["", "[1]", "{", '{"a"', '{"a": [1', '{"a": [1,]}', '{"a" 1}', '{"a": [1 2]}', '{"a": tru}']
)
def test_damaged_files(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Expecting|ends too early"):
        list(iterate_json(io.BytesIO(text.encode())))


def test_an_element_without_end_is_not_read_to_the_end_of_the_file(monkeypatch) -> None:
    monkeypatch.setattr(json_stream, "LONGEST_CHARACTERS", 1000)
    monkeypatch.setattr(json_stream, "READ_BYTES", 100)
    file = io.BytesIO(b'{"a": ["' + b"x" * 100_000)
    with pytest.raises(ValueError, match="an element of more than 1,000 characters"):
        list(iterate_json(file))
    assert file.tell() < 5000
