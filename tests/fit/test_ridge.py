"""Both forms of ridge regression against scipy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import scipy.linalg
import torch

from nsdflow.fit.ridge import Form, cheaper_form, floating_point_work, holdout_operators, ridge_weights

LAMBDAS = (0.5, 50.0)


@pytest.mark.parametrize(("rows", "features"), [(30, 12), (12, 30)])
@pytest.mark.parametrize("form", get_args(Form))
def test_operators_and_weights(rows: int, features: int, form: Form) -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(rows, features, generator=generator)
    held = torch.randn(5, features, generator=generator)
    responses = torch.randn(rows, 3, generator=generator)
    right = train.T @ responses if form == "primal" else responses
    operators = list(holdout_operators(train, held, LAMBDAS, form))
    weights = list(ridge_weights(train, [responses] * len(LAMBDAS), LAMBDAS, form))
    for strength, operator, found in zip(LAMBDAS, operators, weights, strict=True):
        plain = train.double().numpy()
        expected = scipy.linalg.solve(plain.T @ plain + strength * np.eye(features), plain.T @ responses.numpy())
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_allclose(operator @ right, held.numpy() @ expected, atol=1e-4)


def test_the_form_follows_the_shapes() -> None:
    benchmark = {"holdout": 250, "voxels": 2000, "lambdas": 9}
    assert cheaper_form(rows=900, features=2689, **benchmark) == "dual"
    assert cheaper_form(rows=9000, features=2689, **benchmark) == "primal"


def test_work_of_a_full_size_subject() -> None:
    sizes = {"rows": 9000, "features": 2689, "holdout": 1000, "voxels": 11838, "lambdas": 9}
    assert floating_point_work("primal", **sizes) == pytest.approx(1.5e12, rel=0.1)
