"""Models compared with each other, in the rows and columns of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsdflow.analysis import compare_runs
from nsdflow.report import markup
from nsdflow.report.figures.comparison import explained_variance, joint_distribution, model_against_model
from nsdflow.report.sections.record import Section, table_of

if TYPE_CHECKING:
    import xarray as xr

    from nsdflow.runs.contents import Run

__all__ = ["SECTIONS", "compared_pair"]


def _explained_variance(run: Run) -> str:
    table = run.results["accuracy"].to_dataset()["explained_variance"].load()
    picture = markup.picture(explained_variance(table), "Explained variance by model, area and subject")
    return picture + table_of("accuracy", "explained_variance")(run)


def _joint_against_roiwise(run: Run) -> str:
    first, second = run.sibling("gnet8r"), run.sibling("gnet8j")
    return compared_pair(first, second, ("GNet8r", "GNet8j"))


def compared_pair(first: xr.DataTree, second: xr.DataTree, names: tuple[str, str]) -> str:
    """Pictures and table of two runs on the same voxels."""
    one, two = names
    by_roi = joint_distribution(first, second, names=names)
    by_subject = joint_distribution(first, second, names=names, by="subject")
    against = model_against_model(first, second, names=names)
    frame = compare_runs(first, second).to_dataframe(dim_order=["subject", "roi"]).dropna().reset_index()
    header = (
        "subject", "ROI", "voxels", f"{one} better (%)", f"{two} better (%)", "mean difference", "median difference",
    )  # fmt: skip
    rows = [(*row[:2], int(row[2]), *row[3:]) for row in frame.itertuples(index=False, name=None)]
    return (
        markup.picture(by_roi, f"Advantage of {one} over {two} by region", raster=True)
        + markup.details("By subject", markup.picture(by_subject, f"Advantage of {one} by subject", raster=True))
        + markup.details(
            "One model against the other", markup.picture(against, f"Accuracy of {two} against {one}", raster=True)
        )
        + markup.details("By subject and ROI, as a table", markup.table(header, rows))
    )


SECTIONS = (
    Section(
        "Explained variance",
        "Mean over the voxels of an area of the squared validation correlation on single trials, in percent, in the "
        "rows and columns of the paper. Models without a finished run have no entries.",
        ("accuracy/explained_variance",),
        _explained_variance,
    ),
    Section(
        "Share of the explainable variance",
        "Median over the voxels of an area of the squared correlation over the ceiling, in percent.",
        ("explainable/share_of_explainable_variance",),
        table_of("explainable", "share_of_explainable_variance"),
    ),
    Section(
        "One trunk or four",
        "A point per voxel of all subjects. Horizontal: accuracy of GNet8r (a trunk for each area) minus that of "
        "GNet8j (one trunk for all); vertical: the mean of the two. Numbers are the shares of voxels on either side; "
        "differences in the table are GNet8j minus GNet8r.",
        ("accuracy/explained_variance", "../gnet8j", "../gnet8r"),
        _joint_against_roiwise,
    ),
)
