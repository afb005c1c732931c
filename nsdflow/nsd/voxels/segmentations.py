"""FreeSurfer's segmentations, which NSD publishes beside the maps, with the names of FreeSurfer's own table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["SEGMENTATIONS"]

_PAIRED: Final = {
    2: "Cerebral-White-Matter", 3: "Cerebral-Cortex", 4: "Lateral-Ventricle", 5: "Inf-Lat-Vent",
    7: "Cerebellum-White-Matter", 8: "Cerebellum-Cortex", 10: "Thalamus-Proper", 11: "Caudate", 12: "Putamen",
    13: "Pallidum", 17: "Hippocampus", 18: "Amygdala", 26: "Accumbens-area", 28: "VentralDC", 30: "vessel",
    31: "choroid-plexus",
}  # fmt: skip
#: Numbers of the right hemisphere.
_RIGHT: Final = {
    2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54, 26: 58, 28: 60, 30: 62,
    31: 63,
}  # fmt: skip
_SINGLE: Final = {
    14: "3rd-Ventricle", 15: "4th-Ventricle", 16: "Brain-Stem", 24: "CSF", 72: "5th-Ventricle",
    77: "WM-hypointensities", 80: "non-WM-hypointensities", 85: "Optic-Chiasm", 251: "CC_Posterior",
    252: "CC_Mid_Posterior", 253: "CC_Central", 254: "CC_Mid_Anterior", 255: "CC_Anterior",
}  # fmt: skip

#: Labels by number, by the name of the volume: ``aseg.nii.gz`` and ``hippoSfLabels.nii.gz``.
SEGMENTATIONS: Final[Mapping[str, Mapping[int, str]]] = {
    "aseg": dict(
        sorted(
            {
                **{number: f"Left-{name}" for number, name in _PAIRED.items()},
                **{_RIGHT[number]: f"Right-{name}" for number, name in _PAIRED.items()},
                **_SINGLE,
            }.items()
        )
    ),
    "hippoSfLabels": {
        203: "parasubiculum", 204: "presubiculum", 205: "subiculum", 206: "CA1", 208: "CA3", 209: "CA4",
        210: "GC-ML-DG", 211: "HATA", 212: "fimbria", 214: "molecular_layer_HP", 215: "hippocampal_fissure",
        226: "HP_tail",
    },
}  # fmt: skip
