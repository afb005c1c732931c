"""Stored coefficients of a linear run: predictions of any images from them, and the model with weights.

A run is a sum of terms: the best layer of each voxel (ridge), or every band (banded ridge). ``coefficients/`` in the
run folder holds, per subject and term, the statistics of the features, and matrices (image, voxel) or (feature, voxel)
by blocks of voxels. Dual coefficients predict with the products of features with those of the training images; weights
are never made for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from nsdflow.errors import RunError, SelectionError
from nsdflow.fit.ridge.inputs import FeatureStatistics, as_tensor, blocks
from nsdflow.fit.ridge.products import cross_products
from nsdflow.io.tensors import load_tensors, save_tensors
from nsdflow.models.networks.reduce import FeatureRows  # a field of a record
from nsdflow.models.networks.travel import pack_network
from nsdflow.models.saved.parts import pack_about
from nsdflow.pipelines.common.earlier import run_settings
from nsdflow.pipelines.features.settings import FeaturesPipeline, runs_named
from nsdflow.pipelines.features.tasks import PROJECTION, open_rows
from nsdflow.pipelines.ridge.matrix import read_matrix, write_matrix

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from numpy.typing import NDArray
    from torch import Tensor

    from nsdflow.pipelines.features.source import FeatureTable
    from nsdflow.runs.folder import RunFolder

__all__ = ["MODEL_BYTES", "LinearModel", "Term", "TermPlace", "keep_model", "open_rows_of", "open_term"]

#: Largest size of weights that a run keeps in ``model.safetensors`` by default.
MODEL_BYTES = 1 << 30
#: Features per product.
FEATURES_AT_ONCE = 2048


@dataclass(frozen=True)
class TermPlace:
    """Place of the coefficients of one term of one subject."""

    folder: str
    """Folder of the run."""
    subject: str
    number: int
    """Number of the layer or band."""

    @property
    def url(self) -> str:
        """Folder of the term."""
        return f"{self.folder}/coefficients/{self.subject}/{self.number:03d}"

    def keep_statistics(self, statistics: FeatureStatistics, images: NDArray[np.int64], *, dual: bool) -> None:
        """Write the statistics of the features, and the training images (image,) in the order of coefficients."""
        state = {"mean": statistics.mean, "std": statistics.std, "dual": torch.tensor(dual)}
        save_tensors(f"{self.url}/statistics.safetensors", state | {"images": torch.from_numpy(images)})

    def keep(self, start: int, coefficients: Tensor) -> None:
        """Write the coefficients (side, voxel) of the block of voxels that begins with ``start``."""
        write_matrix(f"{self.url}/{start:06d}", coefficients)


@dataclass(frozen=True)
class Term:
    """One layer or band of one subject, with the voxels that it predicts."""

    table: FeatureTable
    statistics: FeatureStatistics
    images: NDArray[np.int64]
    """(image,) ids of the training images."""
    dual: bool
    urls: tuple[str, ...]
    """Matrices of coefficients."""
    columns: tuple[Tensor, ...]
    """Voxels (voxel,) of each matrix."""
    scale: Tensor | None = None
    """(voxel of the subject,) factors of the coefficients."""

    def check(self, X: Tensor) -> None:
        """Raise a RunError if X (image, feature) does not have the features of the fit."""
        if X.shape[1] != len(self.statistics.mean):
            raise RunError(
                f"{self.table.name}: {X.shape[1]} features of these images, {len(self.statistics.mean)} in the fit; "
                "use images of the size of its store, and the features run as it was"
            )

    def add_predictions(self, X: Tensor, predictions: Tensor) -> None:
        """Add this term's part for features X (image, feature) to predictions (image, voxel)."""
        self.check(X)
        if self.dual:
            rows = self.table.rows_of(self.images)
            R = cross_products(rows, torch.arange(len(self.images)), X, self.statistics, at_once=FEATURES_AT_ONCE)
        else:
            R = self.statistics.apply(X.clone(), slice(None))
        for url, columns in zip(self.urls, self.columns, strict=True):
            predictions[:, columns] += R @ self._scaled(read_matrix(url), columns)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weights (feature, voxel) of raw features, and the voxels (voxel,) that they predict."""
        C = torch.cat(
            [self._scaled(read_matrix(url), columns) for url, columns in zip(self.urls, self.columns, strict=True)], 1
        )
        W = C
        if self.dual:
            rows, W = self.table.rows_of(self.images), torch.empty(self.table.count, C.shape[1])
            for columns in blocks(self.table.count, FEATURES_AT_ONCE):
                W[columns] = self.statistics.apply(as_tensor(rows[:, columns]).clone(), columns).T @ C
        return W / self.statistics.std[:, None], torch.cat(self.columns)

    def _scaled(self, coefficients: Tensor, columns: Tensor) -> Tensor:
        return coefficients if self.scale is None else coefficients * self.scale[columns]


def open_term(
    place: TermPlace, table: FeatureTable, columns: Mapping[int, Tensor], scale: Tensor | None = None
) -> Term:
    """Open the coefficients of a term.

    Parameters
    ----------
    place : TermPlace
        Where they lie.
    table : FeatureTable
        Features of the training images.
    columns : mapping of int to Tensor
        Voxels of the subject in each block, by its first voxel. Blocks without voxels are left out.
    scale : Tensor, optional
        (voxel,) factors.
    """
    state = load_tensors(f"{place.url}/statistics.safetensors")
    full = {start: voxels for start, voxels in columns.items() if len(voxels)}
    return Term(
        table,
        FeatureStatistics(state["mean"], state["std"]),
        state["images"].numpy(),
        bool(state["dual"]),
        tuple(f"{place.url}/{start:06d}" for start in full),
        tuple(full.values()),
        scale,
    )


@dataclass(frozen=True)
class LinearModel:
    """The terms of one subject, and the source of their features: networks, or tables with a row per image."""

    name: str
    terms: tuple[Term, ...]
    sources: tuple[tuple[FeatureRows | None, str], ...]
    """Network and layer of each term; None where features come from a file or from annotations."""
    bias: Tensor
    voxels: xr.Dataset
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # immutable

    def to(self, device: torch.device) -> LinearModel:
        """Return the model with its networks on a device; products stay on the CPU."""
        for rows, _ in self.sources:
            if rows is not None:
                rows.to(device)
        return replace(self, device=device)

    def check_size(self, images: Tensor) -> None:
        """Raise a RunError for images whose features are not those of the fit."""
        for term, (rows, layer) in zip(self.terms, self.sources, strict=True):
            if rows is not None:
                term.check(self._features(rows, layer, images[:1], 1))

    @torch.inference_mode()
    def predict(
        self, images: Tensor, *, batch_size: int, nsd_id: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Predictions (image, voxel) of images (image, 3, y, x), uint8.

        Raises
        ------
        SelectionError
            Features come from a file, and it lacks an image, or the images are not those of NSD.
        """
        predictions = self.bias.repeat(len(images), 1)
        for term, (rows, layer) in zip(self.terms, self.sources, strict=True):
            if rows is not None:
                X = self._features(rows, layer, images, batch_size)
            elif nsd_id is None:
                raise SelectionError(
                    f"{self.name}: features come from a file, with a row per image of NSD; other images have none"
                )
            else:
                X = torch.from_numpy(term.table.rows_of(nsd_id)[:, 0 : term.table.count])
            term.add_predictions(X, predictions)
        return predictions.numpy()

    def _features(self, rows: FeatureRows, layer: str, images: Tensor, batch_size: int) -> Tensor:
        place = rows.layers.index(layer)
        return torch.cat([rows(some.to(self.device))[place] for some in images.split(batch_size)])


def open_rows_of(features: str, folder: RunFolder) -> FeatureRows | None:
    """The network of a features run beside ``folder``; None for a file or annotations."""
    if not runs_named(features):
        return None
    run = folder.sibling(features)
    return open_rows(run_settings(run, FeaturesPipeline), run.path)


def keep_model(
    folder: RunFolder,
    features: Mapping[str, FeatureRows],
    terms: list[tuple[str, str]],
    models: Mapping[str, LinearModel],
) -> None:
    """Write ``model.safetensors``: networks, weights of raw features and biases of all subjects.

    Parameters
    ----------
    features : mapping of str to FeatureRows
        Networks by the name of their features run.
    terms : list of (str, str)
        Features run and layer of each term.
    models : mapping of str to LinearModel
        Models by subject.
    """
    state: dict[str, Tensor] = {}
    networks: list[dict[str, Any]] = []
    for number, (name, rows) in enumerate(features.items()):
        about, tensors = pack_network(rows.network)
        reductions = {key: getattr(rows, key) for key in ("spatial", "tokens", "projection", "seed", "rounded")}
        networks.append({"network": about, "rows": reductions})
        state |= {f"network.{number}.{key}": tensor for key, tensor in tensors.items()}
        if rows.fitted is not None:
            fitted = load_tensors(folder.sibling(name).url(PROJECTION))
            state |= {f"projection.{number}.{key}": tensor for key, tensor in fitted.items()}
    for subject, model in models.items():
        bias = model.bias.double()
        for number, term in enumerate(model.terms):
            W, columns = term.weights() if term.urls else (torch.zeros(term.table.count, 0), torch.zeros(0).long())
            bias[columns] -= term.statistics.mean.double() @ W.double()
            state |= {f"{subject}.{number}.weights": W, f"{subject}.{number}.columns": columns}
        state[f"{subject}.bias"] = bias.float()
    order = list(features)
    about = {"kind": "linear", "subjects": list(models), "networks": networks}
    state |= pack_about(about | {"terms": [[order.index(name), layer] for name, layer in terms]})
    save_tensors(folder.url("model.safetensors"), state)
