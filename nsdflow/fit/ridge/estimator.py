"""``RidgeCV``: exact ridge regression as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.model_selection import check_cv
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted, column_or_1d, validate_data
from torch import Tensor

from nsdflow.fit.ridge.selection import LambdaSelection, RidgeProblem
from nsdflow.fit.ridge.solver import RidgeFit, fit

__all__ = ["RidgeCV"]


class RidgeCV(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression of many targets with one lambda per target.

    The estimator minimises ``sum_i s_i (y_i - x_i'w - b)^2 + lambda |w|^2`` for each target, with samples i, features
    x_i (n_features,), targets y_i, sample weights s_i, weights w (n_features,) and intercept b. It uses the primal or
    the dual form, whichever has the smaller system.

    Parameters
    ----------
    lambdas : sequence of float
        Candidate lambdas.
    cv : {"gcv", "loo"}, int or splitter, default="gcv"
        Selection of lambda: generalised cross-validation or leave-one-out (both in closed form), a number of folds, or
        any splitter of scikit-learn (``GroupKFold`` needs ``fit(X, y, groups=...)``).
    fit_intercept : bool, default=True
        Fit an unpenalised intercept.
    standardise : bool, default=False
        Divide features by their standard deviation.
    precision : {"auto", "float32", "float64"}, default="auto"
        Precision of the system. ``auto`` is float64 for float64 data. For other data it is float32 if rounding is far
        below the smallest lambda, else float64.
    device : str, default="cpu"
        Device of the system and of all products, such as ``cuda``.

    Attributes
    ----------
    lambda_ : float or numpy.ndarray of shape (n_targets,)
        Selected lambda per target.
    coef_ : numpy.ndarray of shape (n_features,) or (n_targets, n_features)
        Weights of raw features, computed on each access.
    intercept_ : float or numpy.ndarray of shape (n_targets,)
        Intercept per target.
    dual_coef_ : numpy.ndarray of shape (n_samples, n_targets) or None
        Coefficients of the training samples; None in the primal form.

    Notes
    -----
    ``X`` and ``y`` may be NumPy arrays, torch tensors or xarray DataArrays. Predictions have the type of ``X``. A
    DataArray has the first dimension of ``X`` and the last dimension of ``y``, with their coordinates.

    Examples
    --------
    >>> from nsdflow.fit.ridge import RidgeCV
    >>> RidgeCV(lambdas=[1, 10, 100]).fit(features, responses).predict(features)  # doctest: +SKIP
    """

    def __init__(
        self,
        lambdas: Sequence[float] = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5),
        *,
        cv: Any = "gcv",
        fit_intercept: bool = True,
        standardise: bool = False,
        precision: str = "auto",
        device: str = "cpu",
    ) -> None:
        self.lambdas = lambdas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.standardise = standardise
        self.precision = precision
        self.device = device

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> RidgeCV:
        """Select lambda per target and fit the model.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Features.
        y : array of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Weight of each sample, for example the number of trials averaged in a row of ``y``. Samples of weight 0 are
            dropped.
        groups : array of shape (n_samples,), optional
            Group of each sample, for splitters that keep groups together.

        Returns
        -------
        RidgeCV
            The fitted estimator.

        Raises
        ------
        ValueError
            Data do not fit together, or labels of the samples of two DataArrays differ.
        """
        _check_same_samples(X, y)
        self._labels = _labels(y)
        kind = {"dtype": [np.float64, np.float32], "multi_output": True, "y_numeric": True}
        X, y = validate_data(self, _plain(X), _plain(y), **kind)
        y = np.asarray(y, X.dtype)
        weight = np.ones(len(X))
        if sample_weight is not None:
            weight = check_array(column_or_1d(sample_weight), ensure_2d=False, dtype=np.float64)
            check_consistent_length(X, weight)
        used = weight > 0
        if not used.any():
            raise ValueError("all sample weights are zero; give some samples a positive weight")
        folds = self._folds(X, y, groups)
        folds = None if folds is None else [mark[torch.as_tensor(used)] for mark in folds]
        X, y, weight = X[used], y[used], weight[used]
        self._flat = y.ndim == 1
        targets = y[:, None] if self._flat else y
        method: Any = self.cv if isinstance(self.cv, str) else "kfold"
        precision: Any = "float64" if self.precision == "auto" and X.dtype == np.float64 else self.precision
        problem = RidgeProblem(
            tuple(float(strength) for strength in self.lambdas),
            LambdaSelection(method),
            intercept=self.fit_intercept,
            standardise=self.standardise,
            precision=precision,
        )
        data = torch.as_tensor(np.ascontiguousarray(X)), torch.as_tensor(np.ascontiguousarray(targets))
        self.fit_: RidgeFit = fit(*data, problem, weights=torch.as_tensor(weight), folds=folds, device=self.device)
        self._X = data[0] if self.fit_.form == "dual" else None
        chosen = self.fit_.lambda_.numpy()
        self.lambda_ = float(chosen[0]) if self._flat else chosen
        return self

    def _folds(self, X: Any, y: Any, groups: Any) -> list[Tensor] | None:
        if isinstance(self.cv, str):
            if self.cv not in ("gcv", "loo"):
                raise ValueError(f"cv must be gcv, loo, a number of folds or a splitter, received {self.cv!r}")
            return []
        folds = []
        for _, held in check_cv(self.cv).split(X, y, groups):
            mark = torch.zeros(len(X), dtype=torch.bool)
            mark[torch.as_tensor(np.asarray(held))] = True
            folds.append(mark)
        return folds

    def predict(self, X: Any) -> Any:
        """Predict targets of shape (n_samples,) or (n_samples, n_targets), in the type of ``X``."""
        check_is_fitted(self, "fit_")
        given = X
        X = validate_data(self, _plain(X), dtype=[np.float64, np.float32], reset=False)
        found = self.fit_.predict(torch.as_tensor(np.ascontiguousarray(X, self.fit_.bias.numpy().dtype)), self._X)
        values = found[:, 0] if self._flat else found
        return values if isinstance(given, Tensor) else _labelled(values.numpy(), given, self._labels)

    @property
    def coef_(self) -> Any:
        """Weights of raw features."""
        weights = self.fit_.weights(self._X)[0].numpy()
        return weights[:, 0] if self._flat else weights.T

    @property
    def intercept_(self) -> Any:
        """Intercept per target."""
        intercept = self.fit_.weights(self._X)[1].numpy()
        return float(intercept[0]) if self._flat else intercept

    @property
    def dual_coef_(self) -> Any:
        """Coefficients of the training samples; None in the primal form."""
        if self.fit_.form == "primal" or self.fit_.coefficients is None:
            return None
        return self.fit_.coefficients.numpy()


def _plain(values: Any) -> Any:
    """Convert tensors and DataArrays to the arrays that scikit-learn validates."""
    if isinstance(values, Tensor):
        return values.detach().cpu().numpy()
    return values.values if _is_labelled(values) else values


def _is_labelled(values: Any) -> bool:
    """Whether values are a DataArray."""
    return hasattr(values, "dims") and hasattr(values, "coords")


def _check_same_samples(X: Any, y: Any) -> None:
    """Raise a ValueError if the samples of two DataArrays have other labels, or come in another order."""
    if not (_is_labelled(X) and _is_labelled(y)):
        return
    for name in X.coords.keys() & y.coords.keys():
        ours, theirs = X.coords[name], y.coords[name]
        if ours.dims == X.dims[:1] and theirs.dims == y.dims[:1] and not np.array_equal(ours, theirs):
            raise ValueError(f"X and y have other values of {name}, or another order; select the same samples of both")


def _labels(y: Any) -> Any:
    """Return the target dimension and coordinates of a DataArray, else None."""
    if not _is_labelled(y):
        return None
    last = y.dims[1:]
    return last, {name: coord for name, coord in y.coords.items() if coord.dims == last}


def _labelled(values: Any, X: Any, labels: Any) -> Any:
    """Convert predictions to the type of ``X``. A DataArray gets the coordinates of samples and targets."""
    if not _is_labelled(X):
        return values
    last, coords = labels if labels is not None else (("target",)[: values.ndim - 1], {})
    rows = {name: coord for name, coord in X.coords.items() if coord.dims == X.dims[:1]}
    return type(X)(values, dims=(X.dims[0], *last), coords={**rows, **coords})
