"""TLS credentials between driver, scheduler and workers, used wherever they communicate over a network.

Dask runs any code that reaches a scheduler or worker, so on a shared cluster an open port is an open shell. With
temporary credentials (created for one connection, valid for no other) only processes that hold the key can connect.
Workers in batch jobs read it from files in a folder that only its owner can open, removed with the connection.
"""

from __future__ import annotations

import copy
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distributed import Security

from nsdflow.errors import PlanError

__all__ = ["new_credentials", "temporary_credentials"]


def new_credentials() -> Security:
    """Credentials of one connection, in memory.

    Raises
    ------
    PlanError
        The package cryptography is not installed.
    """
    try:
        security: Security = Security.temporary()
    except ImportError:
        raise PlanError("TLS needs the package cryptography; install it with: pip install 'nsdflow[hpc]'") from None
    return security


@contextmanager
def temporary_credentials(shared: str | Path) -> Iterator[tuple[Security, Security]]:
    """Credentials for this process, and the same as files for workers elsewhere, removed after the block.

    Parameters
    ----------
    shared : str or Path
        An existing folder that the workers' nodes see under the same path.

    Yields
    ------
    in_memory, on_disk : tuple of distributed.Security
        The paths of the second are quoted for a job script.
    """
    security = new_credentials()
    with tempfile.TemporaryDirectory(prefix="tls-", dir=shared) as folder:  # mode 0700
        on_disk = copy.copy(security)
        for key, text in security.get_tls_config_for_role("worker").items():
            if text is not None and "\n" in text:
                path = Path(folder).resolve() / f"{key}.pem"
                path.touch(mode=0o600)
                path.write_text(text)
                setattr(on_disk, "tls_ca_file" if key == "ca_file" else f"tls_worker_{key}", shlex.quote(str(path)))
        yield security, on_disk
