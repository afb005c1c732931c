"""Messages about unknown names."""

from __future__ import annotations

import pytest

from nsdflow.errors import one_of


@pytest.mark.parametrize(
    ("asked", "names", "message"),
    [
        ("v1", ["V1", "V2"], "unknown ROI 'v1'; available: V1, V2"),
        ("sess", ["session"], "unknown ROI 'sess'; available: session (did you mean 'session'?)"),
        ("subj99", ["subj01", "subj02"], "unknown ROI 'subj99'; available: subj01, subj02"),
        ("12", ["1", "2"], "unknown ROI '12'; available: 1, 2"),
        (
            "layer7x",
            [f"layer{n}" for n in range(90)],
            "unknown ROI 'layer7x'; nearest: layer7, layer87, layer79 (of 90)",
        ),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_no_guess_between_numbers(
    asked: str, names: list[str], message: str
) -> None:
    assert str(one_of("ROI", asked, names)) == message
