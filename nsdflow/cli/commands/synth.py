"""``nsdflow synth``: a synthetic NSD in the published layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from nsdflow.cli.options import Experiments, normalized

__all__ = ["synth"]


def synth(
    folder: Annotated[Path, typer.Argument(help="New folder for the synthetic NSD.", callback=normalized)],
    subjects: Annotated[int | None, typer.Option(min=1, max=8, help="Number of subjects; NSD has 8.")] = None,
    sessions: Annotated[int | None, typer.Option(min=1, max=40, help="Sessions per subject.")] = None,
    trials: Annotated[int | None, typer.Option(min=12, help="Trials per session; NSD has 750.")] = None,
    shared: Annotated[int | None, typer.Option(min=0, help="Images that all subjects see; NSD has 1,000.")] = None,
    image_size: Annotated[int | None, typer.Option(min=32, help="Pixels per side; NSD has 425.")] = None,
    evc_voxels: Annotated[int | None, typer.Option(min=7, help="Voxels of V1 to hV4 per subject.")] = None,
    spaces: Annotated[str | None, typer.Option(help="For example `func1pt8mm,fsaverage`.")] = None,
    formats: Annotated[str | None, typer.Option(help="Formats of volume betas: `nii.gz`, `hdf5`, `mat`.")] = None,
    hierarchy: Annotated[
        str | None, typer.Option(help="What V1 to hV4 read: `mild`, `ordered`, `reversed`, `same`.")
    ] = None,
    annotations: Annotated[
        bool,
        typer.Option(
            "--annotations", help="Also write files like COCO's annotations; areas beyond hV4 respond to them."
        ),
    ] = False,
    experiments: Experiments = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    size: Annotated[
        str, typer.Option(help="Defaults of the options above: `small`, `demo`, or `published` (300 GB).")
    ] = "small",
) -> None:
    """Write a synthetic NSD in the published layout, with planted responses, and the planted values.

    Example: `nsdflow synth nsd --subjects 2 --sessions 3`
    """
    from nsdflow.errors import one_of
    from nsdflow.monitor.terminal import TerminalProgress
    from nsdflow.synthetic import SyntheticSpec, write_nsd

    sizes: dict[str, Callable[..., SyntheticSpec]] = {
        "small": SyntheticSpec,
        "demo": SyntheticSpec.demo,
        "published": SyntheticSpec.published,
    }
    if size not in sizes:
        raise one_of("size", size, sizes)
    given = {
        "subjects": subjects,
        "sessions": sessions,
        "trials_per_session": trials,
        "shared_images": shared,
        "image_size": image_size,
        "evc_voxels": evc_voxels,
        "spaces": spaces and tuple(spaces.split(",")),
        "formats": formats and tuple(formats.split(",")),
        "hierarchy": hierarchy,
        "annotations": annotations or None,
        "experiments": experiments and tuple(experiments.split(",")),
    }
    spec = sizes[size](seed=seed, **{name: value for name, value in given.items() if value is not None})
    with TerminalProgress() as progress:
        write_nsd(folder, spec, progress=progress.step)
    print(f"{folder}: a synthetic NSD of {spec.subjects} subject(s); the planted truth is in {folder / 'truth'}")
