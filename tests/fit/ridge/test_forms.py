"""Both forms of ridge regression against scipy."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import scipy.linalg
import torch

from nsdflow.errors import RunError
from nsdflow.fit.ridge import Form, cheaper_form, float32_suffices, floating_point_work, gram, ridge_system, scorer

LAMBDAS = (0.5, 50.0)


@pytest.mark.parametrize(("rows", "features"), [(30, 12), (12, 30)])
@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize(("repeats", "held_out"), [(0, 5), (2, 5), (5, 5), (12, 14)])
def test_operators_and_weights(rows: int, features: int, form: Form, repeats: int, held_out: int) -> None:
    generator = torch.Generator().manual_seed(0)
    train, held = (torch.randn(count, features, generator=generator) for count in (rows, held_out))
    factors = torch.rand(repeats, generator=generator) + 0.5
    held[:repeats] = factors[:, None] * train[rows - repeats :]
    responses = torch.randn(rows, 3, generator=generator)
    system = ridge_system(train, form)
    scores = scorer(system, factors)
    right, operators = scores.right(responses), list(scores.operators(held, LAMBDAS))
    for strength, operator in zip(LAMBDAS, operators, strict=True):
        plain = train.double().numpy()
        expected = scipy.linalg.solve(plain.T @ plain + strength * np.eye(features), plain.T @ responses.numpy())
        found = system.weights(responses, torch.full((3,), strength))
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_allclose(operator @ right, held.numpy() @ expected, atol=1e-4)


@pytest.mark.parametrize("form", ["primal64", "dual"])
@pytest.mark.parametrize(("rows", "features"), [(60, 25), (25, 60)])
def test_small_lambdas_of_collinear_features(rows: int, features: int, form: Form) -> None:
    """Terms that cancel are far larger than the weights, so that float32 would lose them."""
    generator = torch.Generator().manual_seed(3)
    few = torch.randn(rows + 5, 4, generator=generator)
    all_rows = few @ torch.randn(4, features, generator=generator) + 1e-2 * torch.randn(
        rows + 5, features, generator=generator
    )
    train, held = all_rows[:rows], all_rows[rows:]
    responses = torch.randn(rows, 3, generator=generator)
    plain = train.double().numpy()
    for strength in (1e-3, 1.0):
        expected = scipy.linalg.solve(
            plain.T @ plain + strength * np.eye(features), plain.T @ responses.double().numpy()
        )
        system = ridge_system(train, form)
        found = system.weights(responses, torch.full((3,), strength))
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
        scores = scorer(system)
        (operator,) = scores.operators(held, [strength])
        predicted = (operator.double() @ scores.right(responses).double()).numpy()
        np.testing.assert_allclose(predicted, held.double().numpy() @ expected, atol=2e-3 * predicted.std())


def test_where_float32_suffices() -> None:
    assert float32_suffices(2689 * 27_000, 1e3)  # the published AlexNet-fwRF
    assert not float32_suffices(73 * 27_000, 1.0)  # Gabor-fwRF, whose lambdas begin at 1


@pytest.mark.parametrize("form", get_args(Form))
def test_voxels_have_lambdas_of_their_own(form: Form) -> None:
    generator = torch.Generator().manual_seed(1)
    train, responses = torch.randn(20, 7, generator=generator), torch.randn(20, 4, generator=generator)
    strengths = torch.tensor([3.0, 0.5, 3.0, 70.0])
    system = ridge_system(train, form)
    together = system.weights(responses, strengths)
    apart = [system.weights(responses[:, v : v + 1], strengths[v : v + 1]) for v in range(4)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1))


def test_a_system_without_a_factor_gives_no_numbers() -> None:
    """Rounding hides the lambda, so neither weights nor predictions may be returned."""
    train = torch.full((4, 3), 1e10)
    (operator,) = scorer(ridge_system(train, "primal")).operators(train[:1], [1e-3])
    assert operator.isnan().all()


def test_rows_that_are_not_finite_are_refused() -> None:
    with pytest.raises(RunError, match="not finite"):
        ridge_system(torch.tensor([[1.0, torch.nan], [1.0, 2.0]]), "dual")


@pytest.mark.parametrize("count", [3, 500])
def test_gram_is_the_lower_triangle(count: int) -> None:
    rows = torch.randn(count, 5, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(gram(rows).tril(), (rows @ rows.T).tril())


def test_the_form_follows_the_shapes() -> None:
    benchmark = {"holdout": 250, "voxels": 2000, "lambdas": 9}
    assert cheaper_form(rows=900, features=2689, **benchmark) == "dual"
    assert cheaper_form(rows=900, features=2689, repeated=240, **benchmark) == "dual"
    assert cheaper_form(rows=9000, features=2689, **benchmark) == "primal"


def test_work_of_a_full_size_subject() -> None:
    """The estimate of the specification, which counts the whole of a symmetric product."""
    sizes = {"rows": 9000, "features": 2689, "holdout": 1000, "voxels": 11838, "lambdas": 9}
    half = 9000 * 2689**2
    assert floating_point_work("primal", **sizes) + half == pytest.approx(1.5e12, rel=0.1)
