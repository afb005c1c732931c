"""Training of GNet: one trunk, a readout per subject, by the published protocol or the strict one."""

from nsdflow.fit.gnet.settings import TrainSettings
from nsdflow.fit.gnet.training import TrainResult, train
from nsdflow.fit.gnet.trials import Trials

__all__ = ["TrainResult", "TrainSettings", "Trials", "train"]
