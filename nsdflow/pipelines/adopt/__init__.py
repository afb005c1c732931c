"""``nsdflow adopt``: files of the published programs become runs like any other."""

from nsdflow.pipelines.adopt.files import adopt

__all__ = ["adopt"]
