"""Training of GNet: one trunk and one readout per subject, by the published or the strict protocol."""

from nsdflow.fit.gnet.settings import TrainSettings
from nsdflow.fit.gnet.training import TrainResult, train
from nsdflow.fit.gnet.trials import Trials

__all__ = ["TrainResult", "TrainSettings", "Trials", "train"]
