"""Batches of trials: right rows, deterministic order, exact resume, chunks of images read once per epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import nsdflow
from nsdflow import loaders
from nsdflow.errors import SelectionError
from nsdflow.loaders import TrialDataset


def together(dataset: Any) -> list[Any]:
    return [(batch.subject, batch.nsd_id.tolist(), float(batch.responses.sum())) for batch in dataset]


@pytest.mark.parametrize("shuffle", ["trials", "blocks", None])
def test_each_trial_once_with_its_image(small_store: str, shuffle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "SHUFFLED_IMAGES", 8)
    store = nsdflow.open_store(small_store)
    dataset = TrialDataset(store, roi=["V1"], batch_size=7, shuffle=shuffle, buffer_blocks=2, seed=3)
    batches = list(dataset)
    assert len(batches) == len(dataset)
    assert {batch.subject for batch in batches} == set(store.subjects)
    for subject in store.subjects:
        expected = store.responses(subject, roi=["V1"], shared=False).compute()
        mine = [batch for batch in batches if batch.subject == subject]
        ids, values = torch.cat([b.nsd_id for b in mine]), torch.cat([b.responses for b in mine])
        assert dataset.voxels[subject] == expected.sizes["voxel"]
        found = np.concatenate([ids[:, None].numpy(), values.numpy()], axis=1)
        whole = np.concatenate([expected["nsd_id"].values[:, None], expected.values], axis=1)
        np.testing.assert_array_equal(found[np.lexsort(found.T)], whole[np.lexsort(whole.T)])
        if shuffle is None:
            np.testing.assert_array_equal(found, whole)
        images = torch.cat([batch.images for batch in mine])
        assert images.dtype == torch.uint8
        np.testing.assert_array_equal(images[::5], store.images(ids[::5].numpy()).values)


@pytest.mark.parametrize("shuffle", ["trials", "blocks"])
def test_resume_is_exact_and_epochs_differ(small_store: str, shuffle: Any) -> None:
    def fresh() -> TrialDataset:
        return TrialDataset(small_store, roi="V1", batch_size=9, shuffle=shuffle, seed=5)

    whole = fresh()
    first, second = together(whole), together(whole)
    assert first != second
    assert together(fresh()) == first
    begun, seen = fresh(), []
    for batch in begun:
        seen.append((batch.subject, batch.nsd_id.tolist(), float(batch.responses.sum())))
        if len(seen) == 3:
            break
    state = begun.state_dict()
    assert (state["epoch"], state["position"], state["seed"]) == (0, 3, 5)
    with pytest.raises(SelectionError, match="of a dataset with batch_size 9, not 8"):
        TrialDataset(small_store, roi="V1", batch_size=8, shuffle=shuffle, seed=5).load_state_dict(state)
    continued = fresh()
    continued.load_state_dict(state)
    assert seen + together(continued) == first
    assert together(continued) == second


def test_blocks_read_each_image_about_once(small_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "SHUFFLED_IMAGES", 4)
    dataset = TrialDataset(small_store, [1], roi="V1", batch_size=6, shuffle="blocks", buffer_blocks=3)
    plain, read = dataset.store.images, []
    monkeypatch.setattr(type(dataset.store), "images", lambda self, ids=None: read.extend(ids) or plain(ids))
    held = [len(batch.images) for batch in dataset]
    images = len(np.unique(np.concatenate([data.images for data in dataset._data.values()])))
    assert sum(held) == len(dataset._data["subj01"].nsd_id)
    assert images <= len(read) <= 1.2 * images


def test_one_row_per_image(small_store: str) -> None:
    dataset = TrialDataset(small_store, [2], roi="V1", average=True, shuffle=None, batch_size=1000)
    (batch,) = dataset
    trials = nsdflow.open_store(small_store).responses("subj02", roi="V1", shared=False).compute()
    assert batch.nsd_id.tolist() == np.unique(trials["nsd_id"]).tolist()
    image = int(batch.nsd_id[4])
    expected = trials.values[trials["nsd_id"].values == image].mean(0)
    np.testing.assert_allclose(batch.responses[4], expected, atol=1e-5)


@pytest.mark.parametrize("shuffle", ["trials", "blocks"])
def test_workers_of_a_loader_share_the_batches(small_store: str, shuffle: Any) -> None:
    """Each batch once, in the order of one process, from the middle of an epoch on."""
    dataset = TrialDataset(small_store, roi="V1", batch_size=9, shuffle=shuffle, seed=5)
    orders = [together(dataset), together(dataset)]
    assert dataset.epoch == 2
    dataset.load_state_dict(dataset.state_dict() | {"epoch": 1, "position": 4})
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2)
    assert together(loader) == orders[1][4:]
    dataset.set_epoch(0)
    assert together(loader) == orders[0]


def test_an_error_of_the_next_batch_is_raised(small_store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = TrialDataset(small_store, 2, roi="V1", batch_size=30, shuffle=None)
    plain, calls = dataset._batch, []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError("the disk is gone")
        return plain(*arguments)

    monkeypatch.setattr(dataset, "_batch", failing)
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        seen.extend(iter(dataset))
    assert dataset.state_dict()["position"] == 2
    monkeypatch.undo()
    assert len(list(dataset)) == len(dataset) - 2


WRONG = [{"shuffle": "all"}, {"batch_size": 0}, {"roi": "V9"}, {"subjects": [7]}, {"subjects": 7}, {"seed": -1}]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_get_one_line(small_store: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(SelectionError) as raised:
        TrialDataset(small_store, **({"subjects": [1]} | wrong))
    assert "\n" not in str(raised.value)
