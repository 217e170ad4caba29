"""One way from a trained Keras model to model files; a program of its own that `peers.py` starts for each.

    python peers_make.py ROUTE WEIGHTS FOLDER [--data ../shared] [--images 200]

writes the files and `made.json` into FOLDER: CPU and wall seconds, memory, and what the files want as input. What is
timed begins with the Keras model (or with the file that this route starts from) and ends with the file on the disk;
reading the calibration photographs is part of it, importing frameworks is not. A process a route, so that the
memory of one is not that of another.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accuracy import CASES, Case
from peers_routes import BY_NAME, PUBLISHED, Figures, Route

from mbn_deploy.arrays import Pixels
from mbn_deploy.manifest import Manifest, Preprocess
from mbn_deploy.quantize.calibration import load_calibration
from mbn_deploy.runtime.backends.modules import disable_telemetry, load_part
from mbn_deploy.runtime.preprocess import normalize

SIZE = (224, 224)
Floats = npt.NDArray[np.float32]
MADE = "made.json"
LONGEST = 500  # characters of an error


@dataclass(eq=False)
class Work:
    """One model on its way through one route."""

    case: Case
    route: Route
    data: Path
    folder: Path
    images: int

    @cached_property
    def model(self) -> Any:
        """The Keras model with its weights."""
        from mbn_deploy.models.api import build

        weights = self.data / "models" / "float" / self.case.file
        return build(self.case.network, alpha=self.case.alpha, weights=weights)

    @property
    def preprocess(self) -> Preprocess:
        """Return the preprocessing of the Keras model: V3 rescales inside."""
        return Preprocess.parse("raw" if self.case.network.startswith("mobilenet_v3") else "tf")

    @cached_property
    def source(self) -> Figures:
        """The file of the source's that this route reads; raises `LookupError` if there is none."""
        made = self.folder.parent / str(self.route.source)
        files = json.loads((made / MADE).read_text("utf-8"))["files"] if (made / MADE).exists() else []
        for file in files:
            if file["format"] == self.route.formats[0]:
                found: Figures = file | {"path": str(made / file["name"])}
                return found
        raise LookupError(f"{self.route.source} made no file to start from")

    def prepared(self, wanted: Figures | None = None) -> tuple[Pixels, Callable[[Pixels], Floats]]:
        """Return the photographs as pixels, and the function that makes inputs of the Keras model or `wanted`."""
        preprocess = self.preprocess if wanted is None else Preprocess(**wanted["preprocess"])
        nchw = wanted is not None and wanted["layout"] == "nchw"
        folder = self.data / "imagenet" / "calibration"

        def values(image: Pixels) -> Floats:
            real = normalize(image, preprocess)
            return np.ascontiguousarray(real.transpose(2, 0, 1) if nchw else real)[None]

        return load_calibration(folder, SIZE, preprocess, count=self.images).pixels, values

    def calibration(self, wanted: Figures | None = None) -> Iterator[Floats]:
        """Yield the photographs one by one, as `prepared` makes them, as batches of 1."""
        pixels, values = self.prepared(wanted)
        return map(values, pixels)

    def file(self, name: str, layout: str = "nhwc", wanted: Figures | None = None) -> Figures:
        """Return the record of a file in the folder, which takes the same input as `wanted`."""
        known = {"preprocess": asdict(self.preprocess), "layout": layout, "input": None, "output": None}
        if wanted is not None:
            known |= {"preprocess": wanted["preprocess"], "layout": wanted["layout"]}
        return known | {"name": name, "format": Path(name).suffix[1:], "precision": self.route.precision}


Make = Callable[[Work], list[Figures]]


def ours(work: Work) -> list[Figures]:
    """Export as the command line does, but without a report: every file is opened and run once."""
    from mbn_deploy.pipeline.export import export_model

    precision = work.route.precision.removesuffix("-mixed")
    calibrated: Figures = {"calibrate": work.data / "imagenet" / "calibration", "calibration_count": work.images}
    bundle = export_model(
        work.model,
        work.folder / "bundle",
        formats=work.route.formats,
        precisions=(precision,),
        overwrite=True,
        recipe=work.route.recipe,
        report=False,
        **(calibrated if precision == "int8" else {}),
    ).bundle
    manifest: Manifest = bundle.manifest
    return [
        {
            "name": f"bundle/{file.path}",
            "format": file.format,
            "precision": file.precision,
            "layout": file.layout,
            "preprocess": asdict(file.preprocess),
            "input": asdict(file.input),
            "output": asdict(file.output),
        }
        for file in manifest.files
    ]


def keras_export(work: Work) -> list[Figures]:
    """Keras' own method."""
    work.model.export(work.folder / "model.tflite", format="litert", verbose=False)
    return [work.file("model.tflite")]


def tflite_converter(work: Work) -> list[Figures]:
    """`TFLiteConverter.from_keras_model`, integer at both ends where it is full integer."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(work.model)
    if work.route.precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if work.route.precision == "int8":
        converter.representative_dataset = lambda: ([image] for image in work.calibration())
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    (work.folder / "model.tflite").write_bytes(converter.convert())
    return [work.file("model.tflite")]


def litert_quantizer(work: Work) -> list[Figures]:
    """Google's quantizer on the file that Keras exported."""
    from litert_quantizer import quantizer, recipe

    engine = quantizer.Quantizer(work.source["path"])
    static = work.route.precision == "int8"
    engine.load_quantization_recipe(recipe.static_wi8_ai8() if static else recipe.dynamic_wi8_afp32())
    calibrated = None
    if static:
        signature, tensors = next(iter(_signatures(work.source["path"]).items()))
        name = tensors["inputs"][0]
        calibrated = engine.calibrate({signature: [{name: image} for image in work.calibration()]})
    engine.quantize(calibrated).export_model(str(work.folder / "model.tflite"), overwrite=True)
    return [work.file("model.tflite", wanted=work.source)]


def _signatures(path: str) -> dict[str, dict[str, list[str]]]:
    from ai_edge_litert.interpreter import Interpreter

    found: dict[str, dict[str, list[str]]] = Interpreter(path).get_signature_list()
    return found


def tf2onnx(work: Work) -> list[Figures]:
    """tf2onnx; its `from_keras` does not know the models of Keras 3, `from_function` is what it does inside."""
    import tensorflow as tf
    from tf2onnx import convert

    function = tf.function(lambda x: work.model(x, training=False))
    signature = [tf.TensorSpec((1, *SIZE, 3), tf.float32, name="image")]
    convert.from_function(function, input_signature=signature, output_path=str(work.folder / "model.onnx"))
    return [work.file("model.onnx")]


def onnxruntime_static(work: Work) -> list[Figures]:
    """ONNX Runtime's quantizer after its own preparation: as it is, or as its documentation says for VNNI."""
    quantization = load_part("onnx", "quantization")
    preparation = load_part("onnx", "quantization.shape_inference")
    images, name = work.calibration(work.source), _onnx_input(work.source["path"])

    class Reader:
        """The images, one by one."""

        def get_next(self) -> dict[str, Floats] | None:
            image = next(images, None)
            return None if image is None else {name: image}

    kinds = quantization.QuantType
    given = {"activation_type": kinds.QUInt8, "weight_type": kinds.QInt8, "per_channel": True}
    prepared = work.folder / "prepared.onnx"
    preparation.quant_pre_process(work.source["path"], str(prepared), skip_symbolic_shape=True)  # every shape is fixed
    options = given if work.route.name == "ort-u8s8" else {}
    quantization.quantize_static(str(prepared), str(work.folder / "model.onnx"), Reader(), **options)
    return [work.file("model.onnx", wanted=work.source)]


def _onnx_input(path: str) -> str:
    import onnx

    return str(onnx.load(path, load_external_data=False).graph.input[0].name)


def nncf_onnx(work: Work) -> list[Figures]:
    """NNCF's post-training quantization; its subset is as large as the calibration set."""
    import nncf
    import onnx

    name = _onnx_input(work.source["path"])
    pixels, values = work.prepared(work.source)
    images = nncf.Dataset(list(pixels), lambda image: {name: values(image)})
    model = nncf.quantize(onnx.load(work.source["path"]), images, subset_size=work.images)
    onnx.save(model, str(work.folder / "model.onnx"))
    return [work.file("model.onnx", wanted=work.source)]


def published(work: Work) -> list[Figures]:
    """Files that lie there already."""
    files = []
    for name in PUBLISHED.get(work.case.file, ()):
        (work.folder / name).write_bytes((work.data / "models" / "published" / name).read_bytes())
        kind = "float32" if "float" in name else "int8"
        files.append(work.file(name) | {"precision": kind, "raw": kind == "int8"})
    return files


MAKERS: dict[str, Make] = {
    "keras-export": keras_export,
    "litert-dynamic": litert_quantizer,
    "litert-int8": litert_quantizer,
    "tf2onnx": tf2onnx,
    "ort-defaults": onnxruntime_static,
    "ort-u8s8": onnxruntime_static,
    "nncf": nncf_onnx,
    "nncf-on-ours": nncf_onnx,
    "published": published,
}


class Peak:
    """The most bytes that this process and its children together had in memory, looked at fifty times a second.

    Resident bytes by Linux' /proc; what processes share is counted for each. `before` is what there was at first.
    """

    def __init__(self) -> None:
        self.before = self.most = resident(os.getpid())
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, resident(os.getpid()))

    def end(self) -> int:
        """Return the peak; only that of this process is known exactly."""
        self._done.set()
        self._watch.join()
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        alone = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
        return max(self.most, 1024 * alone)


def resident(process: int) -> int:
    """Bytes of a process and all below it; 0 for one that has ended."""
    root = Path(f"/proc/{process}")
    try:
        pages = int((root / "statm").read_text("utf-8").split()[1])
        children = [
            int(child) for task in (root / "task").iterdir() for child in (task / "children").read_text("utf-8").split()
        ]
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(map(resident, children))


def cpu() -> float:
    """CPU seconds of this process and of children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def get_ready(work: Work) -> None:
    """Prepare what is not timed: imports, and the Keras model where the route starts from it.

    tf2onnx and NNCF import onnxruntime by themselves; NNCF has a telemetry of its own.
    """
    disable_telemetry()
    os.environ.setdefault("NNCF_CI", "1")
    if work.route.source is None and work.route.name != "published":
        _ = work.model
    for module in work.route.modules:
        import_module(module)
    for part in work.route.onnxruntime:
        load_part("onnx", part)


def made(work: Work) -> Figures:
    """Run the route and return its figures and files; an error of its tool is one of the figures."""
    maker = MAKERS.get(work.route.name, ours if work.route.ours else tflite_converter)
    figures: Figures = {"versions": versions(work.route.packages)}
    try:
        get_ready(work)
        peak, start, started = Peak(), time.perf_counter(), cpu()
        files = maker(work)
        figures |= {"seconds": round(time.perf_counter() - start, 3), "cpu_seconds": round(cpu() - started, 3)}
        figures |= {"before_bytes": peak.before, "peak_bytes": peak.end()}
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is what is written down
        text = " ".join(str(error).replace(str(work.folder.parent), "").split())
        return figures | {"error": f"{type(error).__name__}: {text}"[:LONGEST], "files": []}
    for file in files:
        file["bytes"] = (work.folder / file["name"]).stat().st_size
    return figures | {"files": files}


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def main() -> None:
    """Run one route and print its record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("route", choices=BY_NAME)
    parser.add_argument("weights", choices=[case.file for case in CASES])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    case = next(case for case in CASES if case.file == arguments.weights)
    work = Work(case, BY_NAME[arguments.route], arguments.data.resolve(), arguments.folder, arguments.images)
    work.folder.mkdir(parents=True, exist_ok=True)
    (work.folder / MADE).write_text(json.dumps(made(work), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
