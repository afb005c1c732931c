"""``nsdflow check --parity``: a copy of NSD, its store and published checkpoints against the printed numbers."""

from nsdflow.pipelines.parity.check import check_parity, describe_parity

__all__ = ["check_parity", "describe_parity"]
