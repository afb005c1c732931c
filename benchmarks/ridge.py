"""Ridge at the size of one subject of NSD: ours against himalaya and scikit-learn, each in its own process.

    python benchmarks/ridge.py                  (a) 9,000 images x 20,000 features, 5,000 voxels, ten lambdas, one
                                                holdout; (b) the same with three trials per image, at trial level
    python benchmarks/ridge.py --full           (c) 10,000 images x 148,000 features x 52,000 voxels as well, ours
    python benchmarks/ridge.py --parts b        (b) alone; any of a, b and c
    python benchmarks/ridge.py --share 0.2      the same shapes times 0.2, for a look
    python benchmarks/ridge.py --float64        in (a) himalaya in float64 too, its most accurate numbers

Data lie in .npy files. Ours reads them by blocks; the others load them, as their interfaces require. With a holdout,
scikit-learn's ``RidgeCV`` chooses one lambda for all targets. The benchmark therefore fits ``Ridge`` with each lambda
and takes the best per voxel. Peaks are those of whole processes, with interpreter and libraries. All contenders compute
in float32, which is the fastest for each of them. Each prints a line of JSON when it ends, which an interrupted run
keeps. The last line is one JSON object with everything. A contender that does not finish within ``--limit`` seconds, or
dies, has null.

``same_lambdas`` is true if all three chose the same lambda for every voxel, without exception. A single voxel whose two
best losses differ by less than rounding makes it false. Three more entries compare the contenders with the normal
equations in float64: ``other_lambdas`` counts the voxels for which a contender chose
another lambda than float64 does, ``excess_loss`` is the largest relative excess of the loss, in float64, of a chosen
lambda over the best one, and ``deviation_from_exact`` is the largest difference of predictions in units of a voxel's
deviation, where the lambdas are the same. ``deviation`` is the same difference between each of the others and ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

IMAGES, FEATURES, VOXELS, REPEATS = 9_000, 20_000, 5_000, 3
FULL = (10_000, 148_000, 52_000)
LAMBDAS = np.geomspace(1e2, 1e6, 10)
#: The same per feature, which are 7.4 times as many.
LAMBDAS_FULL = np.geomspace(7.4e2, 7.4e6, 10)
HOLDOUT = 0.1
#: Features, or voxels, that are drawn and written at once.
BLOCK = 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of images, features and voxels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="of ours: cpu or cuda")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds of a contender")
    parser.add_argument("--parts", default="ab", type=parts_named, help="any of a, b and c (default: ab)")
    parser.add_argument("--full", action="store_true", help="(c) as well")
    parser.add_argument("--float64", action="store_true", help="in (a) himalaya in float64 too")
    parser.add_argument("--folder", type=Path, help="for data; a temporary one by default")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        contend(options.contender, options.folder, options.device)
        return
    parts = options.parts | ({"c"} if options.full else set())
    with tempfile.TemporaryDirectory(prefix="nsdflow-ridge-", dir=options.folder) as folder:
        found: dict[str, Any] = {}
        if parts & {"a", "b"}:
            sizes = [max(60, round(options.share * size)) for size in (IMAGES, FEATURES, VOXELS)]
            found["sizes"] = sizes
            write_problem(Path(folder), *sizes)
        for part in sorted(parts):
            some = PARTS[part](Path(folder), options)
            print(json.dumps({"part": part} | some), flush=True)
            found |= some
    print(json.dumps(found))


def parts_named(text: str) -> set[str]:
    """Parts of an option such as ``ab`` or ``a,c``."""
    parts = set(text.replace(",", ""))
    if not parts or parts - PARTS.keys():
        raise argparse.ArgumentTypeError(f"{text!r} names no parts; write any of {', '.join(PARTS)}")
    return parts


def once(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """(a), with float64 as the judge of all."""
    names = ("ours", "himalaya", "sklearn")
    done = {name: run(name, folder, 1, options) for name in (*names, *(["himalaya64"] if options.float64 else []))}
    found: dict[str, Any] = {}
    for name, result in done.items():
        found[f"seconds_{name}"] = result and result["seconds"]
        found[f"peak_{name}"] = result and result["peak"]
    finished = [name for name, result in done.items() if result]
    others = [name for name in finished if name != "ours"] if done["ours"] else []
    found["same_lambdas"] = bool(others) and not any(
        others_chosen(folder, "ours", one) for one in others if one in names
    )
    found["deviation"] = {name: deviation(folder, "ours", name) for name in others}
    if run("exact", folder, 1, options):
        found["other_lambdas"] = {name: others_chosen(folder, name, "exact") for name in finished}
        found["excess_loss"] = {name: excess_loss(folder, name) for name in finished}
        found["deviation_from_exact"] = {name: deviation(folder, name, "exact") for name in finished}
    return found


def repeated(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """(b)."""
    write_trials(folder)
    done = {name: run(name, folder, REPEATS, options) for name in ("ours", "himalaya", "sklearn")}
    others = [result["seconds"] for name, result in done.items() if name != "ours" and result]
    found = {"seconds_repeats_ours": done["ours"] and done["ours"]["seconds"]}
    return found | {"seconds_repeats_other": min(others, default=None)}


def full(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """(c), with the floor of its counted operations over the measured product rate."""
    from nsdflow.fit.ridge import RidgeProblem, RidgeShape, plan_memory

    images, features, voxels = (max(60, round(options.share * size)) for size in FULL)
    for old in folder.glob("*.npy"):
        old.unlink()
    write_problem(folder, images, features, voxels)
    result = run("full", folder, 1, options)
    held = round(HOLDOUT * images)
    shape = RidgeShape(images, features, voxels, images, held)
    planned = plan_memory(shape, full_problem(RidgeProblem), double=False).bytes
    train, count = images - held, len(LAMBDAS_FULL)
    work = 1.0 * images**2 * features  # the Gram matrix, half of a product
    work += count * (train**3 / 3 + 2.0 * train**2 * held + 2.0 * train * held * voxels)
    work += count * images**3 / 3 + 2.0 * images**2 * voxels
    return {
        "seconds_full": result and result["seconds"],
        "peak_full": result and result["peak"],
        "planned_full": planned + (result["base"] if result else 0),
        "floor_full": work / product_rate(options.threads, options.device),
    }


def product_rate(threads: int, device: str) -> float:
    """Additions and multiplications per second of a large float32 product; the best of three."""
    import torch

    torch.set_num_threads(threads)
    a = torch.randn(4000, 4000, device=device)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        float((a @ a)[0, 0])  # waits for a GPU
        times.append(time.perf_counter() - start)
    return 2.0 * len(a) ** 3 / min(times)


def write_problem(folder: Path, images: int, features: int, voxels: int) -> None:
    """X (image, feature) with a falling spectrum and Y (image, voxel), whose noise grows from voxel to voxel."""
    rng = np.random.default_rng(0)
    latent = rng.standard_normal((images, 200), dtype=np.float32) * np.geomspace(3, 0.1, 200, dtype=np.float32)
    X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (images, features))
    for start in range(0, features, BLOCK):
        count = min(BLOCK, features - start)
        block = latent @ rng.standard_normal((200, count), dtype=np.float32)
        block += 2 * rng.standard_normal(block.shape, dtype=np.float32)
        block -= block.mean(0)
        X[:, start : start + count] = block / block.std(0)
    X.flush()
    noise = np.geomspace(0.3, 30, voxels).astype(np.float32)
    Y = np.lib.format.open_memmap(folder / "Y.npy", "w+", np.float32, (images, voxels))
    for start in range(0, voxels, BLOCK):
        count = min(BLOCK, voxels - start)
        signal = latent @ rng.standard_normal((200, count), dtype=np.float32)
        signal /= signal.std(0)
        block = signal + noise[start : start + count] * rng.standard_normal(signal.shape, dtype=np.float32)
        Y[:, start : start + count] = block
    Y.flush()


def write_trials(folder: Path) -> None:
    """Y again with three trials per image, image by image, so that the holdout of images is one of trials."""
    rng = np.random.default_rng(1)
    Y = np.load(folder / "Y.npy", mmap_mode="r")
    trials = np.lib.format.open_memmap(folder / "Y3.npy", "w+", np.float32, (REPEATS * len(Y), Y.shape[1]))
    for start in range(0, len(Y), 500):
        block = np.repeat(Y[start : start + 500], REPEATS, axis=0)
        trials[REPEATS * start : REPEATS * start + len(block)] = block + 0.5 * rng.standard_normal(
            block.shape, dtype=np.float32
        )
    trials.flush()


def problem(kind: Any, lambdas: np.ndarray, at_once: int = 1024, lambdas_at_once: int = 4) -> Any:
    """Our settings: no intercept and no standardisation, as the data are standardised and the others do neither."""
    return kind(
        tuple(lambdas.tolist()), intercept=False, standardise=False, features_at_once=at_once, voxels_at_once=at_once,
        lambdas_at_once=lambdas_at_once,
    )  # fmt: skip


def full_problem(kind: Any) -> Any:
    """(c) has memory for larger blocks, and for the operators of all lambdas: responses are read once for them."""
    return problem(kind, LAMBDAS_FULL, 2048, len(LAMBDAS_FULL))


def run(name: str, folder: Path, repeats: int, options: argparse.Namespace) -> dict[str, Any] | None:
    """Run a contender in a separate process."""
    threads = {key: str(options.threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    command = [sys.executable, __file__, "--contender", f"{name}:{repeats}:{options.threads}", "--folder", str(folder)]
    command += ["--device", options.device]
    about: dict[str, Any] = {"contender": name, "trials_per_image": repeats}
    result: dict[str, Any] | None = None
    try:
        done = subprocess.run(
            command, env=os.environ | threads, timeout=options.limit, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        about["error"] = f"not within {options.limit:.0f} s"
    else:
        if done.returncode:
            about["error"] = f"status {done.returncode}: {' '.join(done.stderr.strip().splitlines()[-1:])}"
        else:
            result = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps(about | (result or {})), flush=True)
    return result


def contend(contender: str, folder: Path, device: str) -> None:
    """Fit, keep lambdas and predictions of some images, and print seconds and peak."""
    name, repeats, threads = contender.split(":")
    import torch

    torch.set_num_threads(int(threads))
    X = np.load(folder / "X.npy", mmap_mode="r")
    held = round(HOLDOUT * len(X))
    place = folder if repeats == "1" else folder / "trials"
    CONTENDERS[name](X[:0], held, folder, device)  # libraries are imported before the clock starts
    base, start = peak(), time.perf_counter()
    lambdas, predictions, *losses = CONTENDERS[name](X, held, place, device)
    seconds = time.perf_counter() - start
    if repeats == "1":
        np.savez(folder / f"{name}.npz", lambdas=lambdas, predictions=predictions, losses=np.array(losses))
    print(json.dumps({"seconds": seconds, "peak": peak(), "base": base}))


def responses_of(folder: Path) -> tuple[np.ndarray, int]:
    """Responses, and trials per image."""
    if folder.name == "trials":
        return np.load(folder.parent / "Y3.npy"), REPEATS
    return np.load(folder / "Y.npy"), 1


def loaded(folder: Path, repeats: int) -> np.ndarray:
    """Features with one row per trial, held once in memory."""
    if repeats == 1:
        return np.load(folder / "X.npy")
    return np.repeat(np.load(folder.parent / "X.npy"), repeats, axis=0)


class OnDisk:
    """Columns of an .npy file of float32, read and not mapped: mapped pages would count as ours."""

    def __init__(self, path: Path) -> None:
        mapped = np.load(path, mmap_mode="r")
        self.path, self.shape, self.offset = path, mapped.shape, mapped.offset

    def __getitem__(self, key: Any) -> np.ndarray:
        first, last, _ = key[1].indices(self.shape[1])
        values = np.empty((self.shape[0], last - first), np.float32)
        with self.path.open("rb", buffering=0) as file:
            for row in range(self.shape[0]):
                file.seek(self.offset + 4 * (row * self.shape[1] + first))
                file.readinto(memoryview(values[row]).cast("B"))
        return values


class DualFile:
    """Coefficients (image, voxel) of float32 in a file, voxel by voxel."""

    def __init__(self, path: Path, images: int) -> None:
        self.file, self.images = path.open("w+b", buffering=0), images

    def __enter__(self) -> DualFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, voxels: Any, coefficients: Any) -> None:
        for voxel, column in zip(voxels.tolist(), coefficients.T.contiguous().numpy(), strict=True):
            self.file.seek(4 * self.images * voxel)
            self.file.write(memoryview(column).cast("B"))

    def read(self, voxels: slice) -> Any:
        import torch

        self.file.seek(4 * self.images * voxels.start)
        columns = np.frombuffer(self.file.read(4 * self.images * (voxels.stop - voxels.start)), np.float32)
        return torch.from_numpy(columns.reshape(-1, self.images).T.copy())


def ours(X: Any, held: int, folder: Path, device: str) -> tuple[np.ndarray, np.ndarray]:
    """nsdflow, from disk and to disk, by blocks."""
    import torch

    from nsdflow.fit.ridge import RidgeProblem, fit
    from nsdflow.fit.ridge.products import cross_products

    if not len(X):
        return np.empty(0), np.empty(0)
    repeats = REPEATS if folder.name == "trials" else 1
    place = folder.parent if folder.name == "trials" else folder
    features, responses = OnDisk(place / "X.npy"), OnDisk(place / ("Y3.npy" if repeats > 1 else "Y.npy"))
    images = torch.arange(len(X)).repeat_interleave(repeats)
    folds = [images >= len(X) - held]
    settings = problem(RidgeProblem, LAMBDAS)
    with DualFile(place / "dual.bin", len(X)) as dual:
        fitted = fit(
            features, responses, settings, images=images, folds=folds, write=dual.write, device=torch.device(device)
        )
        few = np.ascontiguousarray(X[:50])
        K = cross_products(features, torch.arange(len(X)), few, fitted.statistics, at_once=settings.features_at_once)
        predictions = [
            K @ dual.read(slice(start, start + settings.voxels_at_once))
            for start in range(0, responses.shape[1], settings.voxels_at_once)
        ]
    return fitted.lambda_.numpy(), torch.cat(predictions, 1).numpy()


def ours_full(X: Any, held: int, folder: Path, device: str) -> tuple[np.ndarray, np.ndarray]:
    """nsdflow, from disk and to disk, without predictions."""
    import torch

    from nsdflow.fit.ridge import RidgeProblem, fit

    if not len(X):
        return np.empty(0), np.empty(0)
    folds = [torch.arange(len(X)) >= len(X) - held]
    sources = OnDisk(folder / "X.npy"), OnDisk(folder / "Y.npy")
    with DualFile(folder / "dual.bin", len(X)) as dual:
        fitted = fit(*sources, full_problem(RidgeProblem), folds=folds, write=dual.write, device=device)
    return fitted.lambda_.numpy(), np.empty(0)


def himalaya(
    X: Any, held: int, folder: Path, device: str, dtype: type[np.floating[Any]] = np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """KernelRidgeCV on the torch backend, with its defaults."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from sklearn.model_selection import PredefinedSplit

    set_backend("torch")
    if not len(X):
        return np.empty(0), np.empty(0)
    Y, repeats = responses_of(folder)
    X, Y = (values.astype(dtype, copy=False) for values in (loaded(folder, repeats), Y))
    split = np.where(np.arange(len(X)) >= len(X) - held * repeats, 0, -1)
    model = KernelRidgeCV(alphas=LAMBDAS.astype(dtype), cv=PredefinedSplit(split)).fit(X, Y)
    return np.asarray(model.best_alphas_), np.asarray(model.predict(X[: 50 * repeats : repeats]))


def himalaya64(X: Any, held: int, folder: Path, device: str) -> tuple[np.ndarray, np.ndarray]:
    """The same in float64."""
    return himalaya(X, held, folder, device, np.float64)


def sklearn(X: Any, held: int, folder: Path, device: str) -> tuple[np.ndarray, np.ndarray]:
    """Ridge per lambda on the training part, the best per voxel, then on everything."""
    from sklearn.linear_model import Ridge

    if not len(X):
        return np.empty(0), np.empty(0)
    Y, repeats = responses_of(folder)
    X = loaded(folder, repeats)
    train = len(X) - held * repeats
    losses = []
    for strength in LAMBDAS:
        model = Ridge(strength, fit_intercept=False).fit(X[:train], Y[:train])
        losses.append(((Y[train:] - model.predict(X[train:])) ** 2).sum(0))
    lambdas = LAMBDAS[np.argmin(losses, axis=0)]
    predictions = np.empty((50, Y.shape[1]), np.float32)
    for strength in np.unique(lambdas):
        chosen = lambdas == strength
        model = Ridge(strength, fit_intercept=False).fit(X, Y[:, chosen])
        predictions[:, chosen] = model.predict(X[: 50 * repeats : repeats]).reshape(50, -1)
    return lambdas, predictions


def exact(X: Any, held: int, folder: Path, device: str) -> tuple[np.ndarray, ...]:
    """The normal equations in float64, solved by scipy; also the losses (lambda, voxel)."""
    from scipy.linalg import cho_factor, cho_solve

    if not len(X):
        return np.empty(0), np.empty(0), np.empty(0)
    Y, K = np.load(folder / "Y.npy").astype(np.float64), np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], BLOCK):
        block = X[:, start : start + BLOCK].astype(np.float64)
        K += block @ block.T

    def operator(rows: int, strength: float, columns: slice) -> np.ndarray:
        system = cho_factor(K[:rows, :rows] + strength * np.eye(rows), overwrite_a=True)
        return cho_solve(system, K[:rows, columns]).T

    train = len(X) - held
    losses = [
        ((Y[train:] - operator(train, strength, slice(train, None)) @ Y[:train]) ** 2).sum(0) for strength in LAMBDAS
    ]
    lambdas = LAMBDAS[np.argmin(losses, axis=0)]
    predictions = np.empty((50, Y.shape[1]))
    for strength in np.unique(lambdas):
        chosen = lambdas == strength
        predictions[:, chosen] = operator(len(X), strength, slice(50)) @ Y[:, chosen]
    return lambdas, predictions, np.array(losses)


CONTENDERS: dict[str, Callable[[Any, int, Path, str], tuple[np.ndarray, ...]]] = {
    "ours": ours, "full": ours_full, "himalaya": himalaya, "himalaya64": himalaya64, "sklearn": sklearn, "exact": exact,
}  # fmt: skip
PARTS = {"a": once, "b": repeated, "c": full}


def others_chosen(folder: Path, one: str, other: str) -> int:
    """Number of voxels for which two contenders chose other lambdas."""
    with np.load(folder / f"{one}.npz") as a, np.load(folder / f"{other}.npz") as b:
        return int((~np.isclose(a["lambdas"], b["lambdas"], rtol=1e-4)).sum())


def excess_loss(folder: Path, name: str) -> float:
    """Largest relative excess of the float64 loss of a chosen lambda over the smallest one of the voxel."""
    with np.load(folder / f"{name}.npz") as a, np.load(folder / "exact.npz") as b:
        losses = b["losses"][0]
        chosen = np.abs(np.log(LAMBDAS)[:, None] - np.log(a["lambdas"])).argmin(0)
        return float((np.take_along_axis(losses, chosen[None], 0)[0] / losses.min(0) - 1).max())


def deviation(folder: Path, one: str, other: str) -> float:
    """Largest difference of predictions, in units of each voxel's deviation, where the lambdas are the same."""
    with np.load(folder / f"{one}.npz") as a, np.load(folder / f"{other}.npz") as b:
        same = np.isclose(a["lambdas"], b["lambdas"], rtol=1e-4)
        p, q = a["predictions"][:, same].astype(np.float64), b["predictions"][:, same].astype(np.float64)
        return float((np.abs(p - q).max(0) / q.std(0)).max())


def peak() -> int:
    """Largest resident memory of this process in bytes; ``getrusage`` would count the parent that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
