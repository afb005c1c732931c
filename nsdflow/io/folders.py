"""Folders at a path or URL: what they contain, removing them, and sharing their files.

Listings are not cached: other processes write into the same folders.
"""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from nsdflow.io.paths import filesystem, is_local, local_path
from nsdflow.io.reach import reaching, writing
from nsdflow.io.write import TEMPORARY, atomic_file

__all__ = ["exists", "list_files", "list_folder", "remove", "remove_leftovers", "share_files"]

#: Reasons why a file cannot be linked: it is on another file system, or on one without links.
_NO_LINK: Final = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EOPNOTSUPP}
#: Endings of incomplete files: of this package, and of zarr's own store.
_INCOMPLETE: Final = (TEMPORARY, ".partial")
#: Bytes of a file that are copied at once.
COPY_BYTES: Final = 4 << 20


def exists(url: str) -> bool:
    """Whether a file or folder exists."""
    with reaching(url):
        system, path = filesystem(url)
        return bool(system.exists(path))


def list_folder(url: str) -> list[str]:
    """Names of the files and folders in a folder, sorted; empty if the folder does not exist."""
    with reaching(url):
        system, path = filesystem(url)
        try:
            entries = system.ls(path, detail=False, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
    return sorted(entry.rstrip("/").rpartition("/")[2] for entry in entries if entry.rstrip("/") != path.rstrip("/"))


def list_files(url: str) -> list[str]:
    """Paths of all files below a folder, relative to it; empty if the folder does not exist."""
    with reaching(url):
        system, path = filesystem(url)
        system.invalidate_cache()
        return [name.removeprefix(path).lstrip("/") for name in system.find(path)] if system.exists(path) else []


def remove(url: str) -> None:
    """Remove a file or a folder with its contents, if it exists. A symbolic link is removed, not its target."""
    with writing(url):
        if is_local(url) and local_path(url).is_symlink():
            local_path(url).unlink(missing_ok=True)
            return
        system, path = filesystem(url)
        for last in (False, False, True):
            try:
                if system.exists(path):
                    system.rm(path, recursive=True)
                return
            except OSError as error:  # another process wrote into it meanwhile
                if last or error.errno != errno.ENOTEMPTY:
                    raise


def share_files(source: str, target: str) -> int:
    """Make the files of one folder appear in another, and count them; only for files that never change.

    Uses hard links within one file system, so that no byte is copied and each file lives as long as either folder;
    copies otherwise. Files that exist in ``target`` are kept.
    """
    names = list_files(source)
    linkable = is_local(source) and is_local(target)
    for name in names:
        original, place = f"{source}/{name}", f"{target}/{name}"
        if exists(place) or (linkable and _linked(local_path(original), local_path(place))):
            continue
        system, path = filesystem(original)
        with reaching(source), system.open(path, "rb") as file, atomic_file(place) as copy:
            shutil.copyfileobj(file, copy, COPY_BYTES)
    return len(names)


def _linked(original: Path, place: Path) -> bool:
    """Link a file; False if the file systems do not allow it."""
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.hardlink_to(original)
    except FileExistsError:  # another attempt at the same task was faster
        return True
    except OSError as error:
        if error.errno in _NO_LINK:
            return False
        raise
    return True


def remove_leftovers(url: str) -> int:
    """Remove the incomplete files and groups of killed processes, and count them; object stores have none."""
    if not is_local(url):
        return 0
    parts = (name.split("/") for name in list_files(url))
    names = ["/".join(part[: n + 1]) for part in parts for n in range(len(part)) if part[n].endswith(_INCOMPLETE)]
    leftovers = set(names)
    for name in leftovers:
        with suppress(OSError):  # another attempt at a finished task may still write; it cleans up by itself
            remove(f"{url}/{name}")
    return len(leftovers)
