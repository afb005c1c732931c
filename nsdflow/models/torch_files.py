"""Files of ``torch.save`` from elsewhere, read without running code in them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nsdflow.errors import SourceError

__all__ = ["read_torch_file"]

#: Errors of torch's unpickler on damaged input, which its operations raise.
_DAMAGED = (RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, OSError, zipfile.BadZipFile)


def read_torch_file(path: Path, *, allowed: Sequence[Any] = ()) -> Any:
    """Read a file onto the CPU: tensors, numbers, strings, plain containers, and types that are ``allowed``.

    Raises
    ------
    SourceError
        The file is damaged, or it holds anything else. Nothing in it is executed.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()  # torch does not verify the checksums that it writes
            if damaged is not None:
                raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its message advises to execute the file
        raise SourceError(f"{path}: refused, it is not a file of tensors and plain values alone") from None
    except _DAMAGED as error:
        raise SourceError(f"{path}: not a torch file, or damaged ({_line(error)})") from None


def _line(error: Exception) -> str:
    """The first line of torch's long messages."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
