import time

import h5py
import numpy as np
import pytest
from PIL import Image

from nsdflow.synthetic.experiment.images import draw_image, render_images


def test_an_image_drawn_alone_is_the_one_in_the_brick(nsd, spec):
    with h5py.File(nsd / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        assert list(file) == ["imgBrick"]
        brick = file["imgBrick"]
        assert brick.shape == (spec.image_count, spec.image_size, spec.image_size, 3)
        assert (brick.dtype, brick.chunks, brick.compression) == (np.uint8, None, None)
        for image in (spec.image_count - 1, 0, 130, 129):
            np.testing.assert_array_equal(brick[image], draw_image(spec.seed, image, spec.image_size))


def test_shared_images_as_png(nsd, spec):
    paths = sorted((nsd / "nsddata/stimuli/nsd/shared1000").glob("*.png"))
    assert len(paths) == spec.shared_images
    number = int(paths[3].stem.split("_nsd")[1])
    assert paths[3].name == f"shared0004_nsd{number:05d}.png"
    np.testing.assert_array_equal(np.asarray(Image.open(paths[3])), draw_image(spec.seed, number - 1, spec.image_size))


def test_images_differ_by_seed_and_index():
    drawn = [draw_image(seed, image, 64) for seed in (0, 1) for image in (0, 1)]
    assert all((a != b).mean() > 0.5 for n, a in enumerate(drawn) for b in drawn[:n])


@pytest.mark.parametrize("size", [128, 227])
def test_power_falls_as_in_photographs(size):
    """Radially averaged power of natural scenes falls as 1/f^2, within a few tenths of the exponent (Field 1987)."""
    grey = render_images(0, range(24), size) @ np.array([0.2126, 0.7152, 0.0722])
    window = np.hanning(size)[:, None] * np.hanning(size)
    power = (np.abs(np.fft.fft2((grey - grey.mean(axis=(1, 2), keepdims=True)) * window)) ** 2).mean(axis=0)
    frequency = size * np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size))
    rings = np.arange(2, size // 4)
    mean = [power[np.abs(frequency - ring) < 0.5].mean() for ring in rings]
    slope = np.polyfit(np.log(rings), np.log(mean), 1)[0]
    assert -2.7 < slope < -1.7


def test_contrast_and_colour_vary_but_use_the_range():
    images = render_images(0, range(24), 96)
    assert 90 < images.mean() < 165
    assert 40 < images.std() < 90
    contrast = images.std(axis=(1, 2, 3))
    assert contrast.max() > 1.3 * contrast.min()
    assert images[..., 0].astype(float).var() > 0
    assert (images[..., 0] != images[..., 1]).mean() > 0.8


@pytest.mark.parametrize(("size", "allowed"), [(128, 0.010), (425, 0.100)])
def test_drawing_is_fast(size, allowed):
    """The best of several, in processor time: other work on the machine does not count."""
    draw_image(0, 0, size)
    seconds = []
    for image in range(8):
        start = time.process_time()
        draw_image(0, image, size)
        seconds.append(time.process_time() - start)
    print(f"{size} pixels: {1e3 * min(seconds):.1f} ms an image")
    assert min(seconds) < allowed
