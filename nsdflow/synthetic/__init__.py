"""A small NSD in the published layout, with planted truth, for tests, the demo and benchmarks.

>>> from nsdflow.synthetic import SyntheticSpec, read_truth, write_nsd
>>> folder = write_nsd("nsd", SyntheticSpec())  # doctest: +SKIP
>>> read_truth(folder, "subj01").noise_ceiling.median()  # doctest: +SKIP
"""

from nsdflow.synthetic.published.stimuli import OnProgress
from nsdflow.synthetic.spec import HIERARCHIES, SyntheticSpec
from nsdflow.synthetic.truth import planted_signal, read_spec, read_truth
from nsdflow.synthetic.write import write_nsd

__all__ = ["HIERARCHIES", "OnProgress", "SyntheticSpec", "planted_signal", "read_spec", "read_truth", "write_nsd"]
