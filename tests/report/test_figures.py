"""Figures show the given numbers, do not change matplotlib's global state, and accept odd results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from nsdflow.analysis import pooling_field_fits, pooling_fields
from nsdflow.report import figures

Trees = dict[str, xr.DataTree]


def early(subject: xr.Dataset) -> xr.Dataset:
    """Voxels of the four areas that fill one row of panels."""
    return subject.isel(voxel=subject["roi"].values <= 7)


def off_the_volume(subject: xr.Dataset) -> xr.Dataset:
    return subject.drop_vars([name for name in ("i", "j", "k") if name in subject.coords])


def pictures() -> xr.DataArray:
    images = np.random.default_rng(0).integers(0, 255, (20, 3, 9, 9), np.uint8)
    return xr.DataArray(images, dims=("image", "channel", "y", "x"), coords={"nsd_id": ("image", np.arange(20) * 7)})


def classes() -> xr.DataTree:
    """Accuracy by class of image of two subjects; one class has too few images for a correlation."""
    rng = np.random.default_rng(3)
    names = ["shared images", "noise", "natural scenes", "imagery B"]
    coords = {
        "image_class": names, "experiment": ("image_class", ["main", "synthetic", "synthetic", "imagery"]),
        "distribution": ("image_class", ["within", "outside", "within", "outside"]),
    }  # fmt: skip
    accuracy = rng.uniform(0, 0.6, (4, 9))
    accuracy[2] = np.nan
    variables = {
        "class_accuracy": (("image_class", "voxel"), accuracy),
        "class_ceiling": (("image_class", "voxel"), rng.uniform(0.5, 0.9, (4, 9))),
        "conditions": ("image_class", [80, 12, 2, 6]),
    }
    subject = xr.Dataset(variables, coords)
    return xr.DataTree.from_dict({"subj01": subject, "subj02": subject})


def by_layer(subject: xr.Dataset) -> xr.Dataset:
    """A ridge run of three layers on the voxels of another run."""
    accuracy = np.random.default_rng(2).uniform(0, 0.6, (3, subject.sizes["voxel"]))
    layers = np.array(["conv1", "conv2", "fc6"])
    best = ("voxel", layers[accuracy.argmax(axis=0)])
    variables = {"layer_accuracy": (("layer", "voxel"), accuracy)}
    return xr.Dataset(variables, {"layer": layers, "best_layer": best, "roi": subject["roi"]})


def responses_to(images: xr.DataArray) -> xr.DataArray:
    order = np.random.default_rng(1).permutation(images.sizes["image"])
    return xr.DataArray(order * 0.1, dims="image", coords={"nsd_id": ("image", images["nsd_id"].values[order])})


DRAW: dict[str, Callable[[Trees], Figure]] = {
    "learning_curves": lambda t: figures.learning_curves(t["gnet"]["history"].to_dataset()),
    "learning_curves of trunks": lambda t: figures.learning_curves(t["transfer"]["history"].to_dataset()),
    "accuracy_by_roi": lambda t: figures.accuracy_by_roi(t["fwrf"]),
    "accuracy_histograms": lambda t: figures.accuracy_histograms(t["gnet"]),
    "accuracy_map": lambda t: figures.accuracy_map(t["gnet"]["subj01"].to_dataset()),
    "pooling_field_examples": lambda t: figures.pooling_field_examples(t["gnet"]["subj01"].to_dataset()),
    "receptive_fields": lambda t: figures.receptive_fields(t["fwrf"]["subj01"].to_dataset()),
    "receptive_fields of V1 to hV4": lambda t: figures.receptive_fields(early(t["fwrf"]["subj01"].to_dataset())),
    "size_by_eccentricity": lambda t: figures.size_by_eccentricity(t["fwrf"]["subj01"].to_dataset()),
    "layer_weights": lambda t: figures.layer_weights(t["fwrf"]["subj01"].to_dataset()),
    "explained_variance": lambda t: figures.explained_variance(t["tables"]["accuracy"]["explained_variance"]),
    "joint_distribution": lambda t: figures.joint_distribution(t["gnet"], t["transfer"], names=("one", "two")),
    "transfer_losses": lambda t: figures.transfer_losses(t["transfer"]["transfer"].to_dataset()),
    "transfer_asymmetries": lambda t: figures.transfer_asymmetries(t["tables"]["transfer"].to_dataset()),
    "signal_accuracy": lambda t: figures.signal_accuracy(t["synthetic_data"]),
    "overview": lambda t: figures.overview(t["gnet"]),
    "overview without a volume": lambda t: figures.overview(t["gnet"].map_over_datasets(off_the_volume)),
    "accuracy_bars": lambda t: figures.accuracy_bars(t["fwrf"]),
    "accuracy_against_ceiling": lambda t: figures.accuracy_against_ceiling(t["gnet"]),
    "sorted_accuracy": lambda t: figures.sorted_accuracy(t["gnet"]),
    "roi_map": lambda t: figures.roi_map(t["fwrf"]["subj01"].to_dataset()),
    "category_map": lambda t: figures.category_map(
        t["gnet"]["subj01"].to_dataset(), t["gnet"]["subj01"]["roi"].values % 3, {1: "one", 2: "two"}, title="degrees"
    ),
    "holdout_violins": lambda t: figures.holdout_violins(t["gnet"]),
    "model_against_model": lambda t: figures.model_against_model(t["gnet"], t["transfer"], names=("one", "two")),
    "joint_distribution by subject": lambda t: figures.joint_distribution(t["gnet"], t["transfer"], by="subject"),
    "candidate_fields": lambda t: figures.candidate_fields(t["fwrf"]["candidates"]["rf"]),
    "chosen_lambdas": lambda t: figures.chosen_lambdas(t["fwrf"], tuple(np.geomspace(1e3, 1e6, 9))),
    "features_by_layer": lambda t: figures.features_by_layer(t["fwrf"]["subj01"].to_dataset()),
    "accuracy_by_layer": lambda t: figures.accuracy_by_layer(by_layer(t["fwrf"]["subj01"].to_dataset())),
    "accuracy_of_classes": lambda _: figures.accuracy_of_classes(classes()),
    "image_mosaic": lambda _: figures.image_mosaic(pictures(), responses_to(pictures()), label="predicted (degrees)"),
    "tuning_violins": lambda t: figures.tuning_violins(t["tuning"]),
    "band_variance": lambda t: figures.band_variance(t["banded_ridge"]),
    "category_weights": lambda t: figures.category_weights(t["semantic"]["subj01"].to_dataset()),
    "layer_map": lambda t: figures.layer_map(t["tuning"]["subj01"].to_dataset()),
    "variance_by_layer": lambda t: figures.variance_by_layer(t["tuning"]),
    "variance_by_layer of halves": lambda t: figures.variance_by_layer(t["tuning"], prefix="half_", partition="half"),
}


def texts(figure: Figure) -> set[str]:
    return {text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()}


@pytest.mark.parametrize("name", DRAW)
def test_every_panel_is_labelled_and_nothing_global_changes(name: str, results: Trees) -> None:
    before = dict(mpl.rcParams)
    figure = DRAW[name](results)
    figure.savefig(BytesIO(), format="png", dpi=30)
    assert dict(mpl.rcParams) == before
    assert figure.axes
    for panel in (panel for panel in figure.axes if panel.get_visible()):
        titled = panel.get_title(loc="left") or panel.get_title()
        beside = panel.get_shared_y_axes().get_siblings(panel)  # a row shares its label
        assert titled or panel.get_xlabel() or panel.texts or any(other.get_ylabel() for other in beside)
    words = " ".join(texts(figure))
    units = ["correlation", "degrees", "(%)", "share", "difference of r", "change of r", "asymmetry", "voxels", "(r)"]
    assert any(unit in words for unit in (*units, "image widths", "features", "variance"))


@pytest.mark.parametrize("name", DRAW)
def test_nothing_written_is_cut_off(name: str, results: Trees) -> None:
    figure = DRAW[name](results)
    figure.savefig(BytesIO(), format="png", dpi=100)
    # tick labels beyond the limits of an axis exist but are not drawn
    ticks = {label for panel in figure.axes for label in (*panel.get_xticklabels(), *panel.get_yticklabels())}
    for text in set(figure.findobj(mpl.text.Text)) - ticks:
        if text.get_text():
            extent, page = text.get_window_extent(), figure.bbox.padded(1)
            assert page.xmin <= extent.xmin < extent.xmax <= page.xmax, text
            assert page.ymin <= extent.ymin < extent.ymax <= page.ymax, text


def test_every_figure_is_drawn_here() -> None:
    assert {name.split()[0] for name in DRAW} == set(dir(figures))


def test_figures_need_no_pyplot() -> None:
    """pyplot holds global state, and looks for a screen."""
    code = "import sys, nsdflow.report; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_medians_and_ceilings_are_those_of_the_voxels(results: Trees) -> None:
    axes = figures.accuracy_by_roi(results["gnet"]).axes[0]
    drawn = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "o" and len(line.get_ydata()) == 1]
    expected = []
    for subject in ("subj01", "subj02"):
        data = results["gnet"][subject].dataset
        for labels in ((1, 2), (3, 4), (5, 6), (7,)):
            expected.append(np.median(data["accuracy"].values[np.isin(data["roi"], labels)]))
    np.testing.assert_allclose(drawn, expected)


def test_the_map_puts_every_voxel_of_a_slice_in_its_place(results: Trees) -> None:
    data = results["gnet"]["subj01"].to_dataset()
    figure = figures.accuracy_map(data, slices=3)
    panel = figure.axes[0]
    number = int(panel.get_title().removeprefix("k = "))
    drawn = panel.images[0].get_array().filled(np.nan).T
    here = data.isel(voxel=data["k"].values == number)
    i, j = here["i"].values - data["i"].values.min() + 1, here["j"].values - data["j"].values.min() + 1
    np.testing.assert_array_equal(drawn[i, j], here["accuracy"].values.astype(float))
    assert np.isfinite(drawn).sum() == here.sizes["voxel"]
    assert {"L", "R"} <= texts(figure)


def test_transfer_matrices_show_losses_in_thousandths_and_the_asymmetry(results: Trees) -> None:
    transfer = results["transfer"]["transfer"].to_dataset()
    shown = texts(figures.transfer_losses(transfer))
    loss = float(transfer["transfer"].sel(subject="all", model="hV4", roi="V1"))
    assert f"{1000 * loss:.0f}".replace("-", "\N{MINUS SIGN}") in shown
    alpha, error = (float(transfer[name].sel(subject="all")) for name in ("alpha", "alpha_error"))
    assert f"all   α = {alpha:.2f} ± {error:.2f}".replace("-", "\N{MINUS SIGN}") in shown


def test_asymmetries_stand_with_their_errors_above_their_subject(results: Trees) -> None:
    table = results["tables"]["transfer"].to_dataset()
    (axes,) = figures.transfer_asymmetries(table).axes
    for number, name in enumerate(table["set"].values):
        points, _, (bars,) = axes.containers[number].lines
        alpha, error = (table[v].sel(set=name).values for v in ("mean", "std"))
        np.testing.assert_allclose(points.get_ydata(), alpha)
        np.testing.assert_array_equal(np.round(points.get_xdata()), range(len(alpha)))
        np.testing.assert_allclose([np.ptp(bar[:, 1]) / 2 for bar in bars.get_segments()], error)


def test_joint_distribution_counts_who_is_better(results: Trees) -> None:
    better = results["gnet"].map_over_datasets(
        lambda data: data.assign(accuracy=data["accuracy"] + 0.01) if "accuracy" in data else data
    )
    shown = texts(figures.joint_distribution(results["gnet"], better))
    assert {"0.0 %", "100.0 %"} <= shown


def test_layer_shares_add_up(results: Trees) -> None:
    axes = figures.layer_weights(results["fwrf"]["subj01"].to_dataset()).axes[0]
    widths = np.array([[bar.get_width() for bar in layer] for layer in axes.containers])
    np.testing.assert_allclose(widths.sum(0), 1)


def test_sizes_of_fitted_pooling_fields(results: Trees) -> None:
    data = results["gnet"]["subj01"].to_dataset()
    fits = pooling_field_fits(pooling_fields(data["pooling_logits_0"]))
    fits["accuracy"] = data["accuracy"]
    axes = figures.size_by_eccentricity(fits).axes[0]
    assert {text.get_text().split()[0] for text in axes.get_legend().get_texts()} <= {"V1", "V2", "V3", "hV4"}


def test_results_without_anything_to_show_still_give_a_figure(results: Trees) -> None:
    """No ceiling, no voxel above the threshold, correlations that are NaN."""
    data = results["fwrf"]["subj01"].to_dataset().drop_vars(["noise_ceiling", "ncsnr"])
    data["accuracy"] = data["accuracy"] * np.nan
    tree = xr.DataTree.from_dict({"subj01": data.assign(accuracy=data["accuracy"].fillna(0))})
    for figure in (
        figures.accuracy_by_roi(tree),
        figures.accuracy_histograms(tree),
        figures.accuracy_map(data),
        figures.size_by_eccentricity(data),
        figures.receptive_fields(data),
        figures.layer_weights(data),
    ):
        figure.savefig(BytesIO(), format="png", dpi=30)
    assert texts(figures.receptive_fields(data)) == {"no voxel is predicted better than r = 0.055"}


def test_tuning_of_few_voxels_or_none(results: Trees) -> None:
    """No voxel above the threshold, and an ROI with a single one."""
    poor = results["tuning"].map_over_datasets(
        lambda data: data.assign(accuracy=data["accuracy"] * 0) if "accuracy" in data else data
    )
    for figure in (figures.variance_by_layer(poor), figures.tuning_violins(poor)):
        assert any("no voxel" in text for text in texts(figure))
    first = results["tuning"]["subj01"].to_dataset()
    lone = xr.DataTree.from_dict({"subj01": first.isel(voxel=[int(first["accuracy"].values.argmax())])})
    for figure in (figures.variance_by_layer(lone), figures.tuning_violins(lone)):
        figure.savefig(BytesIO(), format="png", dpi=30)
