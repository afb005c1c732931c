"""Files of NSD mutated at random and ingested, with nibabel, h5py, scipy and pandas as independent readers.

    python benchmarks/source_faults.py --mutations 200 --seed 0

Each time one file of a tiny synthetic NSD is mutated (also inside its compression, with a valid checksum) and ingested.
Right is one line that says what is wrong, or a store in which every value is that of an independent reader, for the
mutated or for the intact file. *Lost*: something is missing in the store and its manifest does not say so. *Wrong*:
other values. *Unclear*: more than one line. The output is a row of the table of ``docs/what-happens-when.md``.
"""

from __future__ import annotations

import argparse
import gzip
import random
import re
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import scipy.io
from PIL import Image

from nsdflow.cluster.connect import connect
from nsdflow.errors import NsdflowError
from nsdflow.ingestion.ingest import carry_out, plan_ingest
from nsdflow.names import atlas_coordinate
from nsdflow.nsd.voxels.maps import MAPS, map_paths, map_record
from nsdflow.nsd.voxels.rois import ATLASES
from nsdflow.nsd.voxels.segmentations import SEGMENTATIONS
from nsdflow.synthetic import SyntheticSpec, write_nsd

SUBJECT = "subj01"
VERSION = "betas_fithrf_GLMdenoise_RR"
DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
ANSWERS = f"nsddata/ppdata/{SUBJECT}/behav/responses.tsv"
BRICK = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"
BEHAVIOUR = ("TIME ISOLD ISCORRECT RT CHANGEMIND MEMORYRECENT MEMORYFIRST ISOLDCURRENT ISCORRECTCURRENT TOTAL1 TOTAL2 "
             "BUTTON MISSINGDATA")  # fmt: skip
#: Trials of each of the two sessions.
TRIALS = 12
#: Pixels per side of the images of the stores.
SIZE = 16
#: Longest ingestion; a reader that hangs would never end.
HANGS_AFTER_S = 120

Values = dict[str, Callable[[], Any]]
Mutation = Callable[[Path, bytes, random.Random], Any]


def _flip(data: bytes, draw: random.Random, first: int = 0, last: int | None = None, times: int = 1) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(times):
        changed[draw.randrange(first, min(last or len(changed), len(changed)))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _zeros(data: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(max(1, len(data)))
    return data[:start] + bytes(min(512, len(data) - start)) + data[start + 512 :]


def _other_line(data: bytes, draw: random.Random) -> bytes:
    """A line of a text removed, written twice, or exchanged with the next one."""
    lines = data.splitlines(keepends=True)
    place = draw.randrange(len(lines))
    change = draw.choice(["remove", "repeat", "exchange"])
    if change == "exchange":
        lines[place : place + 2] = reversed(lines[place : place + 2])
    else:
        lines[place : place + 1] = [] if change == "remove" else [lines[place]] * 2
    return b"".join(lines)


def _other_character(data: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(data))
    return data[:place] + draw.choice([b"", b"x", b"-", b".", b"9", b"\t", b",", b"\n", b"\xff", b'"', b" "]) + data[
        place + draw.choice([0, 1]) :
    ]  # fmt: skip


def _replaced(change: Callable[[bytes, random.Random], bytes]) -> Mutation:
    return lambda file, data, draw: file.write_bytes(change(data, draw)) and None


def _inside(change: Callable[[bytes, random.Random], bytes]) -> Mutation:
    """A change of the content of a gzipped file, with the checksum of what it holds now."""
    return lambda file, data, draw: file.write_bytes(gzip.compress(change(gzip.decompress(data), draw), 1)) and None


#: What can happen to any file.
ANY: Mapping[str, Mutation] = {
    "a bit flipped": _replaced(_flip),
    "bits flipped": _replaced(lambda data, draw: _flip(data, draw, times=20)),
    "a bit of its beginning flipped": _replaced(lambda data, draw: _flip(data, draw, last=2048)),
    "cut": _replaced(lambda data, draw: data[: draw.randrange(len(data))]),
    "a block of zeros": _replaced(_zeros),
    "all zeros": _replaced(lambda data, draw: bytes(len(data))),
    "written twice": _replaced(lambda data, draw: data + data),
    "empty": _replaced(lambda data, draw: b""),
    "removed": lambda file, data, draw: None,
    "a folder": lambda file, data, draw: file.mkdir(),
    "a link to nothing": lambda file, data, draw: file.symlink_to("nothing"),
    "a link to itself": lambda file, data, draw: file.symlink_to(file.name),
}
#: What can happen inside a gzipped file: other headers and values under a valid checksum.
GZIPPED: Mapping[str, Mutation] = {
    "a bit of the header inside flipped": _inside(lambda data, draw: _flip(data, draw, last=348)),
    "bits of the header inside flipped": _inside(lambda data, draw: _flip(data, draw, last=348, times=3)),
    "a bit of the values inside flipped": _inside(lambda data, draw: _flip(data, draw, first=352)),
    "cut inside": _inside(lambda data, draw: data[: draw.randrange(len(data))]),
    "longer inside": _inside(lambda data, draw: data + bytes(draw.randrange(1, 4096))),
}
#: What can happen to a text.
TEXT: Mapping[str, Mutation] = {
    "another character": _replaced(_other_character),
    "another line": _replaced(_other_line),
    "lines ending as on Windows": _replaced(lambda data, draw: data.replace(b"\n", b"\r\n")),
    "a byte order mark": _replaced(lambda data, draw: b"\xef\xbb\xbf" + data),
}


def mutations_of(file: Path) -> dict[str, Mutation]:
    """Every mutation of a file, by name."""
    special = {".gz": GZIPPED, ".mgz": GZIPPED, ".tsv": TEXT, ".csv": TEXT, ".ctab": TEXT, ".json": TEXT}
    return {**ANY, **special.get(file.suffix, {})}


@dataclass(frozen=True)
class Space:
    """Where the files of a space lie, and in which format its betas are."""

    name: str
    formats: tuple[str, ...]
    labels: str

    @property
    def betas(self) -> str:
        return f"nsddata_betas/ppdata/{SUBJECT}/{self.name}/{VERSION}"

    @property
    def maps(self) -> str:
        return f"nsddata/ppdata/{SUBJECT}/{self.name}" if self.is_volume else self.labels

    @property
    def is_volume(self) -> bool:
        return self.name == "func1pt8mm"


SPACES = (
    Space("func1pt8mm", ("nii.gz", "hdf5"), f"nsddata/ppdata/{SUBJECT}/func1pt8mm/roi"),
    Space("nativesurface", ("hdf5",), f"nsddata/freesurfer/{SUBJECT}/label"),
    Space("fsaverage", ("mgh",), "nsddata/freesurfer/fsaverage/label"),
)


def _frames(path: Path) -> np.ndarray:
    """Values of a NIfTI, MGH or HDF5 file, the trials last."""
    if path.suffix == ".hdf5":
        with h5py.File(path) as file:
            return file["betas"][...].T
    return np.asanyarray(nib.load(path).dataobj)


def independent(root: Path, space: Space) -> Values:
    """What independent readers give for a copy of NSD: functions by name, which raise what those raise."""
    mat = cache(lambda: scipy.io.loadmat(root / DESIGN))
    answers = cache(lambda: pd.read_csv(root / ANSWERS, sep="\t"))
    info = cache(lambda: pd.read_csv(root / TABLE, index_col=0))

    def whole(folder: str, name: str) -> np.ndarray:
        """(voxel,) or (voxel, frame) of one file, or of those of both hemispheres."""
        if space.is_volume:
            values = _frames(root / folder / name)
            return values.reshape(-1, *values.shape[3:])
        halves = [_frames(root / folder / f"{half}.{name}") for half in ("lh", "rh")]
        return np.concatenate(
            [values.reshape(len(values), *values.shape[3:]) if values.ndim > 2 else values for values in halves]
        )

    def order() -> np.ndarray:
        return mat()["masterordering"].ravel().astype(int)

    def nsd_id() -> np.ndarray:
        return mat()["subjectim"][0].astype(int)[order() - 1] - 1

    def runs() -> np.ndarray:
        return np.concatenate(
            [np.repeat(np.arange(1, 13), row) for row in mat()["stimpattern"].astype(int).sum(axis=2)]
        )

    def brick() -> np.ndarray:
        with h5py.File(root / BRICK) as file:
            return file["imgBrick"][...]

    def images() -> np.ndarray:
        small = (Image.fromarray(one).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for one in brick())
        return np.stack([np.asarray(one).transpose(2, 0, 1) for one in small])

    def names(atlas: str) -> dict[int, str]:
        folders = (f"nsddata/freesurfer/{SUBJECT}/label", "nsddata/freesurfer/fsaverage/label", "nsddata/templates")
        files = (root / folder / f"{atlas}{end}" for folder in folders for end in (".mgz.ctab", ".ctab"))
        text = next(file for file in files if file.exists()).read_text("utf-8-sig")
        rows = [line.split() for line in text.splitlines() if line.strip() and line.strip()[0] not in "#%"]
        return {int(row[0]): row[1] for row in rows if int(row[0]) > 0}

    found: Values = {
        "nsd_id": nsd_id,
        "subject_image": lambda: order() - 1,
        "run": runs,
        "session": lambda: np.repeat([1, 2], mat()["stimpattern"].astype(int).sum(axis=(1, 2))[:2]),
        "shared": lambda: order() <= mat()["sharedix"].size,
        "repetition": lambda: pd.Series(order()).pipe(lambda series: series.groupby(series).cumcount().to_numpy()),
        "coco_id": lambda: info()["cocoId"].to_numpy()[nsd_id()],
        "images": images,
        "brick": brick,
        "brain": lambda: whole(space.maps, "brainmask.nii.gz") > 0,
    }
    for name in BEHAVIOUR.split():
        found[name.lower()] = lambda name=name: answers()[name].to_numpy(np.float64)
    for session in (1, 2):
        for ending in space.formats:
            name = f"betas_session{session:02d}.{ending}"
            found[f"betas {session} {ending}"] = lambda name=name: whole(space.betas, name)
        name = f"valid_session{session:02d}.nii.gz"
        found[f"valid {session}"] = lambda name=name: whole(space.maps, name) > 0
    for map_name in MAPS:
        if paths := map_paths(map_name, SUBJECT, space.name, VERSION):
            folder, _, file = paths[0].rpartition("/")
            file = file if space.is_volume else file.removeprefix("lh.")
            found[map_name] = lambda folder=folder, file=file: whole(folder, file)
    found["ncsnr"] = lambda: whole(space.betas, "ncsnr.nii.gz" if space.is_volume else "ncsnr.mgh")
    for atlas in ATLASES:
        folder = space.maps if atlas in SEGMENTATIONS else space.labels
        file = f"{atlas}.{'nii.gz' if space.is_volume else 'mgz'}"
        found[atlas_coordinate(atlas)] = lambda folder=folder, file=file: whole(folder, file)
        found[f"names of {atlas_coordinate(atlas)}"] = lambda atlas=atlas: names(atlas)
    return found


def published_names(coordinate: str) -> dict[int, str]:
    """Names that are documented, for an atlas without a table."""
    return next((dict(record.names) for name, record in ATLASES.items() if atlas_coordinate(name) == coordinate), {})


class Judge:
    """Names of the values of a store that no independent reader gives, for the intact or for the mutated files."""

    def __init__(self, intact: Values, now: Values) -> None:
        self.readings, self.wrong = (intact, now), list[str]()

    def explain(self, name: str, readers: Sequence[str], fits: Callable[[Any], bool]) -> None:
        """Note a name unless the values of one of its readers fit; those may fail in their own ways."""
        for values in self.readings:
            for reader in readers:
                with suppress(Exception), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    if reader in values and fits(values[reader]()):
                        return
        self.wrong.append(name)


def _same(found: np.ndarray, one: Any) -> bool:
    return found.shape == np.shape(one) and np.array_equal(found, one, equal_nan=found.dtype.kind == "f")


def _map_fits(name: str, found: np.ndarray, one: np.ndarray) -> bool:
    """Whether a map has the mean of its frames in its units; it is NaN where it says nothing."""
    first, last, _ = map_record(name).frames
    raw = one.reshape(len(one), -1)[:, first : last + 1].astype(np.float64).mean(axis=1) * map_record(name).scale
    return bool((np.isclose(found, raw.astype(np.float32), rtol=1e-5, atol=1e-5) | np.isnan(found)).all())


def differences(store: Any, intact: Values, now: Values, space: Space) -> list[str]:
    """Names of the values of a store that no independent reader gives, for the intact or for the mutated files."""
    judge, voxels, trials = Judge(intact, now), store.voxels(SUBJECT), store.trials(SUBJECT)
    flat, sessions = voxels["flat_index"].values, trials["session"].values
    if space.is_volume:
        judge.explain("flat_index", ["brain"], lambda mask: _same(np.sort(flat), np.flatnonzero(mask)))
    betas = store.responses(SUBJECT, zscore=False).values
    if space.name != "fsaverage":
        betas = np.rint(betas.astype(np.float64) * 300)
    for session in np.unique(sessions):
        own, readers = betas[sessions == session], [f"betas {session} {ending}" for ending in space.formats]
        judge.explain(f"betas of session {session}", readers, lambda one, own=own: _same(own, one[flat].T))
    kept = np.flatnonzero(np.isin(np.repeat([1, 2], TRIALS), sessions))
    for name in (name for name in trials.variables if name in intact):
        values = trials[name].values
        judge.explain(name, [name], lambda one, values=values: _same(values, np.asarray(one)[kept]))
    for name in (name for name in voxels.variables if name in intact):
        values = voxels[name].values
        if name in MAPS:
            judge.explain(name, [name], lambda one, name=name, values=values: _map_fits(name, values, one[flat]))
            continue
        judge.explain(name, [name], lambda one, values=values: _same(values, one[flat].astype(values.dtype)))
        attributes = voxels[name].attrs
        flags = zip(attributes.get("flag_values", ()), attributes.get("flag_meanings", "").split(), strict=True)
        names = {value: label for value, label in flags if label != str(value)}
        if names and names != published_names(name):
            judge.explain(f"names of {name}", [f"names of {name}"], lambda table, names=names: all(
                label in (table.get(value), f"{table.get(value)}-{value}") for value, label in names.items()
            ))  # fmt: skip
    images = store.images()
    judge.explain("images", ["images"], lambda one: _same(images.values, one[images["nsd_id"].values]))
    return judge.wrong


@contextmanager
def _in_time() -> Iterator[None]:
    def fail(*_: object) -> None:
        raise TimeoutError(f"no end within {HANGS_AFTER_S} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(HANGS_AFTER_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Ingestion:
    """A tiny NSD in one space, and what becomes of it when one of its files is mutated."""

    def __init__(self, root: Path, space: Space, client: Any) -> None:
        self.root, self.space, self.client = root, space, client
        spec = SyntheticSpec(
            subjects=1, sessions=2, trials_per_session=TRIALS, image_size=32, evc_voxels=40, shared_images=2,
            vertices=162, spaces=(space.name,),
        )  # fmt: skip
        self.source = write_nsd(root / "nsd", spec)
        self.intact = independent(self.source, space)
        self.groups = self._groups()
        self.names = self._variables(self._ingest(self.source))
        if problems := differences(self._ingest(self.source), self.intact, {}, space):
            raise SystemExit(f"{space.name}: the intact copy reads otherwise: {', '.join(problems)}")

    def _groups(self) -> list[list[Path]]:
        """The files that an ingestion reads, by kind; each kind is mutated as often as any other."""
        space, root = self.space, self.source
        labels = root / f"nsddata/freesurfer/{SUBJECT}/label"
        volumes = [path for path in sorted((root / space.maps).iterdir()) if path.is_file()]
        masks = [path for path in volumes if path.name.startswith(("brainmask", "valid_session"))]
        groups = [
            sorted((root / space.betas).glob("*betas_session*")),
            sorted((root / space.betas).glob("*ncsnr.*")) + masks,
            [path for path in volumes if path not in masks],
            sorted(path for path in (root / space.labels).iterdir() if path.is_file() and path.suffix != ".ctab"),
            sorted(labels.glob("*.ctab")),
            [root / DESIGN], [root / TABLE], [root / ANSWERS], [root / BRICK],
        ]  # fmt: skip
        return [group for group in groups if group]

    def _ingest(self, source: Path) -> Any:
        target = self.root / "nsd.zarr"
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(f"{target}.building", ignore_errors=True)
        options = {"voxels": "brain"} if self.space.is_volume else {"voxels": "visual"}
        plan = plan_ingest(str(source), str(target), space=self.space.name, image_size=SIZE, **options)
        return carry_out(plan, self.client)

    def _variables(self, store: Any) -> set[str]:
        return {
            *store.voxels(SUBJECT).variables,
            *store.trials(SUBJECT).variables,
            *map(str, np.unique(store.trials(SUBJECT)["session"])),
        }

    def outcome(self, file: Path, how: str, draw: random.Random) -> tuple[str, str]:
        """``whole``, ``wrong`` or ``unclear``, and what was found."""
        copy = self.root / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.source, copy, copy_function=lambda a, b: Path(b).hardlink_to(a))
        place = copy / file.relative_to(self.source)
        data = place.read_bytes()
        place.unlink()
        mutations_of(place)[how](place, data, draw)
        try:
            with _in_time():
                store = self._ingest(copy)
                wrong = differences(store, self.intact, independent(copy, self.space), self.space)
                said = (Path(store.url) / "manifest.json").read_text()
        except NsdflowError as error:
            text = str(error)
            clear = "\n" not in text and not re.search(r": [A-Z]\w*(Error|Exception): ", text)
            return ("refused" if clear else "unclear"), text
        except Exception as error:  # noqa: BLE001 - what nobody expects is what is counted here
            return "unclear", f"{type(error).__name__}: {error}"
        if wrong:
            return "wrong", ", ".join(wrong)
        lost = self.names - self._variables(store)
        if lost and how != "removed" and place.name not in said:
            return "unsaid", ", ".join(sorted(lost))
        return "whole", ", ".join(sorted(lost))


def main() -> None:
    """Parse the command line and print the row of the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    draw, counts = random.Random(asked.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name, connect("threads", dashboard=None) as client:
        ingestions = [Ingestion(Path(name) / space.name, space, client) for space in SPACES]
        for number in range(asked.mutations):
            ingestion = ingestions[max(0, number % 5 - 2)]  # volumes most often
            file = draw.choice(draw.choice(ingestion.groups))
            how = draw.choice(list(mutations_of(file)))
            outcome, found = ingestion.outcome(file, how, draw)
            counts[outcome] += 1
            if asked.verbose or outcome not in ("whole", "refused"):
                print(f"{outcome}: {file.relative_to(ingestion.source)}: {how}: {found}", file=sys.stderr, flush=True)
    what = f"file of NSD mutated (`--mutations {asked.mutations} --seed {asked.seed}`)"
    print("| what | tried | lost | wrong | unclear |\n|---|---|---|---|---|")
    print(f"| {what} | {counts.total()} | {counts['unsaid']} | {counts['wrong']} | {counts['unclear']} |")
    print(f"{counts['refused']} of them were refused in one line", file=sys.stderr)


if __name__ == "__main__":
    main()
