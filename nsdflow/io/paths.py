"""Paths and URLs as users give them, and the file systems they belong to.

Every path that a user gives, in an option, a YAML file or a Python call, passes :func:`normalize` once.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, Final

import fsspec

from nsdflow.errors import ConfigError

__all__ = ["filesystem", "is_local", "local_name", "local_path", "normalize", "public", "require_file_system"]

_VARIABLE: Final = re.compile(r"\$(\w+|\{[^}]*\})")
#: User name and password of a URL; a password may hold an at sign.
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s]*@")
#: A URL with one of its slashes missing, which would become a folder called ``s3:``.
_ONE_SLASH: Final = re.compile(r"(s3|gs|gcs|az|abfs|https?|file):/(?!/)")


def is_local(url: str | os.PathLike[str]) -> bool:
    """Whether a path or URL is on a mounted file system."""
    text = os.fspath(url)
    return "://" not in text or text.startswith("file://")


def local_path(url: str | os.PathLike[str]) -> Path:
    """The absolute path of a path or ``file://`` URL."""
    return Path(os.fspath(url).removeprefix("file://")).expanduser().absolute()


def local_name(url: str | os.PathLike[str]) -> str:
    """:func:`local_path` as text, which avoids the cost of a ``Path`` when many files are opened."""
    text = os.fspath(url).removeprefix("file://")
    return text if text.startswith("/") else str(local_path(text))


def normalize(path: str | os.PathLike[str]) -> str:
    """Expand and normalise a path or URL that a user gave.

    ``~``, ``~name`` and ``$VARIABLE`` are expanded, local paths become absolute, and a trailing slash is removed. Other
    characters, including spaces and ``::``, are taken literally, and so are the names of existing folders. Links are
    kept.

    Parameters
    ----------
    path : str or path
        As given.

    Raises
    ------
    ConfigError
        The path is empty, names an unset variable or an unknown user, or contains a control character.

    Examples
    --------
    >>> normalize("s3://bucket/nsd.zarr/")
    's3://bucket/nsd.zarr'
    """
    given = os.fspath(path)
    text = given
    if not text.strip():
        raise ConfigError("path", ["empty; write a folder or a URL"])
    if not text.isprintable():
        raise ConfigError("path", [f"{text!r} contains a control character; rename the folder"])
    if not is_local(text):
        text = _expand_variables(text)
        require_file_system(text)
        return text.rstrip("/")
    local = re.sub("^file://(localhost(?=/))?", "", text)
    if local.startswith("~"):
        try:
            local = str(Path(local).expanduser())
        except RuntimeError:
            raise ConfigError("path", [f"{given!r}: no home folder for {local.partition('/')[0]!r}"]) from None
    known = _existing(local)
    if not known and (short := _ONE_SLASH.match(local)):
        raise ConfigError("path", [f"{given!r} lacks a slash; write {short[1]}://{local[short.end() :]}"])
    return str(Path(known + _expand_variables(local[len(known) :])).absolute())


def _existing(path: str) -> str:
    """The leading part of a path that exists literally; its name may look like a variable."""
    while path and not Path(path).exists():
        path = path.rpartition("/")[0]
    return path


def _expand_variables(text: str) -> str:
    expanded = os.path.expandvars(text)
    if unset := [name for name in _VARIABLE.findall(text) if name.strip("{}") not in os.environ]:
        raise ConfigError("path", [f"{text!r}: environment variable {unset[0].strip('{}')} is not set"])
    return expanded


def public(url: str) -> str:
    """The URL without a user name and password, for files, logs and pages that others read.

    >>> public("https://ann:secret@example.org/nsd")
    'https://example.org/nsd'
    """
    return _CREDENTIALS.sub("", url)


def filesystem(url: str, **options: Any) -> tuple[Any, str]:
    """Return the fsspec file system of a path or URL, and the path in its terms.

    Listings are not cached: other processes write into the same folders.

    Parameters
    ----------
    **options
        Options of the file system.

    Raises
    ------
    ConfigError
        No file system for this kind of URL is installed.
    """
    if is_local(url):
        return fsspec.filesystem("file", **options), str(local_path(url))
    require_file_system(url)
    system, path = fsspec.url_to_fs(url, **{"use_listings_cache": False, **options})
    _retry_broken_connections()
    return system, path


def require_file_system(url: str) -> None:
    """Refuse a kind of URL for which no file system is installed.

    Raises
    ------
    ConfigError
        The message names the package to install.
    """
    protocol = url.partition("://")[0] if "://" in url else "file"
    if protocol != "file" and "::" in url:
        raise ConfigError(public(url), ["chained URLs (::) are not supported; write a single URL"])
    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        how = "; pip install '.[s3]' in the clone of nsdflow" if protocol == "s3" else ""
        reason = " ".join(str(error).split())
        raise ConfigError(public(url), [f"cannot read {protocol}:// URLs: {reason}{how}"]) from None


def _retry_broken_connections() -> None:
    """Make s3fs retry when a connection breaks within a body, as it does after other failures."""
    if "s3fs.core" in sys.modules and "aiohttp" in sys.modules:
        core, broken = sys.modules["s3fs.core"], sys.modules["aiohttp"].ClientConnectionError
        if broken not in core.S3_RETRYABLE_ERRORS:
            core.add_retryable_error(broken)
