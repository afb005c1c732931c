"""Encryption between driver, scheduler and workers, on by default wherever they talk over a network.

Dask runs whatever code reaches a scheduler or worker, so on a shared cluster an open port is an open shell. With
temporary credentials (made for one connection, valid for nobody else) only processes that hold the key can connect.
Workers in batch jobs read it from files in a folder that only its owner can open, removed with the connection.
"""

from __future__ import annotations

import copy
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Security

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["temporary_credentials"]


@contextmanager
def temporary_credentials(shared: str | Path) -> Iterator[tuple[Security, Security]]:
    """Credentials for this process, and the same as paths of files below ``shared`` for workers elsewhere.

    Parameters
    ----------
    shared
        A folder that the nodes of the workers see under the same path. It must exist.
    """
    security = Security.temporary()
    with tempfile.TemporaryDirectory(prefix="tls-", dir=shared) as folder:  # mode 0700
        on_disk = copy.copy(security)
        for key, text in security.get_tls_config_for_role("worker").items():
            if text is not None and "\n" in text:
                path = Path(folder).resolve() / f"{key}.pem"
                path.touch(mode=0o600)
                path.write_text(text)
                setattr(on_disk, "tls_ca_file" if key == "ca_file" else f"tls_worker_{key}", str(path))
        yield security, on_disk
