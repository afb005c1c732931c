"""Small files at a path or URL, written so that a reader sees the whole of them or nothing, and what stores answer.

Nothing that is listed is kept: other processes write into the same folders.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import fsspec

from nsdflow.errors import ConfigError, NsdflowError, StoreError

__all__ = [
    "create_text",
    "filesystem",
    "is_local",
    "reaching",
    "require_file_system",
    "store_errors",
    "write_text_atomically",
    "writing",
]

_NO_SPACE: Final = {errno.ENOSPC, errno.EDQUOT}
_NO_PERMISSION: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_PLACE: Final = {errno.ENOENT, errno.ENOTDIR, errno.EEXIST}
#: What is said of a path, and not of the way to it.
_OF_A_PATH: Final = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
#: How object stores refuse to make an object that is there already, or is being made.
_TAKEN: Final = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}


def is_local(url: str) -> bool:
    """Whether a path or URL is on a mounted file system."""
    return "://" not in url or url.startswith("file://")


def filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """The fsspec file system of a path or URL, with the path in its own terms; ``options`` as the file system has.

    Raises
    ------
    ConfigError
        No file system for this kind of URL is installed.
    """
    if not is_local(url):
        options = {"use_listings_cache": False, **options}
        require_file_system(url)
    system, path = fsspec.url_to_fs(url, **options)
    _try_again_after_resets()
    return system, path


def require_file_system(url: str) -> None:
    """Refuse a kind of URL for which no file system is installed.

    Raises
    ------
    ConfigError
        That says what to install.
    """
    protocol = url.partition("://")[0] if "://" in url else "file"
    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        how = "; pip install '.[s3]' in the clone of nsdflow" if protocol == "s3" else ""
        raise ConfigError(url, [f"cannot read {protocol}:// URLs: {_line(error)}{how}"]) from error


def _try_again_after_resets() -> None:
    """Have s3fs try again after a connection that broke within a body, as it does after all other failures."""
    if "s3fs.core" in sys.modules and "aiohttp" in sys.modules:
        core, broken = sys.modules["s3fs.core"], sys.modules["aiohttp"].ClientConnectionError
        if broken not in core.S3_RETRYABLE_ERRORS:
            core.add_retryable_error(broken)


def store_errors() -> tuple[type[Exception], ...]:
    """What clients of object stores raise besides OSError; importable only where they are installed."""
    modules = {"botocore.exceptions": "BotoCoreError", "aiohttp": "ClientError", "fsspec.exceptions": "FSTimeoutError"}
    loaded = {sys.modules[name]: error for name, error in modules.items() if name in sys.modules}
    return tuple(getattr(module, error) for module, error in loaded.items())


@contextmanager
def reaching(url: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what an object store answers when it cannot serve into one line that says what to do.

    That a file is missing passes as it is, and so does everything on a mounted file system.

    Raises
    ------
    StoreError
        The store denies access, cannot be reached, or goes on failing after its client has tried again and again.
    """
    if is_local(os.fspath(url)):
        yield
        return
    try:
        yield
    except (NsdflowError, *_OF_A_PATH):
        raise
    except PermissionError as error:
        raise StoreError(f"{url}: access denied ({_line(error)}); check the credentials and the address") from error
    except Exception as error:
        if not isinstance(error, (OSError, *store_errors())):
            raise
        raise StoreError(
            f"{url}: cannot be reached ({_line(error)}); check network, address and credentials, "
            "then run the same command again: what is done stays done"
        ) from error


def _line(error: BaseException) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split()) or type(error).__name__


@contextmanager
def writing(url: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a file system refuses into one line that says what to do.

    Raises
    ------
    StoreError
        The disk or the quota is full, or there is no permission to write, or something is in the way.
    """
    try:
        with reaching(url):
            yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise StoreError(
                f"{url}: no space left ({error.strerror}); free some and run the same command again, "
                "what is done stays done"
            ) from error
        if error.errno in _NO_PERMISSION or isinstance(error, PermissionError):
            raise StoreError(f"{url}: may not be written ({error.strerror or error}); choose another place") from error
        if error.errno in _NO_PLACE:
            raise StoreError(f"{url}: cannot be made ({error.strerror}); choose another place") from error
        raise


def write_text_atomically(url: str, text: str) -> None:
    """Write ``text`` to a path or URL.

    Locally through a temporary file in the same folder, flushed to disk and renamed; object stores put a whole
    object or none.

    Raises
    ------
    StoreError
        As :func:`writing` says.
    """
    with writing(url):
        fs, path = filesystem(url)
        if not is_local(url):
            fs.pipe_file(path, text.encode())
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid4().hex[:8]}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def create_text(url: str, text: str) -> bool:
    """Write ``text`` where nothing is; False if something is there: of many that create one file, one succeeds.

    Local and network file systems create exclusively (``O_EXCL``), object stores put on the condition that there is no
    such object. A store that knows no conditions overwrites.
    """
    with writing(url):
        fs, path = filesystem(url)
        if is_local(url):
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = target.open("x", encoding="utf-8")
            except FileExistsError:
                return False
            with file:
                try:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                except BaseException:
                    target.unlink(missing_ok=True)
                    raise
            return True
        try:
            fs.pipe_file(path, text.encode(), mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or _code(error) in _TAKEN:
                return False
            if error.errno != errno.ENOSYS:
                raise
            fs.pipe_file(path, text.encode())
        return True


def _code(error: BaseException) -> str:
    """What an object store calls its error."""
    response = getattr(error.__cause__, "response", {})
    return str(response.get("Error", {}).get("Code", ""))
