"""Independent methods recover the planted values from the files."""

import nibabel as nib
import numpy as np
import pytest
import scipy.io

from nsdflow.errors import MissingDataError, SelectionError
from nsdflow.synthetic import HIERARCHIES, SyntheticSpec, planted_signal, read_spec, read_truth, write_nsd
from nsdflow.synthetic.brain.network import PlantedNetwork
from nsdflow.synthetic.brain.planting import gaussian_masses

B3 = "betas_fithrf_GLMdenoise_RR"


@pytest.fixture(scope="module")
def big_spec():
    """More trials than the other tests need: correlations and ncsnr are to be estimated."""
    return SyntheticSpec(
        subjects=1, sessions=6, trials_per_session=250, image_size=96, formats=("nii.gz",), betas=("betas_fithrf", B3)
    )


@pytest.fixture(scope="module")
def big(big_spec, tmp_path_factory):
    return write_nsd(tmp_path_factory.mktemp("big") / "nsd", big_spec)


def zscored_betas(folder, spec, version=B3):
    """(trial, voxel of visual cortex), in each session mean 0 and variance 1, as NSD's ncsnr presumes."""
    places = read_truth(folder, 1).flat_index.values
    sessions = []
    for session in range(1, spec.sessions + 1):
        path = folder / f"nsddata_betas/ppdata/subj01/func1pt8mm/{version}/betas_session{session:02d}.nii.gz"
        betas = np.asanyarray(nib.load(path).dataobj).reshape(-1, spec.trials_per_session)[places].T.astype(float)
        std = betas.std(axis=0)
        sessions.append(np.where(std > 0, (betas - betas.mean(axis=0)) / np.where(std > 0, std, 1), np.nan))
    return np.concatenate(sessions)


def ordering(folder):
    return (
        scipy.io.loadmat(folder / "nsddata/experiments/nsd/nsd_expdesign.mat")["masterordering"].ravel().astype(int) - 1
    )


def test_ncsnr_by_nsds_own_formula(big, big_spec):
    truth, order = read_truth(big, 1), ordering(big)
    trials = np.argsort(order, kind="stable").reshape(-1, 3)
    kept = np.isfinite(truth.ncsnr.values)
    assert kept.mean() > 0.95
    for version, share in ((B3, 1.0), ("betas_fithrf", 0.85)):
        betas = zscored_betas(big, big_spec, version)[:, kept]
        noise_variance = np.nanmean(betas[trials].var(axis=1, ddof=1), axis=0)
        ncsnr = np.sqrt(np.maximum(0, 1 - noise_variance)) / np.sqrt(noise_variance)
        ratio = ncsnr / (share * truth.ncsnr.values[kept])
        assert np.median(ratio) == pytest.approx(1, abs=0.03)
        assert np.percentile(np.abs(ratio - 1), 90) < 0.2


def test_stored_ncsnr_is_the_planted_one(big):
    truth = read_truth(big, 1)
    volume = nib.load(big / f"nsddata_betas/ppdata/subj01/func1pt8mm/{B3}/ncsnr.nii.gz").get_fdata()
    np.testing.assert_allclose(volume.reshape(-1)[truth.flat_index], truth.ncsnr, rtol=1e-6)


def test_single_trials_correlate_with_the_signal_as_the_ceiling_says(big, big_spec):
    truth, order = read_truth(big, 1), ordering(big)
    betas, signal = zscored_betas(big, big_spec), truth.signal.values[order]
    kept = np.isfinite(betas).all(axis=0)
    found = np.array([np.corrcoef(betas[:, v], signal[:, v])[0, 1] for v in np.flatnonzero(kept)])
    ceiling = truth.noise_ceiling.values[kept]
    assert np.median(found - ceiling) == pytest.approx(0, abs=0.01)
    assert np.abs(found - ceiling).max() < 0.12
    evc = (truth.roi.values[kept] > 0) & (truth.roi.values[kept] < 8)
    assert np.median(ceiling[evc]) > 0.5


def test_signals_are_standardised_over_the_subjects_images(big):
    signal = read_truth(big, 1).signal.values
    np.testing.assert_allclose(signal.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(signal.std(axis=0), 1, atol=1e-4)


def test_signal_recomputed_from_the_images_is_the_stored_one(nsd):
    for space in ("func1pt8mm", "fsaverage"):
        truth = read_truth(nsd, "subj02", space)
        some = [0, 5, 70, 33]
        again = planted_signal(nsd, "subj02", truth.nsd_id.values[some], space)
        np.testing.assert_allclose(again.values, truth.signal.values[some], atol=2e-3)
        np.testing.assert_array_equal(again.flat_index, truth.flat_index)


def test_ridge_on_the_true_features_reaches_the_ceiling(big, big_spec):
    """Features of the planted level 1, pooled by the planted fields: most of what can be explained is."""
    truth, order = read_truth(big, 1), ordering(big)
    betas = zscored_betas(big, big_spec)
    ids = truth.nsd_id.values
    import h5py

    with h5py.File(big / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        images = file["imgBrick"][:][ids]
    maps = PlantedNetwork(big_spec.seed).maps(images, levels=1)[0]
    validation = order < big_spec.shared_images
    v1 = np.flatnonzero(np.isin(truth.roi, (1, 2)) & np.isfinite(betas).all(axis=0))[:20]
    shares = []
    for voxel in v1:
        field = gaussian_masses(*(truth[name].values[voxel, None] for name in ("x", "y", "sigma")), maps.shape[-1])[0]
        features = (maps.reshape(*maps.shape[:2], -1) @ field)[order]
        features = (features - features[~validation].mean(0)) / features[~validation].std(0)
        gram = features[~validation].T @ features[~validation] + 10 * np.eye(features.shape[1])
        weights = np.linalg.solve(gram, features[~validation].T @ betas[~validation, voxel])
        signal = truth.signal.values[order[validation], voxel]
        reachable = np.corrcoef(signal, betas[validation, voxel])[0, 1]
        shares.append(np.corrcoef(features[validation] @ weights, betas[validation, voxel])[0, 1] / reachable)
    assert np.median(shares) > 0.9


def test_pooling_mass_against_a_fine_grid():
    x, y, sigma = np.array([0.1, -0.3]), np.array([0.2, -0.1]), np.array([0.05, 0.01])
    size, fine = 8, 80
    centre = (np.arange(size * fine) + 0.5) / (size * fine) - 0.5
    for field, (a, b, s) in zip(gaussian_masses(x, y, sigma, size), zip(x, y, sigma, strict=True), strict=True):
        # rows from the top down: y falls with the row
        density = np.exp(-((centre - a) ** 2 + (-centre[:, None] - b) ** 2) / (2 * s**2)) / (2 * np.pi * s**2)
        mass = density.reshape(size, fine, size, fine).sum(axis=(1, 3)) / (size * fine) ** 2
        np.testing.assert_allclose(field.reshape(size, size), mass, atol=1e-4)


def test_a_grating_drives_its_own_channel_and_a_spot_its_own_place():
    from nsdflow.synthetic.brain.network import CHANNELS, FREQUENCIES, ORIENTATIONS

    y, x = (0.5 - (np.arange(128) + 0.5) / 128)[:, None], (np.arange(128) + 0.5) / 128 - 0.5
    network = PlantedNetwork(0)
    for channel in range(CHANNELS):
        cycles, angle = FREQUENCIES[channel // len(ORIENTATIONS)], ORIENTATIONS[channel % len(ORIENTATIONS)]
        grating = 127 + 100 * np.cos(2 * np.pi * cycles * (x * np.cos(angle) + y * np.sin(angle)))
        image = np.repeat(grating.astype(np.uint8)[None, ..., None], 3, axis=-1)
        energy = network.maps(image, levels=1)[0][0, :, 8:24, 8:24].mean(axis=(1, 2))
        # at 15 cycles the 64-pixel image passes a little less: the neighbouring frequency may win by that much
        assert np.argmax(energy.reshape(len(FREQUENCIES), -1).sum(axis=0)) == channel % len(ORIENTATIONS)
        assert energy[channel] > 0.9 * energy.max()
    spot = np.full((1, 128, 128, 3), 127, np.uint8)
    spot[0, 20:24, 90:94] = 255
    energy = (network.maps(spot, levels=1)[0][0] ** 4).sum(axis=0)
    centres = (np.arange(32) + 0.5) / 32
    assert energy.sum(axis=1) @ centres / energy.sum() == pytest.approx(22 / 128, abs=0.004)
    assert energy.sum(axis=0) @ centres / energy.sum() == pytest.approx(92 / 128, abs=0.004)


@pytest.mark.parametrize("hierarchy", ["ordered", "reversed", "same"])
def test_what_one_area_reads_lies_within_what_another_does(tmp_path, hierarchy):
    spec = SyntheticSpec(subjects=1, sessions=1, trials_per_session=90, image_size=64, hierarchy=hierarchy)
    truth = read_truth(write_nsd(tmp_path / "nsd", spec), 1)
    first = truth.weights.values[:, truth.level.values == 1]
    assert not truth.weights.values[:, truth.level.values > 1].any()
    assert ((first > 0).sum(axis=1) == 1).all()
    np.testing.assert_allclose(first.sum(axis=1) / first.max(axis=1), 0, atol=1e-5)
    areas = [set(first[np.isin(truth.roi, labels)].argmax(axis=1)) for labels in ((1, 2), (3, 4), (5, 6), (7,))]
    sizes = HIERARCHIES[hierarchy].channels
    for area, size in zip(areas, sizes, strict=True):
        assert len(area) > size / 3  # few voxels need not draw every channel
        within = set.union(*(other for other, of in zip(areas, sizes, strict=True) if of <= size))
        assert len(within) <= size
    assert np.median(truth.sigma) == pytest.approx(0.2, rel=0.05)


def test_fields_cover_the_middle_of_the_image_and_grow(nsd):
    truth = read_truth(nsd, 1)
    for labels in ((1, 2), (3, 4), (5, 6), (7,)):
        area = truth.isel(voxel=np.isin(truth.roi, labels))
        for values in (area.x, area.y):
            assert values.min() < -0.2
            assert values.max() > 0.2
            assert np.abs(values).max() <= 0.35
    size = [float(truth.sigma[np.isin(truth.roi, labels)].median()) for labels in ((1, 2), (3, 4), (5, 6), (7,))]
    assert size == sorted(size)
    v1 = truth.isel(voxel=np.isin(truth.roi, (1, 2)))
    eccentricity = np.hypot(v1.x, v1.y)
    assert float(v1.sigma[eccentricity > 0.2].mean()) > 1.3 * float(v1.sigma[eccentricity < 0.1].mean())


def test_each_hemisphere_and_half_sees_the_opposite_quadrant(nsd):
    truth = read_truth(nsd, 1)
    i, _, k = np.unravel_index(truth.flat_index, truth.attrs["shape"])
    left = i < truth.attrs["shape"][0] / 2 - 0.5
    assert (truth.x.values[left] > 0).all()
    ventral = np.isin(truth.roi, (1, 3, 5))
    assert (truth.y.values[ventral] > 0).all()
    assert (truth.y.values[np.isin(truth.roi, (2, 4, 6))] < 0).all()
    assert (k[ventral] < truth.attrs["shape"][2] / 2).all()


def test_correlated_noise(tmp_path):
    spec = SyntheticSpec(
        subjects=1, sessions=1, trials_per_session=600, image_size=64, noise_correlation=0.4, formats=("nii.gz",)
    )
    folder = write_nsd(tmp_path / "nsd", spec)
    truth = read_truth(folder, 1)
    noise = zscored_betas(folder, spec) * np.sqrt(truth.ncsnr.values**2 + 1)
    noise = noise - truth.ncsnr.values * truth.signal.values[ordering(folder)]
    noise = noise[:, np.isfinite(noise).all(axis=0)]
    correlation = np.corrcoef(noise.T)
    off_diagonal = correlation[~np.eye(len(correlation), dtype=bool)]
    assert off_diagonal.max() > 0.25
    assert np.median(noise.var(axis=0)) == pytest.approx(1, abs=0.05)


def test_reading_the_truth_of_something_else(nsd, tmp_path):
    with pytest.raises(MissingDataError, match="not a synthetic NSD"):
        read_spec(tmp_path)
    with pytest.raises(SelectionError, match="available: subj01, subj02"):
        read_truth(nsd, "subj05")
    with pytest.raises(SelectionError, match="func1mm"):
        read_truth(nsd, 1, "func1mm")


def test_voxels_without_data_have_no_ceiling(nsd):
    truth = read_truth(nsd, 1)
    np.testing.assert_array_equal(np.isnan(truth.noise_ceiling), np.isnan(truth.ncsnr))
    assert np.isfinite(truth.ncsnr).mean() > 0.95
