"""Random faults, counted: kills of an ingestion and of a training, and damaged files of a finished store and run.

    python benchmarks/faults.py --kills 5 --mutations 100 --seed 0

A command runs in a separate process and is killed with signal 9 at a random moment; the same command then runs to its
end, and every byte of the store (every bit of the model and results) is compared with those of an uninterrupted run.
Files of a finished store and of a finished run are mutated (a bit flipped, cut, emptied, removed), and everything is
read: the values must be those that zarr-python and safetensors read from the whole store or run, or there must be one
line. The output is the table of ``docs/what-happens-when.md``.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SETTINGS = {"prefilter": "gabor", "width": 2, "threads": 1, "bootstrap": 4, "train": {"epochs": 6, "batch_size": 40}}


#: Files and folders of a store or run that hold no values.
UNREAD = {
    "manifest.json",
    "log.jsonl",
    "run.yaml",
    "report.html",
    "README.md",
    "plan.json",
    "tasks",
    "performance.html",
}


@dataclass
class Row:
    """Outcomes of one kind of fault."""

    what: str
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: str) -> None:
        """Count one: ``whole``, ``lost``, ``wrong`` or ``unclear``."""
        self.counts[outcome] += 1

    def __str__(self) -> str:
        tried = sum(self.counts.values())
        return f"| {self.what} | {tried} | {self.counts['lost']} | {self.counts['wrong']} | {self.counts['unclear']} |"


def work(kind: str, folder: Path) -> None:
    """Ingest or train in this process."""
    import nsdflow
    from nsdflow.config.storage import Layout

    if kind == "ingest":
        layout = Layout(chunk_voxels=16, shard_images=20)
        nsdflow.ingest(
            folder.parent / "nsd", folder / "nsd.zarr", cluster="threads", voxels="evc", image_size=67, layout=layout
        )
    else:
        store = folder.parent / "reference" / "nsd.zarr"
        nsdflow.run("gnet8j", store=store, runs=folder, cluster="threads", **SETTINGS)


def start(kind: str, folder: Path) -> subprocess.Popen[str]:
    """Start :func:`work` in a separate process."""
    return subprocess.Popen(
        [sys.executable, __file__, "--work", kind, str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def same(kind: str, folder: Path, reference: Path) -> bool:
    """Whether a store has the bytes, or a run the values, of the reference."""
    if kind == "ingest":
        trees = [
            {
                file.relative_to(place): file.read_bytes()
                for file in (place / "nsd.zarr").rglob("*")
                if file.is_file() and file.name != "manifest.json"
            }
            for place in (folder, reference)
        ]
        return trees[0] == trees[1]
    return values(folder / "gnet8j") == values(reference / "gnet8j")


def values(run: Path) -> dict[str, bytes]:
    """All values of a run but the durations of its epochs, and of its model."""
    import nsdflow
    from nsdflow.io.tensors import load_tensors

    tree = nsdflow.open_run(run)
    found = {
        f"{node.path}/{name}": variable.values.tobytes()
        if variable.dtype.kind != "O"
        else repr(variable.values.tolist()).encode()
        for node in tree.subtree
        for name, variable in node.dataset.variables.items()
        if name != "seconds"
    }
    return found | {name: tensor.numpy().tobytes() for name, tensor in load_tensors(f"{run}/model.safetensors").items()}


def kills(kind: str, count: int, root: Path, draw: random.Random) -> Row:
    """Kill a command at random moments and repeat it."""
    row = Row({"ingest": "ingestion killed", "train": "training killed"}[kind])
    reference = root / "reference"
    begun = time.monotonic()
    process = start(kind, reference)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors)
    whole_s = time.monotonic() - begun
    for number in range(count):
        folder = root / f"{kind}-{number}"
        process = start(kind, folder)
        try:
            process.wait(draw.uniform(0.3, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        again = start(kind, folder)
        _, errors = again.communicate()
        if again.returncode:
            row.add("unclear" if errors.count("Error") != 1 else "lost")
            print(errors, file=sys.stderr)
        else:
            row.add("whole" if same(kind, folder, reference) else "wrong")
        shutil.rmtree(folder, ignore_errors=True)
    return row


def plain_values(root: Path) -> dict[str, bytes]:
    """All values of a store, as zarr-python reads them."""
    import zarr

    members = zarr.open_group(root, mode="r", zarr_format=3).members(max_depth=None)
    return {f"/{name}": part[...].tobytes() for name, part in members if isinstance(part, zarr.Array)}


def store_values(root: Path) -> dict[str, bytes]:
    """All values of a store that nsdflow gives, under the names of the arrays; betas as the integers they were."""
    import numpy as np

    import nsdflow

    store = nsdflow.open_store(str(root))
    found = {"/stimuli/images": store.images().values.tobytes()}
    found |= {f"/stimuli/{name}": array.values.tobytes() for name, array in store.images().coords.items()}
    for subject in store.subjects:
        betas = np.rint(store.responses(subject, zscore=False).values.astype(np.float64) * 300).astype(np.int16)
        found[f"/{subject}/betas"] = betas.tobytes()
        store.responses(subject).values  # noqa: B018 - the statistics are read and their checksums checked
        for table in (store.trials(subject), store.voxels(subject)):
            found |= {f"/{subject}/{name}": values.values.tobytes() for name, values in table.variables.items()}
    return found


def mutations(what: str, whole: Path, read: Callable[[Path], dict[str, bytes]], truth: dict[str, bytes],
              count: int, root: Path, draw: random.Random) -> Row:  # fmt: skip
    """Damage one file of a finished store or run at a time and read everything."""
    from nsdflow.errors import NsdflowError

    row, copy = Row(what), root / "copy"
    files = [
        file
        for file in sorted(whole.rglob("*"))
        if file.stat().st_size and file.is_file() and not UNREAD & {*file.relative_to(whole).parts}
    ]
    first = read(whole)
    if any(first[name] != values for name, values in truth.items() if name in first):
        raise SystemExit(f"{whole}: the whole one reads otherwise")
    for _ in range(count):
        shutil.copytree(whole, copy)
        file = copy / draw.choice(files).relative_to(whole)
        how = mutate(file, draw)
        try:
            outcome = "whole" if read(copy) == first else "wrong"
        except (NsdflowError, ValueError, RuntimeError, FileNotFoundError) as error:
            outcome = "whole" if "\n" not in str(error) and str(error) else "unclear"
        except Exception as error:  # noqa: BLE001 - what nobody expects is what is counted here
            outcome = "unclear"
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        row.add(outcome)
        if outcome != "whole":
            print(f"{outcome}: {file.relative_to(copy)} ({how})", file=sys.stderr)
        shutil.rmtree(copy)
    return row


def mutate(file: Path, draw: random.Random) -> str:
    """Flip a bit, cut, empty or remove a file; what was done."""
    data = bytearray(file.read_bytes())
    how = draw.choice(["flip", "flip", "flip", "cut", "empty", "remove"])
    if how == "remove":
        file.unlink()
    elif how == "flip":
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        file.write_bytes(data)
    else:
        file.write_bytes(data[: draw.randrange(len(data)) if how == "cut" else 0])
    return how


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--mutations", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(asked.work[0], Path(asked.work[1]))
        return
    from nsdflow.synthetic import SyntheticSpec, write_nsd

    draw = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        spec = SyntheticSpec(
            subjects=2, sessions=2, trials_per_session=60, shared_images=8, image_size=72, evc_voxels=60
        )
        write_nsd(root / "nsd", spec)
        rows = [kills(kind, asked.kills, root, draw) for kind in ("ingest", "train")]
        store, run = root / "reference" / "nsd.zarr", root / "reference" / "gnet8j"
        of_store, of_run = "file of a finished store damaged", "file of a finished run damaged"
        rows.append(mutations(of_store, store, store_values, plain_values(store), asked.mutations, root, draw))
        rows.append(mutations(of_run, run, values, values(run), asked.mutations, root, draw))
    print("| what | tried | lost | wrong | unclear |\n|---|---|---|---|---|")
    print("\n".join(str(row) for row in rows))


if __name__ == "__main__":
    main()
