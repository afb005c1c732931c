import hashlib
import time

import nibabel as nib
import numpy as np
import pytest

from nsdflow.errors import ConfigError
from nsdflow.synthetic import SyntheticSpec, write_nsd
from nsdflow.synthetic.brain.recording import quantise

TINY = {"sessions": 1, "trials_per_session": 30, "shared_images": 4, "image_size": 64, "evc_voxels": 40}


def digests(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    first, second, other = (
        digests(write_nsd(tmp_path / name, SyntheticSpec(**TINY, formats=("nii.gz", "hdf5", "mat"), seed=seed)))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second
    betas = [name for name in first if "betas_session" in name]
    assert len(betas) == 6
    assert all(first[name] != other[name] for name in betas)


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    write_nsd(tmp_path / "empty", SyntheticSpec(**TINY))
    assert (tmp_path / "empty/nsddata").is_dir()
    before = digests(tmp_path / "empty")
    with pytest.raises(ConfigError, match="not an empty folder"):
        write_nsd(tmp_path / "empty", SyntheticSpec(**TINY))
    assert digests(tmp_path / "empty") == before


def test_nothing_is_left_of_an_interrupted_write(tmp_path):
    def interrupt(stage, done, total):
        if stage == "betas":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_nsd(tmp_path / "nsd", SyntheticSpec(**TINY), progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_stage_to_its_end(tmp_path):
    seen = []
    spec = SyntheticSpec(**{**TINY, "sessions": 3})
    write_nsd(tmp_path / "nsd", spec, progress=lambda *step: seen.append(step))
    images = [done for stage, done, _ in seen if stage == "images"]
    betas = [(done, total) for stage, done, total in seen if stage == "betas"]
    assert images[-1] == spec.image_count
    assert betas == [(n, 5) for n in range(1, 6)]  # 3 sessions and 2: the last subject misses one


def test_no_behaviour(tmp_path):
    folder = write_nsd(tmp_path / "nsd", SyntheticSpec(**TINY, behaviour=False))
    assert not list(folder.rglob("responses.tsv"))


def test_one_millimetre(tmp_path):
    spec = SyntheticSpec(
        **TINY, subjects=1, spaces=("func1mm",), betas=("betas_assumehrf", "betas_fithrf"), formats=("nii.gz",)
    )
    folder = write_nsd(tmp_path / "nsd", spec) / "nsddata_betas/ppdata/subj01/func1mm"
    assert [path.name for path in folder.iterdir()] == ["betas_fithrf"]  # NSD has no betas_assumehrf at 1 mm
    image = nib.load(folder / "betas_fithrf/betas_session01.nii.gz")
    assert image.shape == (36, 43, 32, 30)
    np.testing.assert_allclose(image.header["pixdim"][1:5], (1, 1, 1, 1))


def test_quantisation_is_matlabs():
    percent = np.array([0.5, 1.5, -0.5, -1.5, 2.4999, 1e6, -1e6, np.nan, 0.0], np.float32) / 300
    assert quantise(percent).tolist() == [1, 2, -1, -2, 2, 32767, -32768, 0, 0]


@pytest.mark.slow
def test_the_demo_is_written_in_time(tmp_path):
    start = time.process_time()
    write_nsd(tmp_path / "nsd", SyntheticSpec.demo())
    seconds = time.process_time() - start
    print(f"demo: {seconds:.1f} s of processor time")
    assert seconds < 30
