"""The table of networks: the results of each family, without a network connection."""

from __future__ import annotations

import importlib
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nsdflow.errors import MissingDataError, SelectionError, SourceError
from nsdflow.models.networks import NETWORKS, describe_network, open_network, record_of, sketch_network
from nsdflow.models.networks.network import Preprocessing, as_maps

IMAGES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refused(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", refused)


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    """A DINOv2 of two layers in a folder, as ``save_pretrained`` writes it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14, mlp_ratio=2
    )
    torch.manual_seed(1)
    transformers.Dinov2Model(config).save_pretrained(tmp_path / "tiny")
    (tmp_path / "tiny" / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 32}, "do_center_crop": true, "crop_size": {"height": 28, "width": 28}, '
        '"resample": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25]}'
    )
    return f"transformers:{tmp_path / 'tiny'}"


def own() -> nn.Module:
    """A network as users write one."""
    return nn.Sequential(nn.Conv2d(3, 4, 5, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3))


OWN = f"{__name__}:own"


def test_published_networks_are_as_they_were() -> None:
    from nsdflow.models.networks.gabor import GaborPyramid

    images = torch.randint(0, 256, (1, 3, 227, 227), dtype=torch.uint8)
    network = open_network("gabor")
    for ours, plain in zip(network(images), GaborPyramid()(images), strict=True):
        assert torch.equal(ours, plain)
    assert network.layers[0] == "3 cycles/image"
    low = open_network("gabor_low")
    assert low.layers == network.layers[:8]
    images = images[..., :64, :64]
    assert all(torch.equal(*maps) for maps in zip(low(images), network(images), strict=False))
    assert record_of("alexnet").layers == sketch_network("alexnet").layers


def test_a_folder_of_transformers(tiny: str) -> None:
    network = open_network(tiny)
    assert network.layers == ("layer0", "layer1", "layer2", "pooled")
    assert network.preprocessing == Preprocessing(32, 28, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    outputs = network.outputs(IMAGES)
    assert [tuple(tensor.shape[1:]) for tensor in outputs] == [(5, 16)] * 3 + [(16,)]
    transformers = importlib.import_module("transformers")
    pixels = network.preprocessing(IMAGES)
    with torch.inference_mode():
        theirs = transformers.Dinov2Model.from_pretrained(tiny.partition(":")[2])(pixels).last_hidden_state
    torch.testing.assert_close(outputs[3], theirs[:, 0])
    maps = network(IMAGES)[1]
    assert maps.shape == (2, 16, 2, 2)
    torch.testing.assert_close(maps[0, :, 1, 0], outputs[1][0, 3])
    assert network.only(["layer2"]).layers == ("layer2",)
    assert sketch_network(tiny).shapes(64) == network.shapes(64)
    with pytest.raises(SelectionError, match="layer7"):
        open_network(tiny, layers=["layer7"])


@pytest.mark.parametrize("kind", ["dinov2", "clip", "vit", "resnet"])
def test_types_of_transformers_have_layers_without_a_download(kind: str) -> None:
    pytest.importorskip("transformers")
    text = describe_network(f"transformers:{kind}")
    assert "layer1" in text
    assert "bytes per image" in text


def test_random_weights_are_seeded(tiny: str) -> None:
    hashes = [open_network(tiny, "random", seed=seed).identity()["weights_sha256"] for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]
    before = torch.random.get_rng_state()
    open_network("alexnet", "random")
    assert torch.equal(before, torch.random.get_rng_state())


def test_offline_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setattr(time, "sleep", lambda _: None)  # the library tries again after 1, 2, 4 ... seconds
    with pytest.raises(MissingDataError, match="neither on this machine nor to be fetched") as raised:
        open_network("transformers:facebook/dinov2-small")
    assert "\n" not in str(raised.value)
    with pytest.raises(MissingDataError, match="set weights: random"):
        open_network("transformers:dinov2")


def test_one_of_your_own(tmp_path: Path) -> None:
    network = open_network(OWN, seed=3)
    assert network.layers == ("0", "2")
    maps = network(IMAGES)
    assert [tuple(tensor.shape) for tensor in maps] == [(2, 4, 30, 30), (2, 6, 28, 28)]
    torch.save(own().state_dict(), tmp_path / "mine.pth")
    mine = open_network(OWN, str(tmp_path / "mine.pth"))
    assert mine.identity()["weights_sha256"] != network.identity()["weights_sha256"]
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(SourceError, match="not the weights of this network"):
        open_network(OWN, str(tmp_path / "other.pth"))


@pytest.mark.parametrize("name", ["nothing", "alexnet:x", "transformers:", "no_such_package.module:function"])
def test_unknown_networks(name: str) -> None:
    with pytest.raises((SelectionError, MissingDataError), match=r"alexnet, gabor|write package.module:function"):
        open_network(name)


@pytest.mark.parametrize("library", ["timm", "torchvision", "open_clip"])
def test_libraries_that_need_torchvision(library: str) -> None:
    try:
        importlib.import_module(library)
    except (ImportError, OSError, RuntimeError) as error:
        with pytest.raises(MissingDataError, match=f"{library} cannot be imported"):
            open_network(f"{library}:resnet18", "random")
        pytest.skip(f"{library} does not import here: {error}")
    member = {"open_clip": "ViT-B-32"}.get(library, "resnet18")
    network = open_network(f"{library}:{member}", "random")
    assert len(network(IMAGES)) == len(network.layers) > 3


def test_every_record_opens_something() -> None:
    for record in NETWORKS.values():
        assert callable(record.open)


@pytest.mark.parametrize(("interpolation", "pillow"), [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)])
def test_preprocessing_is_pillows(interpolation: Any, pillow: Any) -> None:
    """Images are resized and cropped like the libraries do with Pillow, within one and a half grey levels."""
    image = np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)
    how = Preprocessing(40, 32, interpolation, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    ours = how(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0) * 255
    theirs = np.asarray(Image.fromarray(image).resize((40, 40), pillow))[4:36, 4:36]
    assert np.abs(ours.numpy() - theirs).max() < 1.5


def test_tokens_become_their_grid() -> None:
    tokens = torch.arange(2 * 6 * 3).reshape(2, 6, 3).float()
    maps = as_maps(tokens)
    assert maps.shape == (2, 3, 2, 2)
    assert maps[1, 2, 1, 1] == tokens[1, 5, 2]
