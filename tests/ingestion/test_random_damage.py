"""NSD's files mutated at random: one line, or the values that nibabel, h5py, scipy and pandas read from them."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from nsdflow.errors import NsdflowError
from nsdflow.nsd.betas import read_session
from nsdflow.nsd.design import trial_table
from nsdflow.nsd.images import read_images
from nsdflow.nsd.source import Source, open_source
from nsdflow.nsd.voxels.rois import read_atlas
from nsdflow.nsd.voxels.volumes import read_volume
from nsdflow.synthetic import SyntheticSpec, write_nsd

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "source_faults.py"
SPACE = "func1pt8mm"
BETAS = f"nsddata_betas/ppdata/subj01/{SPACE}/betas_fithrf_GLMdenoise_RR"
FUNC = f"nsddata/ppdata/subj01/{SPACE}"
EXPERIMENT = "nsddata/experiments/nsd"


def trials(source: Source) -> dict[str, Any]:
    return {str(name): column.values for name, column in trial_table(source, "subj01", [1, 2]).variables.items()}


#: What our readers take from each file, under the names of the independent ones.
READERS: dict[str, Callable[[Source], dict[str, Any]]] = {
    f"{EXPERIMENT}/nsd_expdesign.mat": trials,
    f"{EXPERIMENT}/nsd_stim_info_merged.csv": trials,
    "nsddata/ppdata/subj01/behav/responses.tsv": trials,
    f"{BETAS}/betas_session01.nii.gz": lambda source: {
        "betas 1 nii.gz": read_session(source, "subj01", 1, format="nii.gz").T
    },
    f"{BETAS}/betas_session01.hdf5": lambda source: {
        "betas 1 hdf5": read_session(source, "subj01", 1, format="hdf5").T
    },
    f"{FUNC}/R2.nii.gz": lambda source: {"onoff_R2": read_volume(source, f"{FUNC}/R2.nii.gz").values.ravel()},
    f"{FUNC}/roi/prf-visualrois.nii.gz": lambda source: {
        "prf_visualrois": read_atlas(source, "subj01", "prf-visualrois", SPACE).values.ravel()
    },
    "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5": lambda source: {"brick": read_images(source, range(8))},
}


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    specification = importlib.util.spec_from_file_location("source_faults", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = SyntheticSpec(subjects=1, sessions=2, trials_per_session=12, image_size=32, evc_voxels=40, shared_images=2)
    return write_nsd(tmp_path_factory.mktemp("tiny") / "nsd", spec)


def same(found: Any, wanted: Any) -> bool:
    """Whether values are equal; a table that ends early has NaN from there on."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    return found.shape == wanted.shape and np.array_equal(found, wanted, equal_nan=found.dtype.kind == "f")


def unexplained(found: dict[str, Any], whole: dict[str, Any], independent: dict[str, Callable[[], Any]]) -> list[str]:
    """Names of values that neither the whole file nor an independent reader of the mutated one has."""
    wrong = []
    for name, values in found.items():
        if name in whole and same(values, whole[name]):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of nibabel and pandas, about damage
            try:
                other = np.asarray(independent[name]())
            except Exception:  # noqa: BLE001 - other readers fail in their own ways
                wrong.append(f"{name}: only we read it")
                continue
        missing = values[len(other) :]
        ended = name in whole and values.dtype.kind == "f" and missing.size and np.isnan(missing).all()
        if not same(values[: len(other)] if ended else values, other[: len(values)]):
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", READERS, ids=lambda path: path.rpartition("/")[2])
@pytest.mark.parametrize("count", [40, pytest.param(1500, marks=pytest.mark.slow)])
def test_a_mutated_file_is_one_line_or_what_others_read(faults: ModuleType, tiny: Path, path: str, count: int) -> None:
    seed = 0 if count < 100 else random.randrange(1000)
    draw, outcomes = random.Random(f"{path} {seed}"), Counter[str]()
    source, file, read = open_source(tiny), tiny / path, READERS[path]
    space = faults.SPACES[0]
    data, whole = file.read_bytes(), read(source)
    kinds = faults.mutations_of(file)
    for _ in range(count):
        how = draw.choice(list(kinds))
        file.unlink()
        kinds[how](file, data, draw)
        try:
            found, line = read(source), None
        except NsdflowError as error:
            found, line = {}, str(error)
        wrong = unexplained(found, whole, faults.independent(tiny, space))
        if file.is_dir() and not file.is_symlink():
            file.rmdir()
        file.unlink(missing_ok=True)
        file.write_bytes(data)
        assert not wrong, f"seed {seed}: {how}: {wrong}"
        named = [name for name in READERS if line is not None and name.rpartition("/")[2] in line]
        assert line is None or ("\n" not in line and (named or how == "removed")), f"seed {seed}: {how}: {line}"
        outcomes["read" if line is None else "refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 0


@pytest.mark.slow
def test_mutated_files_are_ingested_rightly_or_not_at_all() -> None:
    """Every file of three spaces, by the script that fills the table of the documentation."""
    command = [sys.executable, str(SCRIPT), "--mutations", "120", "--seed", str(random.randrange(1000))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    row = re.search(r"\| +(\d+) +\| +(\d+) +\| +(\d+) +\| +(\d+) +\|", done.stdout)
    assert row is not None
    assert [int(cell) for cell in row.groups()] == [120, 0, 0, 0], done.stderr
