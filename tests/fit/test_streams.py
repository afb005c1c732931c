"""Random streams by name: repeatable, independent, and unaffected by other draws."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import torch

from nsdflow.fit.gnet import TrainSettings
from nsdflow.fit.gnet.training import _batches
from nsdflow.fit.gnet.trials import DeviceTrials
from nsdflow.fit.streams import numpy_stream, seed_of, torch_stream

NAMES = [
    ("gnet", "V1", "trunk"),
    ("gnet", "V2", "trunk"),
    ("gnet", "V1", "dropout", "subj01", 0, 0),
    ("gnet", "V1", "dropout", "subj01", 1, 0),
    ("gnet", "V1", "dropout", "subj02", 0, 0),
    ("gnet", "V1trunk"),
]


def test_streams_repeat_and_differ() -> None:
    draws = [numpy_stream(3, *names).standard_normal(20_000) for names in NAMES]
    for names, draw in zip(NAMES, draws, strict=True):
        np.testing.assert_array_equal(numpy_stream(3, *names).standard_normal(20_000), draw)
    for one, other in combinations([*draws, numpy_stream(4, *NAMES[0]).standard_normal(20_000)], 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / np.sqrt(20_000)
    assert torch.equal(torch.randn(9, generator=torch_stream(1, "a")), torch.randn(9, generator=torch_stream(1, "a")))
    assert not torch.equal(
        torch.randn(9, generator=torch_stream(1, "a")), torch.randn(9, generator=torch_stream(1, "b"))
    )


def test_a_stream_is_what_it_was() -> None:
    """The same seed must give the same bits in every release of a version."""
    assert seed_of(0, "gnet", "joint", "trunk") == 2715449816828141256


def trials(count: int) -> DeviceTrials:
    rows = torch.arange(count)
    return DeviceTrials(rows, rows[:, None], rows[:1], rows[:1, None])


def test_one_more_subject_leaves_the_order_of_the_others() -> None:
    settings = TrainSettings(batch_size=10, seed=2, stream=("gnet", "V1"))
    two = {"subj01": trials(95), "subj03": trials(120)}
    order = _batches(two, settings, 4)
    more = _batches({**two, "subj02": trials(70)}, settings, 4)
    assert [batch for batch in more if batch[0] != "subj02"] == order
    assert sorted(order, key=lambda batch: (batch[0], batch[1].start)) != order
    for other in (_batches(two, settings, 5), _batches(two, replace(settings, stream=("gnet", "V2")), 4)):
        assert sorted(other, key=str) == sorted(order, key=str)
        assert other != order


def test_orders_are_uniform() -> None:
    settings = TrainSettings(batch_size=1)
    first = [_batches({"a": trials(2), "b": trials(2)}, settings, epoch)[0] for epoch in range(2000)]
    counts = np.unique([f"{name}{rows.start}" for name, rows in first], return_counts=True)[1]
    assert len(counts) == 4
    assert (abs(counts - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75)).all()
