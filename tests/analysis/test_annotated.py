"""Feature spaces of the annotations against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from nsdflow.analysis import ANNOTATION_SPACES, annotation_features
from nsdflow.errors import SelectionError

TABLE = xr.Dataset(
    {
        "instances": (("image", "category"), np.array([[0, 3, 0], [1, 0, 0], [0, 0, 1]], np.uint16)),
        "area": (("image", "category"), np.array([[0, 0.5, 0], [0.25, 0, 0], [0, 0, 0.1]], np.float32)),
        "captions": (("image", "caption"), np.array([["A dog.", "Dog, dog!"], ["a cat", ""], ["the dog", ""]], object)),
    },
    coords={
        "nsd_id": ("image", [5, 2, 9]),
        "category": np.array(["cat", "dog", "oven"], object),
        "supercategory": ("category", np.array(["animal", "animal", "appliance"], object)),
    },
)

EXPECTED = {
    "categories": (["cat", "dog", "oven"], [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
    "instances": (["cat", "dog", "oven"], [[0, np.log(4), 0], [np.log(2), 0, 0], [0, 0, np.log(2)]]),
    "area": (["cat", "dog", "oven"], [[0, 0.5, 0], [0.25, 0, 0], [0, 0, 0.1]]),
    "supercategories": (["animal", "appliance"], [[1, 0], [1, 0], [0, 1]]),
    "captions": (["a", "dog"], [[0.5, 1], [1, 0], [0, 1]]),
}


@pytest.mark.parametrize("space", ANNOTATION_SPACES)
def test_spaces_by_hand(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsdflow.analysis.features.annotated.WORD_IMAGES", 2)
    found = annotation_features(TABLE, space)
    labels, values = EXPECTED[space]
    assert found["label"].values.tolist() == labels
    np.testing.assert_array_equal(found["nsd_id"], [5, 2, 9])
    np.testing.assert_allclose(found, values, rtol=1e-6)


def test_what_is_missing_gets_one_line() -> None:
    with pytest.raises(SelectionError, match="no captions, of which captions is made"):
        annotation_features(TABLE.drop_vars("captions"), "captions")
    with pytest.raises(SelectionError, match="categories"):
        annotation_features(TABLE, "category")
