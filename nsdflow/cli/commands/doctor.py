"""``nsdflow doctor``: is this machine or site ready?"""

from __future__ import annotations

import typer

from nsdflow.cli.options import Cluster

__all__ = ["doctor"]


def doctor(cluster: Cluster = "local") -> None:
    """Check whether this site is ready: job scripts, GPU, scratch, network, environment, dashboard link.

    Example: `nsdflow doctor --cluster slurm`
    """
    from nsdflow.cluster.doctor import doctor as examine

    examination = examine(cluster)
    print(examination.describe())
    raise typer.Exit(0 if examination.healthy else 1)
