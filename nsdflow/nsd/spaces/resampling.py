"""From one resolution of the anatomy to another: the same field of view, another number of voxels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nsdflow.nsd.spaces.sampling import KERNELS

__all__ = ["resample"]

#: Order of the low-pass filter: |H| = (1 + (f / c)^20)^(-1/2).
FILTER_POWER: Final = 20


def resample(values: NDArray[Any], shape: tuple[int, int, int], new_shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Resample volumes (voxel, frame), flat in C order, as NSD's tool maps between its anatomical grids.

    A coarser grid is low-pass filtered first (Fourier, periodic, per axis, cut-off at its Nyquist frequency). Then
    each axis is sampled (Catmull-Rom) at ``0.5 + N / (2 n) + k N / n`` for k = 0 .. n - 1. On a finer grid the
    outermost layers fall outside the volume and become NaN.

    Parameters
    ----------
    values : (voxel, frame)
        Volumes, flat in C order.
    shape, new_shape : tuple of int
        (i, j, k) of the source, N, and of the target, n.
    """
    result = np.empty((int(np.prod(new_shape)), values.shape[1]))
    for frame in range(values.shape[1]):
        volume = np.asarray(values[:, frame], np.float64).reshape(shape)
        for axis, (size, new) in enumerate(zip(shape, new_shape, strict=True)):
            if new < size:
                volume = _low_pass(volume, axis, new)
        for axis, new in enumerate(new_shape):
            volume = _sample_axis(volume, axis, new)
        result[:, frame] = volume.ravel()
    return result


def _low_pass(volume: NDArray[np.float64], axis: int, new: int) -> NDArray[np.float64]:
    """Keep what ``new`` voxels over the field of view can represent: up to c = new / 2 cycles."""
    size = volume.shape[axis]
    f = np.fft.rfftfreq(size, 1 / size)
    gain = (1 + (f / (new / 2)) ** FILTER_POWER) ** -0.5
    spectrum = np.fft.rfft(volume, axis=axis) * np.expand_dims(gain, [a for a in range(3) if a != axis])
    return np.fft.irfft(spectrum, size, axis=axis)


def _sample_axis(volume: NDArray[np.float64], axis: int, new: int) -> NDArray[np.float64]:
    size, kernel = volume.shape[axis], KERNELS["cubic"]
    c = 0.5 + size / (2 * new) + np.arange(new) * size / new
    base = kernel.base(c)
    weights = kernel.weights(c - base)
    weights[(c < 1) | (c > size)] = np.nan
    result = np.zeros((*volume.shape[:axis], new, *volume.shape[axis + 1 :]))
    others = [a for a in range(3) if a != axis]
    for tap in range(kernel.taps):
        taken = np.take(volume, np.clip(base.astype(np.intp) - 1 - kernel.before + tap, 0, size - 1), axis=axis)
        result += taken * np.expand_dims(weights[:, tap], others)
    return result
