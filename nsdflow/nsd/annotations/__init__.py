"""Content of NSD's images: COCO's annotations, moved into the part of the photograph that NSD kept."""

from __future__ import annotations

from nsdflow.nsd.annotations.crops import CroppedImage, cropped_images
from nsdflow.nsd.annotations.files import ANNOTATION_KINDS, LEAST_VISIBLE, annotation_files
from nsdflow.nsd.annotations.masks import annotation_mask, decode_rle, encode_rle, resize_mask
from nsdflow.nsd.annotations.table import LICENCE, annotation_table

__all__ = [
    "ANNOTATION_KINDS",
    "LEAST_VISIBLE",
    "LICENCE",
    "CroppedImage",
    "annotation_files",
    "annotation_mask",
    "annotation_table",
    "cropped_images",
    "decode_rle",
    "encode_rle",
    "resize_mask",
]
