"""Feature maps of a run's images, computed once in blocks of images and shared by all subjects and tasks.

The run keeps the smaller of two arrays: the maps themselves (AlexNet), or the features that every candidate pools from
them (Gabor: 1.1 million pixels per image, 72 channels). Both are Zarr arrays with one chunk per block of images, so
that the task of a block owns whole files.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import xarray as xr
import zarr

from nsdflow.fit.fwrf.features import MapFeatures, PooledFeatures
from nsdflow.fit.state_files import load_state, save_state
from nsdflow.io.folders import list_files
from nsdflow.io.reach import writing
from nsdflow.models.networks import record_of, sketch_network
from nsdflow.models.networks.levels import (
    ChannelMoments,
    ChannelSelection,
    group_layers,
    image_moments,
    merge_layers,
    select_channels,
    sum_moments,
)
from nsdflow.models.pooling import candidate_grid, log_spaced_sizes, pool
from nsdflow.pipelines.common.networks import BATCH_IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from nsdflow.fit.fwrf.features import CandidateFeatures
    from nsdflow.pipelines.fwrf.settings import FwrfPipeline

__all__ = [
    "FeatureFolder",
    "FeatureSizes",
    "candidate_numbers",
    "candidate_table",
    "candidates_of",
    "layer_names",
    "origin_of",
    "sizes_of",
]


@dataclass(frozen=True)
class FeatureSizes:
    """Sizes of the features of one image."""

    maps: tuple[tuple[int, ...], ...]
    """Shape (channel, y, x) of each level, all channels."""
    layers: tuple[int, ...]
    """Channels of each layer."""
    groups: tuple[tuple[int, ...], ...]
    """Layers of each level."""
    candidates: int

    @property
    def kept(self) -> Literal["maps", "pooled"]:
        """Kind of features that are kept per image: the smaller ones."""
        return "maps" if self.map_bytes <= self.pooled_bytes else "pooled"

    @property
    def map_bytes(self) -> int:
        """Bytes of the maps per image."""
        return 4 * sum(int(np.prod(shape)) for shape in self.maps)

    @property
    def pooled_bytes(self) -> int:
        """Bytes of the features pooled by all candidates, per image."""
        return 4 * self.candidates * sum(self.layers)

    @property
    def bytes(self) -> int:
        """Bytes kept per image."""
        return min(self.map_bytes, self.pooled_bytes)


def origin_of(sizes: FeatureSizes, kept: Sequence[Tensor], layer: NDArray[np.int64]) -> ChannelSelection:
    """Layer and channel of features, from the layer of each and the indices of the kept ones in every merged level."""
    first = np.zeros(len(sizes.layers), np.int64)
    for group in sizes.groups:
        for number, offset in _offsets(sizes, group):
            first[number] = offset
    return ChannelSelection(layer, torch.cat(list(kept)).numpy() - first[layer])


def _offsets(sizes: FeatureSizes, group: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each layer of a level, and its first channel there."""
    return zip(group, accumulate((sizes.layers[number] for number in group), initial=0), strict=False)


def layer_names(config: FwrfPipeline) -> tuple[str, ...]:
    """Names of the network's layers, as they appear on the coordinate ``layer``."""
    return record_of(config.features).layers or sketch_network(config.features).layers


def candidates_of(config: FwrfPipeline) -> NDArray[np.floating[Any]]:
    """(candidate, 3) x, y, sigma."""
    grid = config.candidates
    return candidate_grid(log_spaced_sizes(grid.sizes, grid.smallest, grid.largest), spacing=grid.spacing)


def candidate_numbers(config: FwrfPipeline, results: xr.Dataset) -> Tensor:
    """(voxel,) number of each voxel's field in the grid; results hold fields rounded to float32."""
    grid = candidates_of(config).astype(np.float32).tolist()
    number = {tuple(field): index for index, field in enumerate(grid)}
    return torch.tensor([number[tuple(field)] for field in results["rf"].values.tolist()])


def candidate_table(config: FwrfPipeline) -> xr.Dataset:
    """``rf`` (candidate, parameter): x, y and sigma of every candidate, in image widths."""
    grid = candidates_of(config).astype(np.float32)
    attrs = {"long_name": "centre and size of a candidate", "units": "image widths"}
    return xr.Dataset({"rf": (("candidate", "parameter"), grid, attrs)}, coords={"parameter": ["x", "y", "sigma"]})


def sizes_of(config: FwrfPipeline, image_size: int) -> FeatureSizes:
    """Sizes for images of ``image_size`` pixels, from shapes; nothing is computed or downloaded."""
    network = sketch_network(config.features)
    layers = network(torch.zeros(1, 3, image_size, image_size, device="meta"))
    groups = group_layers(layers)
    maps = tuple((sum(layers[i].shape[1] for i in group), *layers[group[0]].shape[2:]) for group in groups)
    channels = tuple(layer.shape[1] for layer in layers)
    return FeatureSizes(maps, channels, tuple(map(tuple, groups)), len(candidates_of(config)))


@dataclass(frozen=True)
class FeatureFolder:
    """Folder of the features of a run until the run is published."""

    path: str
    sizes: FeatureSizes
    candidates: NDArray[np.floating[Any]]
    limit: int
    """Largest number of channels per layer; those that vary most over the images are kept."""

    @classmethod
    def of(cls, config: FwrfPipeline, folder: str, sizes: FeatureSizes) -> FeatureFolder:
        """Features of the run of a pipeline."""
        return cls(f"{folder}/features", sizes, candidates_of(config), config.max_features_per_layer)

    def create(self, images: int, block: int) -> None:
        """Create the arrays without values."""
        with writing(self.path):
            group = zarr.create_group(self.path, overwrite=True)
            if self.sizes.kept == "pooled":
                whole = (self.sizes.candidates, images, sum(self.sizes.layers))
                group.create_array("pooled", shape=whole, chunks=(whole[0], block, whole[2]), dtype="float32")
                return
            for level, shape in enumerate(self.sizes.maps):
                group.create_array(f"level_{level}", shape=(images, *shape), chunks=(block, *shape), dtype="float32")

    def write(self, network: nn.Module, images: NDArray[np.uint8], start: int, device: torch.device) -> None:
        """Compute and keep one block of images (rows from ``start``, whole chunks) and the moments of its channels."""
        merged, mean, square = _merged_maps(network.to(device), images, self.limit, device)
        rows = slice(start, start + len(images))
        if self.sizes.kept == "pooled":
            pooled = pool(
                merged, self.candidates, range(self.sizes.candidates), torch.arange(len(images)), device=device
            )
            with writing(self.path):
                zarr.open_array(f"{self.path}/pooled", mode="r+")[:, rows] = pooled.cpu().numpy()
        else:
            with writing(self.path):
                for level, maps in enumerate(merged):
                    zarr.open_array(f"{self.path}/level_{level}", mode="r+")[rows] = maps.cpu().numpy()
        save_state(f"{self.path}/moments-{start}.pt", {"mean": mean, "square": square})

    def read(
        self, rows: NDArray[np.int64], selected_on: NDArray[np.int64] | None = None
    ) -> tuple[CandidateFeatures, ChannelSelection]:
        """Features of some images (ascending rows), and the origin of every feature.

        Layers with too many channels keep those that vary most over the images ``selected_on``, or over all if None.
        """
        moments = self._moments(selected_on)
        kept, layer = select_channels(moments, [list(group) for group in self.sizes.groups], self.limit)
        origin = origin_of(self.sizes, kept, layer)
        if self.sizes.kept == "pooled":
            first = np.cumsum([0, *(shape[0] for shape in self.sizes.maps)])
            columns = np.concatenate([index.numpy() + start for index, start in zip(kept, first[:-1], strict=True)])
            pooled = np.asarray(zarr.open_array(f"{self.path}/pooled", mode="r").oindex[:, rows])
            return PooledFeatures(np.ascontiguousarray(pooled[:, :, columns]), self.candidates), origin
        arrays = [zarr.open_array(f"{self.path}/level_{level}", mode="r") for level in range(len(kept))]
        maps = [np.asarray(array.oindex[rows])[:, index.numpy()] for array, index in zip(arrays, kept, strict=True)]
        return MapFeatures(maps, self.candidates), origin

    def _moments(self, rows: NDArray[np.int64] | None) -> ChannelMoments:
        """Moments over some images, summed in their order so that the sum always has the same bits."""
        starts = sorted(
            int(name.removeprefix("moments-").removesuffix(".pt"))
            for name in list_files(self.path)
            if name.startswith("moments-") and name.endswith(".pt")
        )
        states = [state for start in starts if (state := load_state(f"{self.path}/moments-{start}.pt")) is not None]
        chosen = slice(None) if rows is None else torch.from_numpy(rows)
        mean, square = (
            [block[chosen] for block in _joined([one[key] for one in states])] for key in ("mean", "square")
        )
        return sum_moments(mean, square)


@torch.inference_mode()
def _merged_maps(
    network: nn.Module, images: NDArray[np.uint8], limit: int, device: torch.device
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Levels of a block of images, and the moments of its channels, image by image on the CPU."""
    merged, means, squares = [], [], []
    for start in range(0, len(images), BATCH_IMAGES):
        layers = network(torch.from_numpy(images[start : start + BATCH_IMAGES]).to(device))
        mean, square = image_moments(layers, limit)
        means.append([layer.cpu() for layer in mean])
        squares.append([layer.cpu() for layer in square])
        merged.append(merge_layers(layers))
    return _joined(merged), _joined(means), _joined(squares)


def _joined(blocks: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """One tensor per layer, joined from blocks of images."""
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]
