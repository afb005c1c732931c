"""Feature maps and predictions of the published checkpoint."""

from __future__ import annotations

import numpy as np
import torch

from nsdflow.models.published import load_checkpoint


def test_forward(golden, golden_images, golden_folder) -> None:
    arrays = golden("gnet_forward")
    images = torch.from_numpy(golden_images(arrays))
    model = load_checkpoint(golden_folder / "gnet8j_model_params.pt")
    with torch.no_grad():
        fine, coarse = model.encoder(images)
    found = {
        "fmaps_0_mean": fine.mean((2, 3)),
        "fmaps_1_mean": coarse.mean((2, 3)),
        "fmaps_0_pix": fine[:, :, 12, 7],
        "fmaps_1": coarse[: len(arrays["fmaps_1"])],
    }
    found |= {f"pred_{int(name[4:])}": model.predict(images, name) for name in model.readouts}
    assert sorted(found) == sorted(set(arrays) - {"image_seed", "n_images", "n_used"})
    for name, values in found.items():
        np.testing.assert_allclose(values, arrays[name], rtol=1e-4, atol=1e-4 * np.std(arrays[name]), err_msg=name)
