"""Picture files as viewers show them; the oracle is the same scene drawn by hand."""

from __future__ import annotations

import os
import random
import struct
import zlib
from io import BytesIO
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


def with_chunk(kind: bytes, content: bytes):
    """A PNG with one more chunk in its header, as the specification lays it out."""

    def make(path: Path) -> None:
        Image.fromarray(SCENE).save(path)
        chunk = len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        path.write_bytes(path.read_bytes()[:33] + chunk + path.read_bytes()[33:])

    return make


def grey_tiff(bits: int, photometric: int):
    """A TIFF of 4 x 4 grey values of some bits; TIFF 6.0, tags 256 to 279."""

    def make(path: Path) -> None:
        data = bytes(4 * 4 * bits // 8)
        tags = [(256, 4, 4), (257, 4, 4), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
        tags += [(277, 3, 1), (278, 4, 4), (279, 4, len(data))]
        entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        head = b"II*\0" + struct.pack("<I", 8 + len(data))
        path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + bytes(4))

    return make


def huge(path: Path) -> None:
    """A header that announces 10.8 GB."""
    with_chunk(b"tEXt", b"a\0b")(path)
    size = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    start = path.read_bytes()
    path.write_bytes(start[:12] + b"IHDR" + size + zlib.crc32(b"IHDR" + size).to_bytes(4, "big") + start[33:])


P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


def test_a_header_that_says_srgb_in_numbers_is_fine(tmp_path: Path) -> None:
    srgb = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    for kind, content in ((b"gAMA", struct.pack(">I", 45455)), (b"cHRM", srgb)):
        with_chunk(kind, content)(tmp_path / "a.png")
        np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), SCENE)
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "cyan.jpg", quality=100)
    np.testing.assert_array_equal(read_picture(tmp_path / "cyan.jpg")[0, 0], (0, 255, 255))


@pytest.mark.parametrize("kind", ["png", "jpg", "gif", "tif", "webp", "bmp", "jp2"])
def test_a_damaged_picture_is_one_line_whatever_its_decoder_raises(kind: str) -> None:
    buffer, draw, refused = BytesIO(), random.Random(0), 0
    Image.fromarray(SCENE).save(buffer, {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(kind, kind.upper()))
    for _ in range(60):
        data = bytearray(buffer.getvalue())
        data = data[: draw.randrange(len(data))] if draw.random() < 0.5 else data
        for _ in range(draw.randrange(4) if data else 0):
            data[draw.randrange(min(len(data), 200))] = draw.choice([0, 127, 255, draw.randrange(256)])
        try:
            read_picture("a", bytes(data))
        except SourceError as error:
            refused += str(error).startswith("a: ") and "\n" not in str(error)
    assert refused > 20


def test_a_decoder_that_raises_something_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Image.fromarray(SCENE).save(tmp_path / "a.tif")
    monkeypatch.setattr(Image.Image, "load", lambda _: (_ for _ in ()).throw(TypeError("Missing\ndimensions")))
    with pytest.raises(SourceError, match=r"a\.tif: Missing dimensions; replace it"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        ("linear.png", with_chunk(b"gAMA", struct.pack(">I", 100000)), "another space than sRGB"),
        ("p3.png", with_chunk(b"cHRM", P3), "another space than sRGB"),
        ("inverted.tif", grey_tiff(16, 0), "whose white is not 65535"),
        ("huge.png", huge, "more pixels than a picture has"),
        ("a.webp", animated, "2 frames"),
        ("apng.png", animated, "2 frames"),
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
    assert str(error.value).count(name) == 1


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
