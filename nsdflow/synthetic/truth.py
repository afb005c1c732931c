"""The planted truth of a synthetic NSD, in the folder ``truth/``, which is not part of NSD's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import xarray as xr

from nsdflow.errors import MissingDataError, one_of
from nsdflow.io.paths import normalize
from nsdflow.names import DEFAULT_SPACE, ROI_LABELS, STIMULI_FILE, subject_name, subject_number
from nsdflow.synthetic.brain.network import PlantedNetwork, level_of_feature
from nsdflow.synthetic.brain.participant import Participant
from nsdflow.synthetic.brain.planting import Planted, planted_responses
from nsdflow.synthetic.experiment.scenes import CATEGORIES, category_areas
from nsdflow.synthetic.spec import SyntheticSpec

__all__ = ["planted_signal", "read_spec", "read_truth", "save_spec", "save_truth", "signal_path"]


_BATCH = 64  # images in memory at a time


def read_spec(folder: str | Path) -> SyntheticSpec:
    """The specification that a synthetic NSD was written from."""
    path = Path(normalize(folder)) / "truth/spec.json"
    if not path.is_file():
        raise MissingDataError(f"{folder}: no truth/spec.json; this is not a synthetic NSD written by nsdflow synth")
    return SyntheticSpec.from_json(path.read_text())


def read_truth(folder: str | Path, subject: str | int, space: str = DEFAULT_SPACE) -> xr.Dataset:
    """Planted properties of the visual voxels of a subject.

    Parameters
    ----------
    folder : str or Path
        A synthetic NSD.
    space : str
        One that was written.

    Returns
    -------
    Dataset
        On ``voxel``, with coordinates ``flat_index`` (C order) and ``roi``: ``x``, ``y``, ``sigma`` (image widths, y
        upward), ``depth``, ``ncsnr`` (of the best betas; NaN where a voxel has no data), ``noise_ceiling`` (single
        trials, as a correlation: ``sqrt(ncsnr^2 / (ncsnr^2 + 1))``), ``bias``; ``weights`` (voxel, feature) with
        coordinate ``level``; ``category_weights`` (voxel, category), of the shares of the image that categories cover,
        zero outside the areas of the localizer; ``signal`` (image, voxel), the noiseless responses, mapped from
        disk, with coordinate ``nsd_id`` in the order of the subject's own list (``subject_image``).

    Raises
    ------
    MissingDataError, SelectionError
        The folder is no synthetic NSD, or has no such subject or space.
    """
    planted, extra = _load(folder, subject, space)
    signal = np.load(signal_path(Path(folder), subject_name(subject_number(str(subject))), space), mmap_mode="r")
    per_voxel = {"x": planted.x, "y": planted.y, "sigma": planted.sigma, "depth": planted.depth, "bias": planted.bias}
    ncsnr = np.where(extra["has_data"], planted.ncsnr, np.nan)
    return xr.Dataset(
        {name: ("voxel", values) for name, values in per_voxel.items()}
        | {
            "ncsnr": ("voxel", ncsnr),
            "noise_ceiling": ("voxel", np.sqrt(ncsnr**2 / (ncsnr**2 + 1))),
            "weights": (("voxel", "feature"), planted.weights),
            "category_weights": (("voxel", "category"), planted.categories),
            "signal": (("image", "voxel"), signal),
        },
        coords={
            "flat_index": ("voxel", planted.flat_index),
            "roi": (
                "voxel",
                planted.roi,
                {"flag_values": list(ROI_LABELS), "flag_meanings": list(ROI_LABELS.values())},
            ),
            "level": ("feature", level_of_feature()),
            "category": [category.name for category in CATEGORIES],
            "nsd_id": ("image", extra["nsd_id"]),
        },
        attrs={"space": space, "shape": extra["shape"].tolist()},
    )


def planted_signal(
    folder: str | Path, subject: str | int, nsd_ids: Sequence[int], space: str = DEFAULT_SPACE
) -> xr.DataArray:
    """Noiseless responses of a subject's visual voxels to any images of the brick, computed from the images.

    Returns
    -------
    DataArray
        (image, voxel) float32, in units of the signal's standard deviation over the subject's own images.
    """
    planted, _ = _load(folder, subject, space)
    spec = read_spec(folder)
    network, pooling = PlantedNetwork(spec.seed), planted.pooling()
    ids = np.asarray(nsd_ids, dtype=np.int64)
    parts = []
    with h5py.File(Path(folder) / STIMULI_FILE) as file:
        brick = file["imgBrick"]
        for start in range(0, ids.size, _BATCH):
            batch = ids[start : start + _BATCH].tolist()
            images = np.stack([brick[image] for image in batch])
            areas = category_areas(spec.seed, batch, spec.image_size) if spec.annotations else None
            parts.append(planted_responses(planted, pooling, network.maps(images, planted.levels), areas))
    return xr.DataArray(
        np.concatenate(parts),
        dims=("image", "voxel"),
        coords={"nsd_id": ("image", ids), "flat_index": ("voxel", planted.flat_index)},
    )


def save_spec(root: Path, spec: SyntheticSpec) -> None:
    """Write ``truth/spec.json``."""
    path = root / "truth/spec.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(spec.to_json() + "\n")


def save_truth(root: Path, who: Participant, nsd_ids: npt.NDArray[np.int64]) -> None:
    """Write ``truth/<space>/subjAA.npz``: the planted voxels, and which of them have data."""
    planted = who.planted
    np.savez(
        _truth_path(root, who.name, who.space),
        **vars(planted),
        has_data=np.isin(np.arange(planted.x.size), who.recording.seen),
        nsd_id=nsd_ids,
        shape=np.asarray(who.anatomy.shape),
    )


def signal_path(root: Path, subject: str, space: str) -> Path:
    """Path of the noiseless responses (image, voxel) float32."""
    return root / "truth" / space / f"{subject}_signal.npy"


def _truth_path(root: Path, subject: str, space: str) -> Path:
    return root / "truth" / space / f"{subject}.npz"


def _load(folder: str | Path, subject: str | int, space: str) -> tuple[Planted, dict[str, npt.NDArray[np.int64]]]:
    spec, name = read_spec(folder), subject_name(subject_number(str(subject)))
    if space not in spec.spaces:
        raise one_of("space", space, spec.spaces)
    subjects = [subject_name(number) for number in range(1, spec.subjects + 1)]
    if name not in subjects:
        raise one_of("subject", name, subjects)
    with np.load(_truth_path(Path(folder), name, space)) as file:
        arrays = dict(file)
    extra = {key: arrays.pop(key) for key in ("has_data", "nsd_id", "shape")}
    return Planted(**arrays), extra
