"""Training GNet: repeatable bits, interruption and continuation, protocols against plain loops, learning, bad input."""

from __future__ import annotations

import copy
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nsdflow.errors import ConfigError, RunError
from nsdflow.fit.gnet import TrainResult, TrainSettings, Trials, train
from nsdflow.fit.gnet.evaluate import predict, predict_partitions, score_readout
from nsdflow.fit.gnet.inputs import CACHE_SHARE, choose_cache
from nsdflow.fit.state_files import load_state, save_state
from nsdflow.models.gnet import ChannelDropout, FrozenEncoder, Readout, layer_slices, level_shapes, prefilter_shape
from tests import definitions

SETTINGS = TrainSettings(epochs=3, batch_size=10, seed=5)


def bits(result: TrainResult) -> list[tuple[str, bytes]]:
    """All numbers of a result except the seconds."""
    states = {"encoder": result.encoder, "final_encoder": result.final_encoder}
    states |= {f"{name} best": readout for name, readout in result.readouts.items()}
    states |= {f"{name} final": readout for name, readout in result.final_readouts.items()}
    tensors = {f"{part}.{k}": v for part, module in states.items() for k, v in module.state_dict().items()}
    tensors |= {f"cc.{name}": values for name, values in result.holdout_accuracy.items()}
    found = [(name, tensor.numpy().tobytes()) for name, tensor in tensors.items()]
    records = [{k: v for k, v in record.items() if k != "seconds"} for record in result.history]
    return [*found, ("history", repr((records, result.best_epoch, result.best_score)).encode())]


class StopAfter:
    """Asks to stop from the n-th query on."""

    def __init__(self, questions: int) -> None:
        self.left = questions

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


# ---- the same bits -------------------------------------------------------------------------------------------------


def test_same_seed_same_bits_and_nothing_else_matters(problem) -> None:
    torch.manual_seed(1)
    first = train(*problem.arguments, settings=SETTINGS)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    before = copy.deepcopy(problem.encoder.state_dict())
    assert bits(train(*problem.arguments, settings=SETTINGS)) == bits(first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in problem.encoder.state_dict().items())
    assert bits(train(*problem.arguments, settings=replace(SETTINGS, seed=6))) != bits(first)


@pytest.mark.parametrize("questions", [0, 3, 8, 13], ids=lambda n: f"{n}-batches")
def test_stopped_and_resumed_is_never_stopped(problem, tmp_path: Path, monkeypatch, questions: int) -> None:
    """Asked before each of the eight batches of an epoch: stops fall between epochs and within one."""
    monkeypatch.setattr("nsdflow.fit.gnet.training._STOP_INTERVAL_S", 0)
    whole = train(*problem.arguments, settings=SETTINGS)
    checkpoint = tmp_path / "checkpoint.pt"
    stopped = train(*problem.arguments, settings=SETTINGS, checkpoint=checkpoint, should_stop=StopAfter(questions))
    assert stopped.status == "stopped"
    assert len(stopped.history) == questions // 8
    resumed = train(*problem.arguments, settings=SETTINGS, checkpoint=checkpoint)
    assert resumed.status == "done"
    assert bits(resumed) == bits(whole)
    assert bits(train(*problem.arguments, settings=SETTINGS, checkpoint=checkpoint)) == bits(whole)


def test_more_epochs_go_on_from_a_finished_training(problem, tmp_path: Path) -> None:
    train(*problem.arguments, settings=replace(SETTINGS, epochs=2), checkpoint=tmp_path / "c.pt")
    longer = train(*problem.arguments, settings=SETTINGS, checkpoint=tmp_path / "c.pt")
    assert bits(longer) == bits(train(*problem.arguments, settings=SETTINGS))


KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[2])
    from conftest import make_problem
    from nsdflow.fit.gnet import TrainSettings, train

    def die(record):
        if record["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train(*make_problem().arguments, settings=TrainSettings(epochs=3, batch_size=10, seed=5),
          checkpoint=sys.argv[1], on_epoch=die)
"""


def test_killed_and_resumed_is_never_killed(problem, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(checkpoint), str(Path(__file__).parent)]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(command, check=False, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    resumed = train(*problem.arguments, settings=SETTINGS, checkpoint=checkpoint)
    assert [record["epoch"] for record in resumed.history] == [0, 1, 2]
    assert bits(resumed) == bits(train(*problem.arguments, settings=SETTINGS))


def test_checkpoint_of_other_data_or_settings_is_refused(problem, tmp_path: Path) -> None:
    checkpoint = tmp_path / "c.pt"
    train(*problem.arguments, settings=replace(SETTINGS, epochs=1), checkpoint=checkpoint)
    with pytest.raises(RunError, match=r"seed 5 -> 6"):
        train(*problem.arguments, settings=replace(SETTINGS, seed=6), checkpoint=checkpoint)
    images, trials, encoder, readouts = problem.arguments
    with pytest.raises(RunError, match=r"another training .*images"):
        train(255 - images, trials, encoder, readouts, settings=SETTINGS, checkpoint=checkpoint)
    bold = copy.deepcopy(encoder)
    for module in bold.modules():
        if isinstance(module, ChannelDropout):
            module.share = 0.0
    with pytest.raises(RunError, match=r"another training .*encoder"):
        train(images, trials, bold, readouts, settings=SETTINGS, checkpoint=checkpoint)
    subject = problem.trials["subj02"]
    problem.trials["subj02"] = replace(subject, responses=subject.responses.flip(0))
    with pytest.raises(RunError, match="checkpoint of another training"):
        train(*problem.arguments, settings=SETTINGS, checkpoint=checkpoint)


OTHER_OPTIMIZERS = {
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=1e-3, momentum=0.9),
    "weight decay": lambda parameters: torch.optim.Adam(parameters, lr=1e-3, weight_decay=0.1),
    "learning rate": lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
}


@pytest.mark.parametrize("other", OTHER_OPTIMIZERS)
def test_checkpoint_of_another_optimizer_is_refused(problem, tmp_path: Path, monkeypatch, other: str) -> None:
    """Torch would load Adam's state into AdamW with Adam's weight decay, and into SGD without its momentum."""
    train(*problem.arguments, settings=replace(SETTINGS, epochs=1), checkpoint=tmp_path / "c.pt")
    forget(tmp_path / "c.pt", "optimizer")
    monkeypatch.setattr("nsdflow.fit.gnet.step.new_optimizer", lambda given, _: OTHER_OPTIMIZERS[other](given))
    with pytest.raises(RunError, match=r"another training \(optimizer 'Adam\(betas=.*' -> '\w+\(.*\)'\)"):
        train(*problem.arguments, settings=SETTINGS, checkpoint=tmp_path / "c.pt")


def test_checkpoint_without_the_newest_settings_resumes(problem, tmp_path: Path) -> None:
    """A checkpoint of an earlier version names no optimizer, and lacks settings that came later."""
    train(*problem.arguments, settings=replace(SETTINGS, epochs=2), checkpoint=tmp_path / "c.pt")
    forget(tmp_path / "c.pt", "optimizer", "frozen_encoder")
    resumed = train(*problem.arguments, settings=SETTINGS, checkpoint=tmp_path / "c.pt")
    assert [record["epoch"] for record in resumed.history] == [0, 1, 2]
    assert bits(resumed) == bits(train(*problem.arguments, settings=SETTINGS))
    forget(tmp_path / "c.pt", "frozen_encoder")
    with pytest.raises(RunError, match=r"\(frozen_encoder 'train' -> 'eval'\)"):
        train(*problem.arguments, settings=replace(SETTINGS, frozen_encoder="eval"), checkpoint=tmp_path / "c.pt")


def forget(checkpoint: Path, *keys: str) -> None:
    """Take keys out of the fingerprint in a file."""
    state = load_state(checkpoint)
    for key in keys:
        del state["fingerprint"][key]
    save_state(checkpoint, state)


# ---- protocols, each against a plain loop of the definition ---------------------------------------------------------


def plain_training(problem, protocol: str, epochs: int, batch_size: int) -> tuple[nn.Module, dict[str, Readout], list]:
    """One after the other, by autograd through the modules; no dropout, batches in order."""
    encoder, readouts = copy.deepcopy(problem.encoder).train(), copy.deepcopy(problem.readouts)
    trunk_adam = torch.optim.Adam(encoder.trunk.parameters(), lr=1e-3)
    adams = {name: torch.optim.Adam(readout.parameters(), lr=1e-3) for name, readout in readouts.items()}
    losses = []
    for _ in range(epochs):
        total, count = 0.0, 0
        for name, trials in problem.trials.items():
            rows, responses = trials.images[~trials.holdout], trials.responses[~trials.holdout]
            for x, v in zip(rows.split(batch_size), responses.split(batch_size), strict=True):
                together = [[trunk_adam, adams[name]]]
                for steps in together if protocol == "strict" else ([trunk_adam], [adams[name]]):
                    for adam in (trunk_adam, adams[name]):
                        adam.zero_grad()
                    r = readouts[name](encoder(problem.images[x]))
                    definitions.gnet_loss(r, v, readouts[name].weights).backward()
                    for adam in steps:
                        adam.step()
                total, count = total + float((r - v).detach().square().sum(0).mean()), count + len(x)
        losses.append(total / count)
    return encoder, readouts, losses


@pytest.mark.parametrize("protocol", ["published", "strict"])
def test_protocol(planted, protocol: str) -> None:
    problem = planted(dtype=torch.float64)
    for block in problem.encoder.trunk.children():
        block.dropout.share = 0.0
    settings = TrainSettings(protocol=protocol, epochs=2, batch_size=10, shuffle=False)
    result = train(*problem.arguments, settings=settings)
    encoder, readouts, losses = plain_training(problem, protocol, epochs=2, batch_size=10)
    np.testing.assert_allclose([record["train_loss"] for record in result.history], losses, rtol=1e-9)
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(result.final_encoder.state_dict()[name], value, rtol=1e-7, atol=1e-9)
    for subject, readout in readouts.items():
        for name, value in readout.state_dict().items():
            torch.testing.assert_close(result.final_readouts[subject].state_dict()[name], value, rtol=1e-7, atol=1e-9)


def test_history_and_best(problem) -> None:
    records: list[dict[str, Any]] = []
    result = train(*problem.arguments, settings=SETTINGS, on_epoch=records.append)
    assert [record["epoch"] for record in result.history] == [0, 1, 2]
    assert [{**record, "epochs": 3} for record in result.history] == [
        {key: value for key, value in record.items() if key != "best_epoch"} for record in records
    ]
    scores = [float(np.median(np.concatenate([cc[e] for cc in result.holdout_accuracy.values()]))) for e in range(3)]
    assert [record["holdout_accuracy"] for record in result.history] == scores
    assert max(scores) > 0
    assert (result.best_epoch, result.best_score) == (int(np.argmax(scores)), max(scores))
    for name, trials in problem.trials.items():
        rows, responses = trials.images[trials.holdout], trials.responses[trials.holdout]
        found = score_readout(result.encoder, result.readouts[name], problem.images, rows, responses)
        torch.testing.assert_close(found.correlation, result.holdout_accuracy[name][result.best_epoch])
        record = result.history[result.best_epoch]["subjects"][name]
        assert found.loss / len(rows) == pytest.approx(record["holdout_loss"], rel=1e-5)


def test_no_epoch_above_zero_gives_the_last(problem) -> None:
    for name, trials in problem.trials.items():
        problem.trials[name] = replace(trials, responses=torch.zeros_like(trials.responses))
    result = train(*problem.arguments, settings=replace(SETTINGS, epochs=1))
    assert (result.best_epoch, result.best_score) == (None, 0.0)
    for best, final in zip(result.encoder.parameters(), result.final_encoder.parameters(), strict=True):
        assert torch.equal(best, final)


# ---- variants ------------------------------------------------------------------------------------------------------


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    state = after.state_dict()
    return {name for name, value in before.state_dict().items() if not torch.equal(value, state[name])}


def test_what_each_variant_changes(problem) -> None:
    settings = replace(SETTINGS, epochs=1)
    trunk = changed(problem.encoder, train(*problem.arguments, settings=settings).final_encoder)
    assert {name.split(".")[0] for name in trunk} == {"trunk"}
    assert "trunk.c6b.conv.weight" in trunk
    prefilter = changed(
        problem.encoder, train(*problem.arguments, settings=replace(settings, train_prefilter=True)).final_encoder
    )
    assert prefilter - trunk == {f"prefilter.conv{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")}
    frozen = replace(settings, train_encoder=False)
    drifting = train(*problem.arguments, settings=frozen)
    statistics = {name.rpartition(".")[2] for name in changed(problem.encoder, drifting.final_encoder)}
    assert statistics == {"running_mean", "running_var", "num_batches_tracked"}
    still = train(*problem.arguments, settings=replace(frozen, frozen_encoder="eval"))
    assert changed(problem.encoder, still.final_encoder) == set()
    assert changed(problem.readouts["subj01"], still.final_readouts["subj01"]) != set()


def test_readouts_on_any_network(problem) -> None:
    layer = nn.Conv2d(3, 8, 7, stride=6)
    encoder = FrozenEncoder(_Layers(layer))
    shapes = level_shapes(encoder, problem.images)
    readouts = {name: Readout(6, shapes) for name in problem.readouts}
    settings = replace(SETTINGS, train_encoder=False)
    result = train(problem.images, problem.trials, encoder, readouts, settings=settings)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    with pytest.raises(RunError, match="set train_encoder=False"):
        train(problem.images, problem.trials, encoder, readouts, settings=SETTINGS)


class _Layers(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        x = self.layer(images.float() / 255)
        return [x, x.mean((2, 3), keepdim=True)]


def test_cached_prefilter_changes_nothing(problem) -> None:
    plain, full, half = (
        train(*problem.arguments, settings=replace(SETTINGS, prefilter_cache=cache))
        for cache in ("none", "full", "half")
    )
    for cached, tolerance in ((full, 1e-5), (half, 1e-2)):
        for ours, theirs in zip(cached.history, plain.history, strict=True):
            assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=tolerance)


def test_cache_is_chosen_by_what_fits(problem) -> None:
    """192 x 7 x 7 values of two bytes per image of 64 pixels; on a GPU, of which only the name is needed."""
    shape = problem.encoder.prefilter(problem.images[:1]).shape[1:]
    assert tuple(shape) == prefilter_shape(64, 64) == (192, 7, 7)
    needed = len(problem.images) * 192 * 7 * 7 * 2
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    roomy, tight = math.ceil(needed / CACHE_SHARE), math.floor(needed / CACHE_SHARE) - 2

    def chosen(device=gpu, precision="tf32", free=roomy, encoder=problem.encoder) -> str:
        return choose_cache(encoder, problem.images, device, precision, free)

    assert (chosen(), chosen(precision="bfloat16")) == ("half", "half")
    assert [chosen(free=tight), chosen(precision="float32"), chosen(device=cpu)] == ["none"] * 3
    assert chosen(encoder=FrozenEncoder(problem.encoder)) == "none"
    assert chosen(encoder=copy.deepcopy(problem.encoder).requires_grad_(True)) == "none"


def test_a_continued_training_keeps_what_auto_came_to(problem, tmp_path: Path) -> None:
    first = replace(SETTINGS, epochs=1, prefilter_cache="half")
    train(*problem.arguments, settings=first, checkpoint=tmp_path / "c.pt")
    result = train(*problem.arguments, settings=SETTINGS, checkpoint=tmp_path / "c.pt")
    assert (result.prefilter_cache, len(result.history)) == ("half", 3)
    assert train(*problem.arguments, settings=first).prefilter_cache == "half"
    assert train(*problem.arguments, settings=replace(SETTINGS, epochs=1)).prefilter_cache == "none"


def test_bfloat16_is_close_and_leaves_no_setting(problem) -> None:
    exact, rounded = (
        train(*problem.arguments, settings=replace(SETTINGS, precision=precision)) for precision in ("auto", "bfloat16")
    )
    assert (exact.precision, rounded.precision) == ("float32", "bfloat16")
    assert rounded.history[-1]["train_loss"] == pytest.approx(exact.history[-1]["train_loss"], rel=0.05)
    assert rounded.final_readouts["subj01"].weights.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_it_learns_what_was_planted(planted) -> None:
    """On unseen images, and better than on shuffled ones."""
    # 110 unseen images: a correlation of nothing has a standard error of 0.1
    problem = planted(subjects=1, images=220, trials=660, voxels=8)
    trials = problem.trials["subj01"]
    unseen = trials.images >= 110
    train_part = Trials(*(values[~unseen] for values in (trials.images, trials.responses, trials.holdout)))
    shuffled = replace(train_part, images=train_part.images[torch.randperm(len(train_part.images))])
    settings = TrainSettings(epochs=8, batch_size=25, prefilter_cache="full", learning_rate=3e-3)
    accuracy = {}
    for kind, given in (("planted", train_part), ("shuffled", shuffled)):
        result = train(problem.images, {"subj01": given}, problem.encoder, problem.readouts, settings=settings)
        held = score_readout(
            result.encoder, result.readouts["subj01"], problem.images, trials.images[unseen], trials.responses[unseen]
        )
        accuracy[kind] = float(held.correlation.median())
    assert accuracy["planted"] > 0.5, accuracy
    assert abs(accuracy["shuffled"]) < 0.25


# ---- predictions and bad input --------------------------------------------------------------------------------------


def test_predictions_do_not_depend_on_batches_and_keep_the_mode(problem) -> None:
    encoder, readout = problem.encoder.train(), problem.readouts["subj01"]
    rows = torch.tensor([5, 1, 5, 20])
    whole = predict(encoder, readout, problem.images)
    assert whole.shape == (24, 6)
    assert encoder.training
    torch.testing.assert_close(predict(encoder, readout, problem.images, rows, batch_size=3), whole[rows])


def test_partitions_add_up(problem) -> None:
    encoder, readout = problem.encoder, problem.readouts["subj01"]
    layers = layer_slices(encoder.trunk.width)
    parts = predict_partitions(encoder, readout, problem.images, partitions=list(layers.values()), batch_size=10)
    assert parts.shape == (24, 6, 7)
    torch.testing.assert_close(parts.sum(2) + readout.bias, predict(encoder, readout, problem.images))
    for number, part in enumerate(layers.values()):
        alone = copy.deepcopy(readout)
        with torch.no_grad():
            kept = alone.weights[:, part].clone()
            alone.weights.zero_()[:, part] = kept
        torch.testing.assert_close(parts[:, :, number] + readout.bias, predict(encoder, alone, problem.images))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.trials.pop("subj02"), "trials of subj01, readouts of subj01, subj02"),
        (lambda p: p.trials.update(subj01=_with(p, holdout=torch.zeros(43))), "0 of 43 trials are holdout"),
        (lambda p: p.trials.update(subj01=_with(p, images=torch.full((43,), 24))), "images up to 24, there are 24"),
        (lambda p: p.trials.update(subj01=_with(p, responses=torch.full((43, 6), torch.nan))), "hold NaN"),
        (lambda p: p.trials.update(subj01=_with(p, responses=torch.zeros(43, 5))), r"responses \(43, 5\)"),
        (lambda p: object.__setattr__(p, "images", p.images.float()), "training takes uint8"),
    ],
)  # fmt: skip
def test_bad_input(problem, change, message: str) -> None:
    change(problem)
    with pytest.raises(RunError, match=message) as caught:
        train(*problem.arguments, settings=SETTINGS)
    assert "\n" not in str(caught.value)


def _with(problem, **changes: torch.Tensor) -> Trials:
    return replace(problem.trials["subj01"], **changes)


def test_bad_settings_are_all_told() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainSettings(protocol="paper", epochs=0, learning_rate=0, train_encoder=False, train_prefilter=True)
    assert len(caught.value.problems) == 4


def test_cache_needs_a_prefilter(problem) -> None:
    encoder = FrozenEncoder(problem.encoder.eval())
    settings = replace(SETTINGS, train_encoder=False, prefilter_cache="full")
    with pytest.raises(RunError, match="no prefilter to cache"):
        train(problem.images, problem.trials, encoder, problem.readouts, settings=settings)
