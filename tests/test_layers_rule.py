"""The architecture: who may import whom, and that importing loads no framework and does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mbn_deploy"
MODULES = sorted(PACKAGE.rglob("*.py"))
FRAMEWORKS = {
    *("tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "tflite_runtime", "h5py", "flatbuffers"),
    *("cv2", "sklearn", "matplotlib", "torch", "jax", "dask", "distributed"),
}
SERVERS = {"starlette", "uvicorn", "h11", "anyio"}
INTERPRETERS = {"ai_edge_litert", "tflite_runtime", "onnxruntime"}
CAMERAS = {"picamera2", "cv2"}
PRINTERS = {"typer", "rich", "click"}
BLOCKED = sorted(FRAMEWORKS | PRINTERS)


def imports(path):
    """(module, where) of every import: "top" runs on importing, "lazy" in a function, "types" never."""
    return list(_imports(ast.parse(path.read_text("utf-8")), "top"))


def _imports(node, where):
    for child in ast.iter_child_nodes(node):
        inner = where
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            inner = "lazy"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            inner = "types"
        if isinstance(child, ast.Import):
            yield from ((alias.name, where) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "no relative imports are used"
            yield child.module, where
            if child.module == "mbn_deploy" or child.module.startswith("mbn_deploy."):
                yield from ((f"{child.module}.{alias.name}", where) for alias in child.names)
        yield from _imports(child, inner)


def within(module, *packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def ids(path):
    return str(path.relative_to(PACKAGE))


def test_onnxruntime_is_imported_where_its_telemetry_is_switched_off():
    found = [ids(path) for path in MODULES if any(within(name, "onnxruntime") for name, _ in imports(path))]
    assert found == [str(Path("runtime/backends/onnx.py"))]


def test_the_reader_of_imports_sees_all_three_places(tmp_path):
    source = tmp_path / "a.py"
    source.write_text(
        "import os.path\nfrom mbn_deploy import errors\nif TYPE_CHECKING:\n    import keras\n"
        "class A:\n    import json\n    def f(self):\n        from onnx import helper\n"
    )
    assert imports(source) == [
        ("os.path", "top"),
        ("mbn_deploy", "top"),
        ("mbn_deploy.errors", "top"),
        ("keras", "types"),
        ("json", "top"),
        ("onnx", "lazy"),
    ]


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_no_framework_at_module_level(path):
    loaded = {module.split(".")[0] for module, where in imports(path) if where == "top"}
    assert not loaded & FRAMEWORKS
    if not within(name_of(path), "mbn_deploy.serve"):
        assert not loaded & SERVERS
    if not within(name_of(path), "mbn_deploy.cli"):
        assert not loaded & PRINTERS


@pytest.mark.parametrize("path", [p for p in MODULES if not within(name_of(p), "mbn_deploy.cli")], ids=ids)
def test_nobody_imports_the_command_line(path):
    assert not [module for module, _ in imports(path) if within(module, "mbn_deploy.cli")]


@pytest.mark.parametrize("path", sorted((PACKAGE / "runtime").rglob("*.py")), ids=ids)
def test_the_runtime_imports_what_a_device_has(path):
    own = ("mbn_deploy.errors", "mbn_deploy.manifest", "mbn_deploy.runtime")
    for module, where in imports(path):
        top = module.split(".")[0]
        allowed = top in sys.stdlib_module_names or top in ("numpy", "PIL") or within(module, *own)
        lazily = where == "lazy" and top in INTERPRETERS | CAMERAS
        types = where == "types" and top in INTERPRETERS
        assert allowed or lazily or types, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "serve").rglob("*.py")), ids=ids)
def test_the_server_imports_the_runtime_and_server_libraries(path):
    own = ("mbn_deploy.errors", "mbn_deploy.manifest", "mbn_deploy.runtime", "mbn_deploy.serve")
    for module, _ in imports(path):
        top = module.split(".")[0]
        allowed = top in sys.stdlib_module_names or top in {"numpy", "PIL", *SERVERS} or within(module, *own)
        assert allowed or module == "mbn_deploy", f"{path.name} imports {module}"  # the version


@pytest.mark.parametrize("path", [p for p in MODULES if not within(name_of(p), "mbn_deploy.serve")], ids=ids)
def test_only_its_command_imports_the_server_and_only_in_its_function(path):
    found = {where for module, where in imports(path) if within(module, "mbn_deploy.serve")}
    assert found <= ({"lazy", "types"} if name_of(path) == "mbn_deploy.cli.serve" else set())


@pytest.mark.parametrize("path", [p for p in MODULES if not within(name_of(p), "mbn_deploy.report")], ids=ids)
def test_only_the_pipeline_imports_the_report_and_the_sweep_its_parts(path):
    found = [module for module, _ in imports(path) if within(module, "mbn_deploy.report")]
    if within(name_of(path), "mbn_deploy.sweep"):  # its page is made of the same parts
        parts = tuple(f"mbn_deploy.report.{name}" for name in ("axes", "html", "page", "parts"))
        found = [module for module in found if not within(module, *parts)]
    assert not found or name_of(path) == "mbn_deploy.pipeline"


@pytest.mark.parametrize("path", sorted((PACKAGE / "report").rglob("*.py")), ids=ids)
def test_the_report_turns_values_into_a_page(path):
    """`collect` asks the other layers; what writes the page knows their values only, and loads nothing."""
    assert not {module.split(".")[0] for module, _ in imports(path)} & (FRAMEWORKS | PRINTERS)
    values = ("manifest", "quantize.by_layer", "quantize.layer_errors", "verify.guard", "verify.latency", "report")
    own = tuple(f"mbn_deploy.{name}" for name in (*values, "verify.statistics"))
    wrong = [m for m, _ in imports(path) if within(m, "mbn_deploy") and not within(m, *own) and m != "mbn_deploy"]
    if path.stem not in ("collect", "examples"):
        assert [module for module in wrong if module != "mbn_deploy.__version__"] == []


@pytest.mark.parametrize("path", [p for p in MODULES if not within(name_of(p), "mbn_deploy.sweep")], ids=ids)
def test_only_its_command_imports_the_sweep_and_only_in_its_functions(path):
    found = {where for module, where in imports(path) if within(module, "mbn_deploy.sweep")}
    assert found <= ({"lazy", "types"} if name_of(path) == "mbn_deploy.cli.sweep" else set())


@pytest.mark.parametrize("path", sorted((PACKAGE / "models").rglob("*.py")), ids=ids)
def test_models_import_nothing_that_comes_after_them(path):
    own = ("mbn_deploy.errors", "mbn_deploy.manifest", "mbn_deploy.progress", "mbn_deploy.models")
    wrong = [m for m, _ in imports(path) if within(m, "mbn_deploy") and m != "mbn_deploy" and not within(m, *own)]
    assert not wrong


def run_without_frameworks(statements):
    """Runs Python `statements` where none of `BLOCKED` can be imported; returns what was printed."""
    block = f"import sys\nfor name in {BLOCKED!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-W", "error", "-c", block + statements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_blocked_modules_cannot_be_imported():
    assert run_without_frameworks("try:\n    import keras\nexcept ImportError:\n    print('blocked')") == "blocked\n"


def test_every_module_but_the_command_line_imports_without_frameworks_and_does_nothing():
    names = [name_of(path) for path in MODULES if not within(name_of(path), "mbn_deploy.cli", "mbn_deploy.serve")]
    names = [name for name in names if not name.endswith("__main__")]
    watch = (
        "import os, importlib, pathlib\nbefore = dict(os.environ), os.getcwd(), sys.argv[:]\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "assert (dict(os.environ), os.getcwd(), sys.argv[:]) == before\n"
    )
    assert run_without_frameworks(watch) == ""


@pytest.mark.parametrize("module", ["mbn_deploy", "mbn_deploy.runtime", "mbn_deploy.models.analysis"])
def test_what_must_work_on_a_device(module):
    extra = {
        "mbn_deploy": "from mbn_deploy import Bundle, Classifier; print(Classifier.__name__)",
        "mbn_deploy.runtime": "from mbn_deploy.runtime import Classifier; print(Classifier.__name__)",
        "mbn_deploy.models.analysis": (
            "from mbn_deploy.models.analysis import totals\nfrom mbn_deploy.models.layers import Spec\n"
            "from mbn_deploy.models.tables import network\nprint(totals(Spec(network('mobilenet_v2')))[0])"
        ),
    }[module]
    assert run_without_frameworks(f"import {module}\n{extra}") in ("Classifier\n", "3538984\n")


def test_public_names():
    printed = run_without_frameworks(
        "import mbn_deploy\nprint(dir(mbn_deploy), mbn_deploy.__all__)\n"
        "print([getattr(mbn_deploy, name) is not None for name in mbn_deploy.__all__])\n"
        "try:\n    mbn_deploy.quantise\nexcept AttributeError as error:\n    print(error)\n"
    )
    names = "['Bundle', 'Classifier', 'ClassifierPool', '__version__', 'build', 'export']"
    assert printed.splitlines() == [
        f"{names} {names}",
        "[True, True, True, True, True, True]",
        "module 'mbn_deploy' has no attribute 'quantise'",
    ]


@pytest.mark.parametrize("first", ["pass", "import mbn_deploy.export.graph", "import mbn_deploy.pipeline"])
def test_export_is_the_function_whatever_was_imported_first(first):
    """The package `mbn_deploy.export` and the function have one name."""
    printed = run_without_frameworks(
        f"{first}\nfrom mbn_deploy import export\nfrom mbn_deploy.errors import UsageError\n"
        "import mbn_deploy.export.graph as graph\nprint(graph.Graph.__name__)\n"
        "try:\n    export('model.keras', 'dist', formats=())\nexcept UsageError:\n    print('called')\n"
    )
    assert printed == "Graph\ncalled\n"
