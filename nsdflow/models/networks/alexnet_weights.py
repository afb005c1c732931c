"""AlexNet's published weights: from a local file, or from torchvision's URL with its hash checked.

The file is torchvision's ``alexnet-owt-7be5be79.pth``, with keys ``features.0.weight`` ... ``classifier.6.bias``. Its
name has the first eight hexadecimal digits of its SHA-256, so a download can be verified without a second file.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.io.write import aside
from nsdflow.models.networks.network import seeded
from nsdflow.models.torch_files import read_torch_file

__all__ = ["ALEXNET_SHAPES", "ALEXNET_URL", "load_alexnet_weights", "random_alexnet_weights"]

ALEXNET_URL: Final = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"

#: Shape of each weight in torchvision's file. A bias has the length of the first axis.
ALEXNET_SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}


def load_alexnet_weights(
    path: str | Path | None = None, *, cache: str | Path | None = None, url: str = ALEXNET_URL
) -> dict[str, Tensor]:
    """Load AlexNet's weights and biases, under torchvision's keys.

    Parameters
    ----------
    path : path, optional
        A local ``.pth`` file with those keys. If given, nothing is downloaded.
    cache : path, optional
        Folder that holds or receives the published file. It is used if ``path`` is None.
    url : str
        URL of the published file. Its name must have the first digits of its SHA-256, as torchvision's names do.

    Raises
    ------
    MissingDataError
        The file does not exist and cannot be downloaded.
    SourceError
        The file is not AlexNet's, or a download does not have the hash in its name.

    Notes
    -----
    The file is read with ``weights_only=True``: nothing in it is executed.
    """
    if path is not None:
        file = Path(path)
        if not file.is_file():
            raise MissingDataError(f"{file}: no such file; give torchvision's {Path(ALEXNET_URL).name}")
    elif cache is not None:
        file = _download(url, Path(cache))
    else:
        raise MissingDataError(
            f"AlexNet's weights: no file and no cache folder given; download {url} and give its path"
        )
    return _read(file)


def random_alexnet_weights(seed: int) -> dict[str, Tensor]:
    """Weights drawn from He's normal distribution, for tests and the demo."""
    state = {}
    with seeded(seed):
        for name, shape in ALEXNET_SHAPES.items():
            inputs = torch.Size(shape[1:]).numel()
            state[f"{name}.weight"] = torch.randn(shape) * (2 / inputs) ** 0.5
            state[f"{name}.bias"] = torch.zeros(shape[0])
    return state


def _read(file: Path) -> dict[str, Tensor]:
    state, kept = read_torch_file(file), {}
    for name, shape in ALEXNET_SHAPES.items():
        for key, expected in ((f"{name}.weight", shape), (f"{name}.bias", shape[:1])):
            found = state.get(key) if isinstance(state, dict) else None
            if not isinstance(found, Tensor) or tuple(found.shape) != expected:
                have = "missing" if not isinstance(found, Tensor) else f"of shape {tuple(found.shape)}"
                raise SourceError(f"{file}: {key} is {have}, AlexNet has {expected}; give {ALEXNET_URL}")
            kept[key] = found
    return kept


def _download(url: str, cache: Path) -> Path:
    """Download the published file to a temporary name in ``cache``, verify it, and rename it: it is whole or absent."""
    file = cache / url.rpartition("/")[2]
    match = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if match is None:
        raise SourceError(f"{url}: the name carries no hash (name-01234567.pth); give a local file instead")
    if file.is_file():
        if not (found := _sha256(file)).startswith(match.group(1)):
            raise SourceError(f"{file}: SHA-256 {found[:16]}... does not match its name; remove it, and fetch it again")
        return file
    try:
        with aside(file.absolute()) as part:
            with urllib.request.urlopen(url, timeout=60) as response, part.open("wb") as target:
                shutil.copyfileobj(response, target)
            found = _sha256(part)
            if not found.startswith(match.group(1)):
                raise SourceError(f"{url}: SHA-256 {found[:16]}... does not match its name; try the download again")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise MissingDataError(
            f"{url}: cannot be downloaded ({error}); where there is a network, put the file into {cache} "
            "or give its path, or use the seeded prefilter: gabor"
        ) from None
    return file


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
