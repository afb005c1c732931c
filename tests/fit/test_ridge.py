"""Both forms of ridge regression against scipy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import scipy.linalg
import torch

from nsdflow.fit.ridge import Form, cheaper_form, floating_point_work, gram, holdout_operators, ridge_weights

LAMBDAS = (0.5, 50.0)


@pytest.mark.parametrize(("rows", "features"), [(30, 12), (12, 30)])
@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("repeats", [0, 2, 5], ids="{} repeated".format)
def test_operators_and_weights(rows: int, features: int, form: Form, repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    train, held = (torch.randn(count, features, generator=generator) for count in (rows, 5))
    factors = torch.rand(repeats, generator=generator) + 0.5
    held[:repeats] = factors[:, None] * train[rows - repeats :]
    responses = torch.randn(rows, 3, generator=generator)
    right = train.T @ responses if form == "primal" else responses
    operators = list(holdout_operators(train, held, LAMBDAS, form, factors))
    for strength, operator in zip(LAMBDAS, operators, strict=True):
        plain = train.double().numpy()
        expected = scipy.linalg.solve(plain.T @ plain + strength * np.eye(features), plain.T @ responses.numpy())
        found = ridge_weights(train, responses, torch.full((3,), strength), form)
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_allclose(operator @ right, held.numpy() @ expected, atol=1e-4)


@pytest.mark.parametrize("form", get_args(Form))
def test_voxels_have_lambdas_of_their_own(form: Form) -> None:
    generator = torch.Generator().manual_seed(1)
    train, responses = torch.randn(20, 7, generator=generator), torch.randn(20, 4, generator=generator)
    strengths = torch.tensor([3.0, 0.5, 3.0, 70.0])
    together = ridge_weights(train, responses, strengths, form)
    apart = [ridge_weights(train, responses[:, v : v + 1], strengths[v : v + 1], form) for v in range(4)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1))


@pytest.mark.parametrize("count", [3, 500])
def test_gram_is_the_lower_triangle(count: int) -> None:
    rows = torch.randn(count, 5, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(gram(rows).tril(), (rows @ rows.T).tril())


def test_the_form_follows_the_shapes() -> None:
    benchmark = {"holdout": 250, "voxels": 2000, "lambdas": 9}
    assert cheaper_form(rows=900, features=2689, **benchmark) == "dual"
    assert cheaper_form(rows=9000, features=2689, **benchmark) == "primal"


def test_work_of_a_full_size_subject() -> None:
    sizes = {"rows": 9000, "features": 2689, "holdout": 1000, "voxels": 11838, "lambdas": 9}
    assert floating_point_work("primal", **sizes) == pytest.approx(1.5e12, rel=0.1)
