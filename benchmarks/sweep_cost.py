"""Estimate what a sweep over every published ImageNet variant costs: measured on a few of them, computed for all.

    .venv/bin/python benchmarks/sweep_cost.py [--data ../shared] [--measure]

With --measure the real models are exported and evaluated on some photographs, each in a process of its own, and
`results/sweep_cost.json` is written; in any case the tables in `docs/imagenet-sweep.md` are made from that file.

CPU seconds are counted, of all threads and child processes, so that other work on the machine lengthens nothing.
A variant's cost is taken as a straight line over its multiply-adds, fitted to what was measured; the largest relative
error of the line at a measured point is said beside it.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "sweep_cost.json", HERE.parent / "docs" / "imagenet-sweep.md"
BEGIN, END = "<!-- figures of benchmarks/sweep_cost.py -->", "<!-- end of the figures -->"
IMAGES = 64  # measured; the first batch of as many warms up
CALIBRATION = 200
VALIDATION = 50_000  # images of ILSVRC2012's validation set
VALIDATION_BYTES = 6_744_924_160  # of its archive, ILSVRC2012_img_val.tar
PHOTO = (500, 375)  # a usual size there; those measured on are smaller, so decoding is measured by itself
CHUNK = 512  # images a task
WORKERS = (1, 2, 8, 32, 64)
# One thread a worker; a worker is taken to be as fast as one processor of the machine that measured.
POINTS = (
    ("mobilenet_v1", 0.25, 224, "mobilenet_v1_0.25_224.h5"),
    ("mobilenet_v1", 1.0, 128, "mobilenet_v1_1.0_224.weights.h5"),
    ("mobilenet_v1", 1.0, 224, "mobilenet_v1_1.0_224.weights.h5"),
    ("mobilenet_v2", 1.0, 128, "mobilenet_v2_1.0_224.weights.h5"),
    ("mobilenet_v2", 1.0, 224, "mobilenet_v2_1.0_224.weights.h5"),
    ("mobilenet_v3_small", 1.0, 224, "mobilenet_v3_small_1.0_224.weights.h5"),
    ("mobilenet_v3_large_minimalistic", 1.0, 224, "mobilenet_v3_large_minimalistic_1.0_224.weights.h5"),
)


@dataclass(frozen=True)
class Point:
    """A variant that was measured. CPU seconds; `image` of one image through Keras and four files, decoded already."""

    name: str
    parameters: int
    macs: int
    make: float
    open: float
    image: float
    bytes: int
    tally_bytes: float
    peak_bytes: int


def cpu() -> float:
    """CPU seconds of this process and of children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measured(model: str, alpha: float, size: int, file: str, data: Path) -> Point:
    """One variant, in a process that has done nothing else."""
    import pickle
    from dataclasses import replace

    import keras  # noqa: F401 (a worker loads it once, which is no part of a task)

    from mbn_deploy.bundle.open import Bundle
    from mbn_deploy.data.dataset import load_dataset
    from mbn_deploy.models.analysis import totals
    from mbn_deploy.models.layers import Spec
    from mbn_deploy.models.tables import network
    from mbn_deploy.pipeline.options import ExportOptions
    from mbn_deploy.sweep.plan import Variant, plan_jobs
    from mbn_deploy.sweep.tasks import Chunk, evaluation_preprocess, export_variant, tally_chunk
    from mbn_deploy.verify.measures.choose import measure_for

    spec = Spec(network(model), alpha, size)
    variant = Variant(spec.name, model, alpha, size, weights=str(data / "models" / "float" / file))
    synsets = data / "imagenet" / "synsets.txt"
    options = ExportOptions(
        precisions="float32,int8", calibrate=data / "imagenet" / "calibration", calibration_count=CALIBRATION
    )
    with tempfile.TemporaryDirectory() as folder:
        job = plan_jobs([variant], folder, options)[0]
        start = cpu()
        record = export_variant(job)
        spent = cpu() - start
        if record.error is not None or record.manifest is None:
            raise SystemExit(f"{spec.name}: {record.error}")
        bundle = Bundle.read(job.folder)
        images = load_dataset(data / "imagenet" / "validation", 1000, synsets=synsets.read_text().split())
        geometry = replace(evaluation_preprocess(bundle, options), resize="squash")
        part = images.chosen(range(IMAGES))
        list(part.images((size, size), geometry))  # decoded, and kept
        measure = measure_for(bundle.manifest.answers, images.names, len(images))
        chunk = Chunk(
            job=job,
            manifest=record.manifest,
            images=part,
            preprocess=geometry,
            size=(size, size),
            measure=measure,
            first=0,
        )
        begun = cpu()
        tally_chunk(chunk)
        warm = cpu()
        tallies = tally_chunk(chunk)
        image = (cpu() - warm) / IMAGES
        parameters, macs = totals(spec)
        return Point(
            name=spec.name,
            parameters=parameters,
            macs=macs,
            make=spent,
            open=warm - begun - IMAGES * image,
            image=image,
            bytes=sum(path.stat().st_size for path in job.folder.iterdir()),
            tally_bytes=len(pickle.dumps(tallies)) / IMAGES,
            peak_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        )


def decoding(data: Path) -> float:
    """CPU seconds to decode and resize one photograph of a usual size."""
    from PIL import Image

    from mbn_deploy.data.images import load_image
    from mbn_deploy.manifest import Preprocess

    paths = sorted((data / "imagenet" / "calibration").glob("*.jpg"))[:IMAGES]
    stored = []
    for path in paths:
        buffer = io.BytesIO()
        with Image.open(path) as picture:
            picture.convert("RGB").resize(PHOTO).save(buffer, "JPEG", quality=90)
        stored.append(buffer.getvalue())
    start = cpu()
    for path, contents in zip(paths, stored, strict=True):
        load_image(path, (224, 224), Preprocess(), contents)
    return (cpu() - start) / len(paths)


def measure(data: Path) -> dict[str, Any]:
    """Every point in a fresh process."""
    from mbn_deploy.pipeline.manifest_record import tool_versions
    from mbn_deploy.runtime.system.device import this_machine

    points = []
    for point in POINTS:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            points.append(asdict(pool.submit(measured, *point, data).result()))
        print(json.dumps(points[-1]), file=sys.stderr, flush=True)
    return {
        "machine": str(this_machine()),
        "versions": tool_versions(),
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "images": IMAGES,
        "calibration": CALIBRATION,
        "photo": PHOTO,
        "units": "CPU seconds, bytes",
        "decode": decoding(data),
        "points": points,
    }


def line(points: list[dict[str, Any]], x: str, y: str) -> tuple[float, float, float]:
    """(constant, slope, largest relative error) of y over x, least squares of relative errors."""
    xs, ys = (np.array([float(p[key]) for p in points]) for key in (x, y))
    rows = np.stack([1 / ys, xs / ys], axis=1)
    constant, slope = np.linalg.lstsq(rows, np.ones(len(ys)), rcond=None)[0]
    return float(constant), float(slope), float(np.abs((constant + slope * xs) / ys - 1).max())


def published() -> list[tuple[str, str, int, int]]:
    """(network, variant, parameters, multiply-adds) of everything that has ImageNet weights."""
    from mbn_deploy.models.analysis import totals
    from mbn_deploy.models.imagenet import published_variants
    from mbn_deploy.models.layers import Spec
    from mbn_deploy.models.tables import NETWORKS

    specs = [
        Spec(network, alpha, size)
        for network in NETWORKS.values()
        for alphas, sizes in [published_variants(network.name)]
        for alpha in alphas
        for size in sizes
    ]
    return [(spec.network.name, spec.name, *totals(spec)) for spec in specs]


def tables(found: dict[str, Any]) -> str:
    """Return the text between the page's marks."""
    points, decode = found["points"], found["decode"]
    fits = {key: line(points, "macs", key) for key in ("make", "image")}
    weight = line(points, "parameters", "bytes")
    rows, total, storage, longest = [], {"make": 0.0, "judge": 0.0}, 0.0, 0.0
    variants = published()
    opening = max(p["open"] for p in points)
    tasks = -(-VALIDATION // CHUNK)
    for network in dict.fromkeys(v[0] for v in variants):
        own = [v for v in variants if v[0] == network]
        # Every variant decodes all images twice: to keep them out of the calibration, and to be measured on them.
        make = [fits["make"][0] + fits["make"][1] * macs + VALIDATION * decode for *_, macs in own]
        judge = [
            VALIDATION * (fits["image"][0] + fits["image"][1] * macs + decode) + tasks * opening for *_, macs in own
        ]
        size = sum(weight[0] + weight[1] * parameters for _, _, parameters, _ in own)
        longest = max(longest, *make)
        total["make"] += sum(make)
        total["judge"] += sum(judge)
        storage += size
        rows.append(f"| {network} | {len(own)} | {_hours(sum(make))} | {_hours(sum(judge))} | {size / 1e6:.0f} |")
    every = total["make"] + total["judge"]
    tally = max(p["tally_bytes"] for p in points)
    peak = max(p["peak_bytes"] for p in points)
    width, height = found["photo"]
    how = (
        f"Measured on {found['machine']}, {found['measured']}, {found['images']} images a variant after as many to "
        f"warm up, {found['calibration']} calibration images; CPU time."
    )
    errors = (
        f"An image is one picture through Keras and the four files. Decoding a photograph of {width} × {height} takes "
        f"{1e3 * decode:.1f} ms more. The lines over multiply-adds that the next table is worked out with miss a "
        f"measured point by at most {100 * fits['make'][2]:.0f} % (make) and {100 * fits['image'][2]:.0f} % (an "
        f"image); that over parameters, for storage, by {100 * weight[2]:.0f} %."
    )
    measured_rows = [
        f"| {p['name']} | {p['macs'] / 1e6:.0f} | {p['make']:.1f} | {p['open']:.1f} | {1e3 * p['image']:.1f} "
        f"| {p['bytes'] / 1e6:.1f} | {p['peak_bytes'] / 1e6:.0f} |"
        for p in points
    ]
    whole = (
        f"| **all** | **{len(variants)}** | **{_hours(total['make'])}** | **{_hours(total['judge'])}** "
        f"| **{storage / 1e6:.0f}** |"
    )
    workers = [
        f"| {n} | {_hours(max(total['make'] / n, longest) + total['judge'] / n)} | {n * peak / 1e9:.0f} |"
        for n in WORKERS
    ]
    summary = (
        f"In all {_hours(every)} hours of one processor, {len(variants) * (1 + tasks)} tasks, {storage / 1e9:.1f} GB "
        f"of bundles beside {VALIDATION_BYTES / 1e9:.1f} GB of images, and "
        f"{len(variants) * VALIDATION * tally / 1e9:.2f} GB of tallies that go to the process that merges them. "
        f"Latency afterwards: {4 * len(variants)} files, a second each and somewhat more to open them."
    )
    head = "| measured | M multiply-adds | make, s | open, s | an image, ms | bundle, MB | process, MB |"
    parts = [how, "", head, "|---|--:|--:|--:|--:|--:|--:|", *measured_rows, "", errors, ""]
    parts += ["| network | variants | make, h | evaluate, h | bundles, MB |", "|---|--:|--:|--:|--:|", *rows, whole, ""]
    parts += ["| workers, one processor each | hours | memory, GB |", "|--:|--:|--:|", *workers, "", summary]
    return "\n".join(parts)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f}"


def with_tables(page: str, made: str) -> str:
    """Return the page with the new tables between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def main() -> None:
    """Measure where that is asked for, and write the page's tables."""
    parser = argparse.ArgumentParser(description="What a full ImageNet sweep costs.")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared")
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    if options.measure:
        RESULTS.write_text(json.dumps(measure(options.data.resolve()), indent=1) + "\n", encoding="utf-8")
    made = tables(json.loads(RESULTS.read_text("utf-8")))
    PAGE.write_text(with_tables(PAGE.read_text("utf-8"), made), encoding="utf-8")
    print(made)


if __name__ == "__main__":
    main()
