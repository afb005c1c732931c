"""``nsdflow doctor``: is this site ready for a run?"""

from nsdflow.cluster.doctor.examine import Examination, Finding, doctor

__all__ = ["Examination", "Finding", "doctor"]
