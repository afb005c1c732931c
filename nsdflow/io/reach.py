"""Errors of file systems and object stores as one line that says what to do."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nsdflow.errors import NsdflowError, StoreError
from nsdflow.io.paths import is_local, public

__all__ = ["ELSEWHERE", "NO_SPACE", "reaching", "store_errors", "writing"]

#: What to do if a place cannot be written.
ELSEWHERE: Final = "choose another place"
#: Numbers of the errors of a full disk and of a full quota.
NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}
_NO_PERMISSION: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_WRITE: Final = {errno.EFBIG, errno.EIO}
_NO_PLACE: Final = {errno.ENOENT, errno.ENOTDIR, errno.EEXIST}
#: Errors about the path itself, not about reaching the store.
_ABOUT_THE_PATH: Final = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)


def store_errors() -> tuple[type[Exception], ...]:
    """Exceptions of object store clients besides OSError, as far as the clients are loaded."""
    modules = {"botocore.exceptions": "BotoCoreError", "aiohttp": "ClientError", "fsspec.exceptions": "FSTimeoutError"}
    loaded = {sys.modules[name]: error for name, error in modules.items() if name in sys.modules}
    return tuple(getattr(module, error) for module, error in loaded.items())


@contextmanager
def reaching(url: str | os.PathLike[str]) -> Iterator[None]:
    """Turn failures of an object store into one line.

    Errors about the path itself pass unchanged, and so does everything on a mounted file system.

    Raises
    ------
    StoreError
        The object store denies access, cannot be reached, or fails after its client has retried.
    """
    if is_local(url):
        yield
        return
    where = public(os.fspath(url))
    try:
        yield
    except (NsdflowError, *_ABOUT_THE_PATH):
        raise
    except PermissionError as error:
        raise StoreError(f"{where}: access denied ({_line(error)}); check the credentials and the address") from None
    except Exception as error:
        if not isinstance(error, (OSError, *store_errors())):
            raise
        raise StoreError(
            f"{where}: cannot be reached ({_line(error)}); check network, address and credentials, "
            "then run the same command again: what is done stays done"
        ) from None


@contextmanager
def writing(url: str | os.PathLike[str], elsewhere: str = ELSEWHERE) -> Iterator[None]:
    """Turn a refused write into one line, which ends with ``elsewhere`` if nothing can be written there.

    Raises
    ------
    StoreError
        The disk or the quota is full, writing is not permitted, or something is in the way.
    """
    where = public(os.fspath(url))
    try:
        with reaching(url):
            yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StoreError(
                f"{where}: no space left ({error.strerror}); free some and run the same command again, "
                "what is done stays done"
            ) from None
        if error.errno in _NO_PERMISSION or isinstance(error, PermissionError):
            raise StoreError(f"{where}: may not be written ({error.strerror or error}); {elsewhere}") from None
        if error.errno in _NO_PLACE:
            raise StoreError(f"{where}: cannot be made ({error.strerror}); {elsewhere}") from None
        if error.errno in _NO_WRITE:
            raise StoreError(f"{where}: cannot be written ({error.strerror}); {elsewhere}") from None
        raise


def _line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()) or type(error).__name__
