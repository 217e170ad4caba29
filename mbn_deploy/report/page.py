"""The page of a bundle as a whole."""

from __future__ import annotations

from mbn_deploy.report.data import Report
from mbn_deploy.report.layers import layer_section
from mbn_deploy.report.origin import image_input, quantization_records
from mbn_deploy.report.parts import parts_section
from mbn_deploy.report.plots import MOST_DB
from mbn_deploy.report.results import INTERVALS, accuracy_latency, file_table, guarded, headline, recipe_rows
from mbn_deploy.report.scatter import scatter_plot
from mbn_deploy.report.template import render


def page(report: Report) -> str:
    """Return the page as HTML 5. Equal reports give equal text."""
    return render(
        "report.html",
        report=report,
        manifest=report.manifest,
        headline=headline(report),
        intervals=INTERVALS[report.manifest.answers.meaning],
        outputs=report.manifest.answers.described(report.manifest.classes),
        image_input=image_input(report.manifest),
        recipes=quantization_records(report.manifest.quantization),
        files=file_table(report),
        tradeoff=accuracy_latency(report),
        parts=parts_section(report),
        scatters=[scatter_plot(each) for each in report.scatters],
        recipe_rows=recipe_rows(report.recipes),
        points=guarded(report),
        most_db=MOST_DB,
        layers=[layer_section(layers) for layers in report.layers],
    )
