"""Writing a page where the user wants it."""

from __future__ import annotations

import os
from pathlib import Path

from nsdflow.io.paths import is_local, local_path, normalize
from nsdflow.io.reach import ELSEWHERE
from nsdflow.io.write import write_text

__all__ = ["write_page"]


def write_page(page: str, out: str | os.PathLike[str] | None, default: str) -> Path | str:
    """Write a page as ``out``, or in its default place if None, and return where it is."""
    target = normalize(default if out is None else out)
    write_text(target, page, elsewhere=f"{ELSEWHERE} with --out FILE" if out is None else ELSEWHERE)
    return local_path(target) if is_local(target) else target
