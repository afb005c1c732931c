"""A finished GNet run as a torch module, without Dask, Zarr or xarray."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from nsdflow.errors import MissingDataError, RunError, SelectionError
from nsdflow.io.tensors import save_tensors
from nsdflow.models.saved import load_model
from nsdflow.pipelines.gnet.saved import load_subject_model
from nsdflow.runs.folder import RunFolder

ARCHIVE = Path(__file__).parents[1] / "runs" / "data" / "version-0.1.0.tar.xz"

ALONE = """
import json, sys
import torch
import nsdflow

model = nsdflow.load_model(sys.argv[1], sys.argv[2])
images = torch.randint(0, 256, (3, 3, int(sys.argv[3]), int(sys.argv[3])), generator=torch.Generator().manual_seed(0))
heavy = sorted({"dask", "distributed", "zarr", "xarray", "pydantic", "yaml"} & sys.modules.keys())
print(json.dumps([heavy, model(images.to(torch.uint8)).tolist()]))
"""


@pytest.fixture(scope="module")
def gnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    (run,) = folder.rglob("gnet8j/model.safetensors")
    return run.parent


def test_predictions_are_those_of_the_run(gnet: Path) -> None:
    import nsdflow

    (subject, *_) = [name for name in nsdflow.open_run(gnet).children if name != "history"]
    run = load_subject_model(RunFolder(str(gnet)), subject)
    size = next(n for n in range(20, 300) if fits(run, n))
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(gnet), subject, str(size)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    heavy, found = json.loads(done.stdout)
    assert heavy == []
    images = torch.randint(0, 256, (3, 3, size, size), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    np.testing.assert_allclose(found, run.predict(images), atol=1e-5)


def fits(run: object, size: int) -> bool:
    try:
        run.check_size(torch.zeros(1, 3, size, size, dtype=torch.uint8))  # type: ignore[attr-defined]
    except (RunError, RuntimeError):
        return False
    return True


def test_what_is_no_run_gets_one_line(gnet: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no such run"):
        load_model(tmp_path / "nothing")
    with pytest.raises(SelectionError, match="subject of"):
        load_model(gnet, "subj09")
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match="damaged"):
        load_model(tmp_path)


def test_a_flipped_bit_of_a_model_is_an_error(tmp_path: Path) -> None:
    save_tensors(
        f"{tmp_path}/model.safetensors", {"encoder.x": torch.arange(9.0), "readouts.subj01.bias": torch.ones(3)}
    )
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(RunError, match=r"model\.safetensors: damaged \(a checksum differs\); restore it"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(data[:50])
    with pytest.raises(RunError, match=r"model\.safetensors: damaged"):
        load_model(tmp_path)
