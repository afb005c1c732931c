"""User pictures as a viewer shows them: rotated by their EXIF data, in sRGB, 8 bits per channel."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from nsdflow.errors import MissingDataError, SourceError
from nsdflow.nsd.images import resize_images

__all__ = ["list_pictures", "read_picture", "read_pictures"]

#: Endings of picture files. Files of a kind that Pillow cannot read are refused, not skipped.
ENDINGS: Final = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".avif", ".heic", ".heif"}
    | {".jp2", ".j2k", ".jpx", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".psd", ".svg", ".ico", ".dib", ".pcx"}
    | {".apng", ".qoi", ".exr", ".hdr"}
)
#: Endings of raw files of cameras. Pillow reads the thumbnail in some of them.
RAW_ENDINGS: Final = frozenset({".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"})
#: The TIFF tag of bits per value, and the tag that says whether 0 is black or white.
_BITS_TAG, _PHOTOMETRIC_TAG, _ZERO_IS_WHITE = 258, 262, 0
#: Gamma of a PNG that viewers do not correct (sRGB's, 1 / 2.2), and the deviation that nobody sees.
_GAMMA, _GAMMA_SLACK = 0.45455, 0.005
#: Chromaticities of sRGB (white, red, green, blue; x and y each), and their rounding.
_CHROMATICITIES, _CHROMATICITY_SLACK = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06), 0.002
#: Formats of phones that keep the picture first, and thumbnails or depth after it.
_FIRST_IS_THE_PICTURE: Final = ("MPO",)
#: Modes of 16 bits per channel, and the value of white.
_SIXTEEN_BITS: Final = ("I;16", "I;16B", "I;16L", "I;16N")


def list_pictures(folder: Path) -> list[str]:
    """Names of the picture files of a folder, in alphabetical order.

    Raises
    ------
    MissingDataError
        No such folder, no picture in it, or a link to nothing or a pipe among them.
    SourceError
        A raw file of a camera.
    """
    if not folder.is_dir():
        raise MissingDataError(f"{folder}: no such folder; images is subject, all, or a folder of PNG or JPEG files")
    endings = ENDINGS | RAW_ENDINGS
    found = [path for path in folder.iterdir() if path.suffix.lower() in endings and not path.name.startswith(".")]
    for path in sorted(found):
        if not path.exists():
            raise MissingDataError(f"{path}: a link to nothing; fetch the picture, or remove the link from the folder")
        if not path.is_file() and not path.is_dir():
            raise MissingDataError(f"{path}: a pipe or a device, not a picture; remove it from the folder")
        if path.suffix.lower() in RAW_ENDINGS and path.is_file():
            raise SourceError(
                f"{path}: a raw file of a camera; develop it to JPEG or PNG, or remove it from the folder"
            )
    names = sorted(path.name for path in found if path.is_file())
    if not names:
        raise MissingDataError(f"{folder}: no PNG or JPEG file in it, nor a picture of another kind")
    return names


def read_picture(path: str | Path, content: bytes | None = None) -> NDArray[np.uint8]:
    """A picture (y, x, 3) uint8, RGB, as a viewer shows it.

    The orientation of the camera (EXIF) is applied, colours are converted to sRGB by the profile of the file, and
    16 bits per channel become 8.

    Parameters
    ----------
    path : str or Path
        The file, or (with ``content``) its address in messages.
    content : bytes, optional
        Content of a file that is read already.

    Raises
    ------
    SourceError
        Not a picture, or an ambiguous one: several frames, transparent parts, float pixels, a colour space other than
        sRGB that is given by numbers instead of a profile.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path if content is None else io.BytesIO(content)) as opened:
                _check(opened, path)
                return _as_shown(opened, path)
    except (SourceError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise SourceError(
            f"{path}: not an image that can be read; convert it to PNG, or remove it from the folder"
        ) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise SourceError(f"{path}: more pixels than a picture has; replace it, or remove it from the folder") from None
    except Exception as error:  # damaged files raise anything in Pillow's decoders: TypeError, IndexError, struct.error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SourceError(f"{path}: {reason}; replace it, or remove it from the folder") from error


def read_pictures(folder: Path, names: Sequence[str], size: int) -> NDArray[np.uint8]:
    """Pictures of a folder (image, 3, size, size) uint8, RGB, each prepared as the published stimuli were."""
    images = np.empty((len(names), 3, size, size), np.uint8)
    for image, name in zip(images, names, strict=True):
        image[:] = resize_images(read_picture(folder / name)[None], size)[0]
    return images


def _check(opened: Image.Image, path: str | Path) -> None:
    """Refuse pictures that viewers show in different ways."""
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and opened.format not in _FIRST_IS_THE_PICTURE:
        raise SourceError(f"{path}: {frames} frames or pages; save the one that is meant as PNG")
    if opened.mode in ("F", "I") and opened.format != "PNG":
        raise SourceError(f"{path}: pixels of 32 bits, whose white is not defined; save it with 8 bits per channel")
    if opened.format == "TIFF" and opened.mode in _SIXTEEN_BITS:  # of which Pillow decodes 16 bits with 0 as black
        tags = getattr(opened, "tag_v2", {})
        bits = tags.get(_BITS_TAG, (16,))
        if tuple(np.atleast_1d(bits)) != (16,) or tags.get(_PHOTOMETRIC_TAG) == _ZERO_IS_WHITE:
            raise SourceError(f"{path}: grey values whose white is not 65535; save it with 8 bits per channel")
    _check_colours(opened, path)


def _check_colours(opened: Image.Image, path: str | Path) -> None:
    """Refuse colours that some viewers convert, by numbers in the header of a PNG file, and others show as they are."""
    found = opened.info
    if opened.format != "PNG" or "icc_profile" in found or "srgb" in found:
        return
    primaries = found.get("chromaticity", _CHROMATICITIES)
    if abs(found.get("gamma", _GAMMA) - _GAMMA) > _GAMMA_SLACK or not np.allclose(
        primaries, _CHROMATICITIES, rtol=0, atol=_CHROMATICITY_SLACK
    ):
        raise SourceError(
            f"{path}: colours of another space than sRGB (gamma or primaries in its header), which viewers show in "
            "different ways; save it as sRGB"
        )


def _as_shown(opened: Image.Image, path: str | Path) -> NDArray[np.uint8]:
    picture = ImageOps.exif_transpose(opened)
    if picture.mode in _SIXTEEN_BITS or picture.mode == "I":  # Pillow would cut at 255
        grey = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray(((grey * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA"))[..., 3]
        if (alpha < 255).any():
            raise SourceError(f"{path}: transparent in places, with no colour behind; flatten it onto a background")
        picture = picture.convert("RGB")
    return np.asarray(_in_srgb(picture, opened.info.get("icc_profile"), path))


def _in_srgb(picture: Image.Image, profile: bytes | None, path: str | Path) -> Image.Image:
    """Colours in sRGB, by the profile of the file where it has one."""
    if picture.mode == "P":
        picture = picture.convert("RGB")
    if not profile or picture.mode not in ("RGB", "L", "CMYK", "LAB"):
        return picture.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        shown = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError as error:
        raise SourceError(f"{path}: its colour profile cannot be used ({error}); save it as sRGB") from error
    return picture.convert("RGB") if shown is None else shown
