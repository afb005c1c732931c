"""Measurement of the planted responses: noise, scale, drifts between sessions, and failing voxels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from nsdflow.synthetic.brain.anatomy import Anatomy
from nsdflow.synthetic.brain.participant import Participant, Recording
from nsdflow.synthetic.brain.planting import Planted
from nsdflow.synthetic.spec import VERSION_SNR, SyntheticSpec

__all__ = ["SCALE", "file_order", "prepare_recording", "quantise", "session_betas"]

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int64]

SCALE = 300.0  # int16 steps in one percent of signal change
_SOURCES = 8  # sources of the correlated part of the noise
_DEAD_SHARE, _PARTLY_DEAD_SHARE, _SATURATED_SHARE = 0.002, 0.01, 0.02


def file_order(flat_index: Labels, shape: tuple[int, ...]) -> Labels:
    """Flat index in C order to the flat index in Fortran order, in which files store volumes."""
    return np.ravel_multi_index(np.unravel_index(flat_index, shape), shape, order="F").astype(np.int64)


def prepare_recording(spec: SyntheticSpec, subject: int, space: str, anatomy: Anatomy, planted: Planted) -> Recording:
    """Draw scale and failures of every place; these are the same for all versions of the betas."""
    rng = spec.generator("recording", subject, space)
    planted_at = np.full(anatomy.x.size, -1)
    planted_at[planted.flat_index] = np.arange(planted.flat_index.size)
    alive = np.flatnonzero(anatomy.brain & _in_slab(anatomy) & (rng.random(planted_at.size) >= _DEAD_SHARE))
    alive = alive[np.argsort(file_order(alive, anatomy.shape), kind="stable")]
    seen = planted_at[alive]
    gain = 1.5 * rng.lognormal(0, 0.35, alive.size)
    outside = anatomy.aseg[alive] == 0  # vessels and the brain's edge, where betas really reach the limits of int16
    gain[outside & (rng.random(alive.size) < _SATURATED_SHARE)] = 80.0
    sessions = np.arange(spec.sessions)[:, None]
    fails_in = np.where(rng.random(alive.size) < _PARTLY_DEAD_SHARE, rng.integers(0, spec.sessions, alive.size), -1)
    return Recording(
        places=file_order(alive, anatomy.shape),
        seen=seen,
        ncsnr=np.where(seen >= 0, planted.ncsnr[seen], 0.0),
        gain=gain.astype(np.float32),
        offset=np.where(seen >= 0, rng.uniform(0, 2, alive.size), rng.normal(0, 0.3, alive.size)).astype(np.float32),
        valid=sessions != fails_in,
        sources=_smooth_loadings(rng, anatomy.positions[alive]),
    )


def _in_slab(anatomy: Anatomy) -> Bools:
    """All but the lowest slice of a volume, which the scanned slab never quite covered; all of a surface."""
    height = anatomy.positions[:, 2]
    return np.asarray(height > height.min()) | (len(anatomy.shape) == 1)


def _smooth_loadings(rng: np.random.Generator, positions: Floats) -> npt.NDArray[np.float32]:
    """Plane waves through the brain, a few of them, as unit vectors at each place."""
    waves = rng.normal(0, 2.0, (3, _SOURCES))
    loadings = np.cos(positions @ waves + rng.uniform(0, 2 * np.pi, _SOURCES))
    return np.asarray(loadings / np.linalg.norm(loadings, axis=1, keepdims=True), dtype=np.float32)


def session_betas(
    spec: SyntheticSpec, who: Participant, version: str, session: int | str, signal: Floats
) -> Iterator[npt.NDArray[np.float32]]:
    """Betas of a session, one trial after the other, (b,) percent signal change; NaN where there are no data.

    A beta is ``offset + drift + gain * (ncsnr * signal + noise)`` with signal and noise of unit variance; drift and a
    common factor on the gain change from session to session, so betas must be z-scored session by session.

    Parameters
    ----------
    spec : SyntheticSpec
        Seed and correlation of the noise.
    version : str
        Version of the betas; their noise differs, and their ncsnr.
    session : int or str
        One-based, or the name of a sister experiment, in which places that fail in any session have no data.
    signal : (trial, v) float32
        Noiseless responses of the planted voxels on the trials of the session.
    """
    recording, rng = who.recording, spec.generator("betas", who.subject, who.space, version, session)
    gain = recording.gain * np.float32(np.exp(rng.normal(0, 0.1)))
    offset = recording.offset + recording.gain * rng.normal(0, 0.3, recording.gain.size).astype(np.float32)
    valid = recording.valid.all(axis=0) if isinstance(session, str) else recording.valid[session - 1]
    offset[~valid] = np.nan
    loudness = (VERSION_SNR[version] * recording.ncsnr).astype(np.float32)
    sees = np.flatnonzero(recording.seen >= 0)
    own = np.float32(np.sqrt(1 - spec.noise_correlation))
    common = recording.sources * np.float32(np.sqrt(spec.noise_correlation))
    for responses in signal:
        betas = own * rng.standard_normal(recording.places.size, dtype=np.float32)
        if spec.noise_correlation:
            betas += common @ rng.standard_normal(_SOURCES, dtype=np.float32)
        betas[sees] += loudness[sees] * responses[recording.seen[sees]]
        yield np.asarray(offset + gain * betas, dtype=np.float32)


def quantise(betas: Floats) -> npt.NDArray[np.int16]:
    """Percent signal change to int16 as MATLAB does: times 300, half away from zero, saturating, NaN to 0."""
    scaled = np.nan_to_num(betas * np.float32(SCALE))
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
    limits = np.iinfo(np.int16)
    return np.asarray(np.clip(rounded, limits.min, limits.max), dtype=np.int16)
