"""Picture files as viewers show them; the oracle is the same scene drawn by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.nsd.pictures import list_pictures, read_picture, read_pictures

#: Red above, blue below on the left; green above, white below on the right.
SCENE = np.zeros((40, 60, 3), np.uint8)
SCENE[:20, :30] = (255, 0, 0)
SCENE[:20, 30:] = (0, 255, 0)
SCENE[20:, :30] = (0, 0, 255)
SCENE[20:, 30:] = (255, 255, 255)
#: How a camera stores an upright scene under each value of EXIF's orientation.
STORED = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.transpose(1, 0, 2),
    6: lambda x: np.rot90(x, 1),
    7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
    8: lambda x: np.rot90(x, -1),
}


@pytest.mark.parametrize("orientation", sorted(STORED))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
def test_turned_as_the_camera_says(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](SCENE)))
    options = {"quality": 100, "subsampling": 0} if kind == "jpg" else {"lossless": True} if kind == "webp" else {}
    stored.save(tmp_path / f"picture.{kind}", exif=exif, **options)
    found = read_picture(tmp_path / f"picture.{kind}")
    assert found.shape == SCENE.shape
    np.testing.assert_allclose(found, SCENE, atol=3)


def test_sixteen_bits(tmp_path: Path) -> None:
    grey = np.array([[0, 65535], [32896, 257]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.png")[..., 1], [[0, 255], [128, 1]])


def test_palettes_and_grey(tmp_path: Path) -> None:
    Image.fromarray(SCENE).quantize(4).save(tmp_path / "palette.png")
    np.testing.assert_allclose(read_picture(tmp_path / "palette.png"), SCENE, atol=3)
    Image.fromarray(SCENE[..., 0]).save(tmp_path / "grey.bmp")
    np.testing.assert_array_equal(read_picture(tmp_path / "grey.bmp"), SCENE[..., :1].repeat(3, axis=2))


def test_colours_by_the_profile(tmp_path: Path) -> None:
    """A picture in Lab, whose profile defines its numbers."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    lab = Image.new("LAB", (4, 4), (255, 128, 128))
    lab.save(tmp_path / "lab.tif", icc_profile=profile.tobytes())
    np.testing.assert_allclose(read_picture(tmp_path / "lab.tif"), 255, atol=2)


def transparent(path: Path) -> None:
    Image.fromarray(np.dstack([SCENE, np.full(SCENE.shape[:2], 100, np.uint8)])).save(path)


def animated(path: Path) -> None:
    Image.fromarray(SCENE).save(path, save_all=True, append_images=[Image.fromarray(255 - SCENE)])


def floats(path: Path) -> None:
    Image.fromarray(SCENE[..., 0].astype(np.float32)).save(path)


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("a.png", transparent, "transparent in places"),
        ("a.gif", animated, "2 frames"),
        ("a.tif", floats, "32 bits"),
        ("a.heic", lambda path: path.write_bytes(b"ftypheic"), "not an image"),
        ("a.jpg", lambda path: path.write_bytes(b"\xff\xd8\xff"), "a.jpg: "),
    ],
)
def test_what_has_no_single_view_is_refused_by_name(tmp_path: Path, name: str, make, says: str) -> None:
    make(tmp_path / name)
    assert list_pictures(tmp_path) == [name]
    with pytest.raises(SourceError, match=f"{name}: .*{says.removeprefix(name + ': ')}") as error:
        read_picture(tmp_path / name)
    assert "\n" not in str(error.value)


def test_opaque_pictures_with_an_alpha_channel_are_fine(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([SCENE, np.full(SCENE.shape[:2], 255, np.uint8)])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), SCENE)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no PNG or JPEG file"):
        list_pictures(tmp_path)
    for name in ("b.png", "A.PNG", "._b.png", "notes.txt"):
        Image.fromarray(SCENE).save(tmp_path / name, format="PNG")
    assert list_pictures(tmp_path) == ["A.PNG", "b.png"]
    assert read_pictures(tmp_path, ["b.png"], 20).shape == (1, 3, 20, 20)
    for name, says in (("d.DNG", "a raw file of a camera"), ("e.tiff", "a pipe or a device"), ("f.svg", None)):
        path = tmp_path / name
        os.mkfifo(path) if name == "e.tiff" else path.write_bytes(b"<svg/>")
        if says is None:
            with pytest.raises(SourceError, match=r"f\.svg: not an image that can be read"):
                read_pictures(tmp_path, list_pictures(tmp_path), 20)
        else:
            with pytest.raises((MissingDataError, SourceError), match=f"{name}: {says}"):
                list_pictures(tmp_path)
        path.unlink()
    (tmp_path / "c.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(MissingDataError, match=r"c\.jpg: a link to nothing"):
        list_pictures(tmp_path)
