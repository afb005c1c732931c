"""The solver computes on any device: nothing of the CPU is mixed with its tensors, and values are the same."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from nsdflow.fit.ridge import LambdaSelection, RidgeProblem, fit
from tests.fit.ridge.pretend import pretended_gpu
from tests.fit.ridge.test_ridge import LAMBDAS, planted

FORMS = [*product(["primal", "dual"], ["holdout", "kfold", "loo", "gcv"])]


def same_on(device: torch.device | str, form: str, method: str, precision: str = "auto") -> None:
    X, shown, Y = planted(40, 60 if form == "dual" else 20, repeats=2.4)
    problem = RidgeProblem(
        LAMBDAS, LambdaSelection(method, folds=3), form=form, precision=precision, features_at_once=16, voxels_at_once=3
    )
    here = fit(X, Y, problem, images=shown)
    there = fit(X, Y, problem, images=shown, device=device)
    assert there.loss.device.type == there.statistics.mean.device.type == "cpu"
    assert torch.equal(here.lambda_, there.lambda_)
    torch.testing.assert_close(there.loss, here.loss, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(there.predict(X, X), here.predict(X, X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("form", "method"), FORMS)
def test_nothing_of_the_cpu_is_mixed_in(form: str, method: str) -> None:
    with pretended_gpu() as device:
        same_on(device, form, method)


def test_the_pretended_device_refuses_tensors_of_the_cpu() -> None:
    with pretended_gpu() as device:
        there = torch.ones(3, device=device)
        assert there.sum().item() == 3
        assert (2 * there).cpu().tolist() == [2.0, 2.0, 2.0]
        with pytest.raises(RuntimeError, match="on the CPU and on the pretended device"):
            there + torch.ones(3)


@pytest.mark.gpu
@pytest.mark.parametrize(("form", "method"), FORMS)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_gpu_chooses_the_same_lambdas(form: str, method: str, precision: str) -> None:
    same_on("cuda", form, method, precision)
