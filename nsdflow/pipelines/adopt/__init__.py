"""``nsdflow adopt``: conversion of files of the published programs into runs."""

from nsdflow.pipelines.adopt.files import adopt

__all__ = ["adopt"]
