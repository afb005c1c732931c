"""The published numbers as a page of documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nsdflow.analysis.published.numbers import ALEXNET_CAVEAT, ASYMMETRY_CAVEAT, NUMBERS, Number
from nsdflow.analysis.published.tables import SOURCE_TABLES, source_table

__all__ = ["page"]

_SUBJECTS = [f"subj{number:02d}" for number in range(1, 9)]
_TITLES = {
    "voxels": "Voxels",
    "trials": "Trials",
    "input_mean": "Input means",
    "median_accuracy": "Median validation accuracy",
    "asymmetry": "Asymmetry of transfer",
    "seconds_per_epoch": "Seconds per epoch",
    "seconds_per_subject": "Seconds per subject",
    "seconds_per_voxel": "Seconds per voxel",
    "seconds_per_candidate": "Seconds per candidate",
}


def page() -> str:
    """``docs/reference-numbers.md``, in Markdown."""
    parts = [_INTRODUCTION]
    for quantity in dict.fromkeys(number.quantity for number in NUMBERS):
        parts.append(f"## {_TITLES.get(quantity, quantity)}\n\n{_numbers(quantity)}")
    parts.append(f"## What to keep in mind\n\n- AlexNet-fwRF: {ALEXNET_CAVEAT}.\n- Asymmetry: {ASYMMETRY_CAVEAT}.\n")
    for name, (file, content) in SOURCE_TABLES.items():
        frame = source_table(name)
        rows = [[_cell(value) for value in row] for row in frame.round(3).itertuples(index=False, name=None)]
        table = _table([str(column) for column in frame.columns], rows)
        parts.append(f"## Published table: {name}\n\n`{file}`: {content}.\n\n{table}")
    return "\n".join(parts)


_INTRODUCTION = """\
# Reference numbers

What the notebooks of the paper (St-Yves, Allen, Wu, Kay and Naselaris 2023, Nature Communications 14, 3329) print on
the real NSD: betas `betas_fithrf_GLMdenoise_RR` in func1pt8mm, subjects 1 to 8, on an A100-PCIE-40GB with torch 1.10.
This page is written from `nsdflow.analysis.published`:

```python
from nsdflow.analysis import published

for number in published.find("median_accuracy", model="gnet8j", subject="subj01"):
    print(number.value, number.unit, number.source)
```
```text
0.361 correlation, single trials gnet8j_encoding_multisubjects.ipynb, styvesg/nsd_gnet8x at 5c5905b
0.986 correlation, single trials synthetic_transfer_learning.ipynb, styvesg/nsd_gnet8x at 5c5905b
```

`nsdflow compare RUN --published` and a section of each report compare a run on the real NSD with these numbers, with
the difference in units of its standard error. On synthetic data they say that the comparison means nothing.

`nsdflow check SOURCE --parity` compares a copy of NSD with them before anything is computed: the voxels of every set
and ROI, trials, and input means of a sample of the images. With a store that holds the whole lists
(`ingest --images subjects`) the means are exact, and with published checkpoints the correlations of their predictions
with its responses are compared with the printed ones:

```bash no-run: it needs NSD and the published files
nsdflow check nsd --parity
nsdflow check nsd --parity --store nsd.zarr --checkpoint gnet8j_model_params.pt
```

Without a store, the correlations are those that the file says. A GNet predicts the 1,000 shared images for 29,597
voxels with 14 TFLOP, seconds on a GPU. Files of transfer and of AlexNet-fwRF are compared as the file says.
"""


def _numbers(quantity: str) -> str:
    """One table with a row per model, ROI and kind of responses; then the sources and notes."""
    rows: dict[tuple[str, str, str], dict[str, Number]] = {}
    for number in NUMBERS:
        if number.quantity == quantity:
            key = (number.model, number.roi, number.data + (f": {number.note}" if "subject;" in number.note else ""))
            rows.setdefault(key, {})[number.subject] = number
    subjects = [name for name in ("all", *_SUBJECTS) if any(name in row for row in rows.values())]
    header = ["model or set", "ROI", "responses", *(name.removeprefix("subj0") for name in subjects)]
    lines = [[*key[:2], key[2], *(_number(row.get(name)) for name in subjects)] for key, row in rows.items()]
    numbers = [number for row in rows.values() for number in row.values()]
    unit = numbers[0].unit
    sources = "; ".join(dict.fromkeys(number.source.partition(", ")[0] for number in numbers))
    notes = "".join(
        f"- {model}: {note}.\n" for model, note in dict.fromkeys((n.model, n.note) for n in numbers) if note
    )
    return f"Unit: {unit}. Sources: {sources}.\n\n{_table(header, lines)}\n{notes}"


def _number(number: Number | None) -> str:
    if number is None:
        return ""
    text = _cell(number.value)
    return text if number.error is None else f"{text} ± {_cell(number.error)}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return (
            f"{value:,.0f}"
            if value.is_integer() and abs(value) >= 10
            else f"{value:.4g}"
            if value < 1
            else f"{value:g}"
        )
    return str(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"
