"""The house: which room may import which, in one table, and that importing does nothing and loads no framework.

Rooms stand from the ground up. A module belongs to the row with its longest prefix. A room imports only the rows that
its own names in `rooms`, all of which stand above it in the table ("runtime" includes its inner rooms), and libraries
only as named: `libraries` at the top of a module, `lazily` inside functions too. Imports for types count like others.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from interpreter_imports import importing_files

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mbn_deploy"
FRAMEWORKS = {
    *("tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "tflite_runtime", "h5py", "flatbuffers"),
    *("cv2", "sklearn", "matplotlib", "torch", "jax", "dask", "distributed", "jinja2"),
}
PRINTERS = {"typer", "rich", "click"}
BLOCKED = sorted(FRAMEWORKS | PRINTERS)


@dataclass(frozen=True)
class Room:
    """What a room may import: rooms, libraries, and libraries inside functions or for types."""

    rooms: str = ""
    libraries: str = ""
    lazily: str = ""


VALUES = "errors version progress arrays archives hashing text arguments answers manifest"
DEVICE = f"{VALUES} runtime"
GRAPHS = f"{DEVICE} graph models"
FILES = f"{GRAPHS} export data bundle"
PACKAGES = "packages.templates packages.contents packages.package"  # what every kind of package uses
HOUSE = {
    # floor 1: values that everybody may use
    "errors": Room(),
    "version": Room(),
    "progress": Room(),
    "arrays": Room("", "numpy"),
    "archives": Room(),
    "hashing": Room(),
    "text": Room(),
    "arguments": Room("errors"),
    "answers": Room("errors"),
    "manifest": Room("errors answers"),
    # floor 2: networks as tables
    "models": Room(VALUES, "numpy", "keras h5py"),
    # floor 3: all that a device gets
    "runtime.system": Room(VALUES, "numpy"),
    "runtime.labels": Room("errors answers"),
    "runtime.label_files": Room(f"{VALUES} runtime.system"),
    "runtime.formats": Room(f"{VALUES} runtime.system runtime.labels", "numpy"),
    "runtime.untrusted": Room(f"{VALUES} runtime.system runtime.formats", "numpy"),
    "runtime.image_checks": Room(VALUES),
    "runtime.images": Room(f"{VALUES} runtime.image_checks", "numpy PIL"),
    "runtime.bundle": Room(f"{VALUES} runtime.system runtime.labels"),
    "runtime.backends": Room(f"{VALUES} runtime.system runtime.formats runtime.untrusted", "numpy"),
    "runtime.operation_runs": Room(f"{VALUES} runtime.formats runtime.backends", "numpy"),
    "runtime.cameras": Room(f"{VALUES} runtime.images", "numpy", "cv2 picamera2"),
    "runtime": Room(
        f"{VALUES} runtime.system runtime.labels runtime.label_files runtime.formats runtime.image_checks "
        "runtime.images runtime.bundle runtime.backends runtime.cameras",
        "numpy PIL",
    ),
    "runtime.doctor": Room(f"{VALUES} runtime", "numpy"),
    "runtime.benchmark": Room(f"{VALUES} runtime", "numpy PIL"),
    # the graphs: values
    "graph": Room(VALUES, "numpy", "tensorflow"),
    # floor 4: files
    "data": Room(DEVICE, "numpy"),
    "bundle": Room(f"{DEVICE} data"),
    "export.file_report": Room(VALUES, "numpy"),
    "export.file_types": Room(f"{VALUES} graph"),
    "export.from_keras": Room(f"{VALUES} runtime.system models graph", "numpy", "keras"),
    "export.tflite": Room(
        f"{DEVICE} graph export.file_report export.file_types", "numpy", "flatbuffers ai_edge_litert"
    ),
    "export.onnx": Room(f"{DEVICE} graph export.file_report export.file_types", "numpy", "onnx google"),
    "export": Room(f"{GRAPHS} export.file_report export.file_types export.tflite export.onnx"),
    # floor 5
    "quantize": Room(FILES, "numpy PIL", "tensorflow"),
    "verify": Room(f"{DEVICE} graph export data", "numpy", "tensorflow"),
    # floor 6
    "diagnose": Room(f"{FILES} quantize verify", "numpy"),
    # floor 7: values become a page
    "report": Room(f"{VALUES} verify diagnose", "numpy PIL", "jinja2"),
    # floor 8: the main job
    "pipeline": Room(f"{FILES} quantize verify diagnose report", "numpy", "keras tensorflow"),
    # floor 9
    "sweep": Room(f"{DEVICE} models export.from_keras data bundle verify report pipeline", "", "keras"),
    "demo": Room(f"{FILES} pipeline", "numpy PIL", "keras"),
    # floor 10
    "packages.templates": Room(),
    "packages.contents": Room("bundle"),
    "packages.package": Room(f"{VALUES} runtime.system bundle"),
    "packages.phone": Room(f"{DEVICE} bundle verify", "numpy"),
    "packages.android": Room(f"{DEVICE} bundle {PACKAGES} packages.phone", "numpy"),
    "packages.ios": Room(f"{DEVICE} bundle {PACKAGES} packages.phone", "numpy"),
    "packages.micro": Room(f"{FILES} verify {PACKAGES}", "numpy", "tflite_micro"),
    "packages.pi": Room(f"{FILES} {PACKAGES}", "", "packaging"),
    "packages": Room(),
    "check_apk": Room(DEVICE),
    "serve": Room(DEVICE, "PIL starlette uvicorn h11"),
    # floor 11
    "cli": Room(
        f"{FILES} quantize verify diagnose pipeline sweep demo packages check_apk serve", "typer rich", "keras"
    ),
    "__main__": Room("cli"),
    "": Room(f"{VALUES} models runtime bundle pipeline"),  # `mbn_deploy` itself hands names on
}


def name_of(path: Path) -> str:
    """The module's name below `mbn_deploy.`; "" for the package itself."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if "templates" not in path.parts}


def within(module: str, room: str) -> bool:
    """Whether a module lies in a room (a package or a module)."""
    return module == room or module.startswith(f"{room}.")


def room_of(module: str) -> str:
    """The row of the table that a module belongs to."""
    found = [room for room in HOUSE if room and within(module, room)]
    return max(found, key=len, default="")


def imports(source: str) -> list[tuple[str, str]]:
    """(module, where) of every import: "top" runs on importing, "lazy" in a function, "types" never."""
    return list(_imports(ast.parse(source), "top"))


def _imports(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
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
            if child.module.split(".")[0] == "mbn_deploy":
                for alias in child.names:
                    inside = f"{child.module}.{alias.name}".removeprefix("mbn_deploy.")
                    own = inside if inside in MODULES else child.module.removeprefix("mbn_deploy").removeprefix(".")
                    yield f"mbn_deploy.{own}", where
            else:
                yield child.module, where
        yield from _imports(child, inner)


def own_imports(module: str, source: str) -> set[str]:
    """The modules of this package that a module imports, in whatever way."""
    found = {
        name.removeprefix("mbn_deploy").removeprefix(".") for name, _ in imports(source) if within(name, "mbn_deploy")
    }
    return found - {module}


def wrong_imports(module: str, source: str) -> list[str]:
    """The imports of a module that the table does not allow."""
    room = HOUSE[room_of(module)]
    allowed = room.rooms.split()
    own = [
        f"{module} imports {other or 'mbn_deploy'}"
        for other in sorted(own_imports(module, source))
        if room_of(other) != room_of(module) and not any(within(other, name) for name in allowed)
    ]
    top, anywhere = set(room.libraries.split()), {*room.libraries.split(), *room.lazily.split()}
    foreign = {(name.split(".")[0], where) for name, where in imports(source) if not within(name, "mbn_deploy")}
    return own + [
        f"{module} imports {library} ({where})"
        for library, where in sorted(foreign)
        if library not in sys.stdlib_module_names and library not in (top if where == "top" else anywhere)
    ]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every strongly connected group of more than one module (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for other in graph.get(module, ()):
            if other not in order:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], order[other])
        if low[module] == order[module]:
            group = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(group) > 1:
                found.append(sorted(group))

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return found


def import_graph() -> dict[str, set[str]]:
    """For each module the modules that it imports."""
    return {name: own_imports(name, path.read_text("utf-8")) & MODULES.keys() for name, path in MODULES.items()}


def test_nobody_imports_against_the_table():
    wrong = [line for name, path in MODULES.items() for line in wrong_imports(name, path.read_text("utf-8"))]
    assert wrong == []


def test_an_import_against_the_table_is_seen():
    assert wrong_imports("runtime.classifier", "def f():\n    from mbn_deploy.quantize import recipe\n") == [
        "runtime.classifier imports quantize.recipe"
    ]
    assert wrong_imports("export.encode", "from mbn_deploy.quantize.ranges import Ranges\n") == [
        "export.encode imports quantize.ranges"
    ]
    assert wrong_imports("report.page", "if TYPE_CHECKING:\n    import keras\n") == [
        "report.page imports keras (types)"
    ]
    assert wrong_imports("export.tflite.builder", "import ai_edge_litert") == [
        "export.tflite.builder imports ai_edge_litert (top)"
    ]
    assert wrong_imports("serve.app", "from mbn_deploy.cli import main") == ["serve.app imports cli.main"]


def test_the_table_leads_down_and_names_every_room():
    """A row allows only rows above it, so that no rooms form a circle."""
    rows = list(HOUSE)
    packages = {name.split(".")[0] for name in MODULES} - {""}
    assert packages <= set(rows)
    upward = [
        f"{room or 'mbn_deploy'} may import {other}"
        for place, (room, row) in enumerate(HOUSE.items())
        for other in row.rooms.split()
        if other not in rows[:place]
    ]
    assert upward == []


def test_no_modules_import_each_other_in_a_circle():
    assert circles(import_graph()) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


def test_the_reader_of_imports_sees_all_three_places():
    source = (
        "import os.path\nfrom mbn_deploy import errors\nif TYPE_CHECKING:\n    import keras\n"
        "class A:\n    import json\n    def f(self):\n        from onnx import helper\n"
    )
    assert imports(source) == [
        ("os.path", "top"),
        ("mbn_deploy.errors", "top"),
        ("keras", "types"),
        ("json", "top"),
        ("onnx", "lazy"),
    ]


def test_content_is_hashed_in_one_place():
    assert [name for name, path in MODULES.items() if "hashlib" in dict(imports(path.read_text("utf-8")))] == [
        "hashing"
    ]


def names_interpreter(source: str) -> bool:
    """Whether a module imports an interpreter, or has a text by which one could be imported."""
    interpreters = {"onnxruntime", "ai_edge_litert", "tflite_runtime"}
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    named = {name for name, _ in imports(source)} | {text for text in texts if isinstance(text, str)}
    return any(name.split(".")[0] in interpreters for name in named if name.replace(".", "").isidentifier())


def test_interpreters_are_imported_in_one_place_where_telemetry_is_switched_off():
    named = {name for name, path in MODULES.items() if names_interpreter(path.read_text("utf-8"))}
    # The schema of TFLite files comes with ai-edge-litert; the manifest records the versions of distributions.
    assert named - {"export.tflite.builder", "pipeline.manifest_record"} == {"runtime.backends.modules"}


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import onnxruntime\n",
        "from onnxruntime.quantization import quantize",
        "import_module('onnxruntime')",
        "MODULES = {'litert': 'ai_edge_litert.interpreter'}",
    ],
)
def test_an_import_of_an_interpreter_elsewhere_is_seen(source):
    assert names_interpreter(source)
    assert not names_interpreter('"onnxruntime is a package"; PLACE = "onnxruntime/capi"')


def test_nothing_in_the_checkout_imports_onnxruntime_in_another_way():
    """Programs, tests, templates and documents, too: whoever starts one has no variable that switches telemetry off."""
    assert importing_files(ROOT) == [
        "docs/how-to/onnx.md",  # a program without this package, which sets the variable
        "tests/cli/test_telemetry.py",  # shows what the import leaves behind
        "tests/test_layers.py",  # below
    ]
    page = (ROOT / "docs" / "how-to" / "onnx.md").read_text("utf-8")
    assert 0 < page.index('"ORT_DISABLE_TELEMETRY", "1"') < page.index("import onnxruntime")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("benchmarks/a.py", "import onnxruntime as ort\n"),
        ("benchmarks/b.py", "def f():\n    from onnxruntime.quantization import quantize_static\n"),
        ("robustness/c.py", "import importlib\nimportlib.import_module('onnxruntime')\n"),
        ("robustness/d.py", "__import__('onnxruntime')\n"),
        ("scripts/e.py", "subprocess.run([sys.executable, '-c', 'import numpy, onnxruntime; print(1)'])\n"),
        ("scripts/f.py", "code = f'import sys\\nfrom onnxruntime import {name}'\n"),
        ("scripts/g.py", "subprocess.run([sys.executable, '-m', 'onnxruntime.tools.check'])\n"),
        ("scripts/h.sh", 'python -c "import onnxruntime"\n'),
        ("docs/i.md", "```python\nimport onnxruntime\n```\n"),
        ("tests/runtime/j.py", "ort = pytest.importorskip('onnxruntime')\n"),
        ("mbn_deploy/packages/pi/templates/k.py", "import onnxruntime\n"),
    ],
)
def test_an_import_of_onnxruntime_anywhere_is_seen(name, text, tmp_path):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_text(text)
    assert importing_files(tmp_path) == [name]
    (tmp_path / name).write_text("PACKAGES = ('onnxruntime',)  # from onnxruntime 1.19 on\n")
    assert importing_files(tmp_path) == []


def run_without_frameworks(statements: str) -> str:
    """Run Python `statements` where none of `BLOCKED` can be imported; return what was printed."""
    block = f"import sys\nfor name in {BLOCKED!r}: sys.modules[name] = None\n"
    command = [sys.executable, "-W", "error", "-c", block + statements]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_blocked_modules_cannot_be_imported():
    assert run_without_frameworks("try:\n    import keras\nexcept ImportError:\n    print('blocked')") == "blocked\n"


def test_every_module_but_the_command_line_imports_without_frameworks_and_does_nothing():
    names = [f"mbn_deploy.{name}".rstrip(".") for name in MODULES if room_of(name) not in ("cli", "serve")]
    watch = (
        "import os, importlib, pathlib\nbefore = dict(os.environ), os.getcwd(), sys.argv[:]\n"
        f"for name in {[n for n in names if not n.endswith('__main__')]!r}: importlib.import_module(name)\n"
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
    names = "['Bundle', 'Classifier', 'ClassifierPool', 'ExportResult', '__version__', 'build', 'export_model']"
    assert printed.splitlines() == [
        f"{names} {names}",
        "[True, True, True, True, True, True, True]",
        "module 'mbn_deploy' has no attribute 'quantise'",
    ]


@pytest.mark.parametrize("first", ["pass", "import mbn_deploy.export.encode", "import mbn_deploy.pipeline.export"])
def test_export_is_a_package_and_export_model_the_function(first):
    printed = run_without_frameworks(
        f"{first}\nimport mbn_deploy, mbn_deploy.export, inspect\n"
        "print(inspect.ismodule(mbn_deploy.export), inspect.isfunction(mbn_deploy.export_model))\n"
    )
    assert printed == "True True\n"


def leads_up(caller, callee):
    """Whether a module calls into a room that may import its own: nearer to the command line."""
    mine, theirs = room_of(caller), room_of(callee)
    below = any(within(caller, name) for name in HOUSE[theirs].rooms.split())
    return mine != theirs and below and not any(within(callee, name) for name in HOUSE[mine].rooms.split())


@pytest.mark.slow
def test_an_export_is_followed_from_the_command_to_the_bundle_by_calls_that_lead_down(tmp_path):
    """Progress is told to nobody here; generators are followed where they are written."""
    from cli_run import NETWORK, run
    from export_models import write_pictures

    modules = {str(path): name for name, path in MODULES.items()}
    upward = set()

    def follow(frame, event, _):
        callee = modules.get(frame.f_code.co_filename) if event == "call" else None
        if callee is None or frame.f_code.co_name == "<genexpr>":
            return
        outer = frame.f_back
        while outer is not None and outer.f_code.co_filename not in modules:
            outer = outer.f_back
        caller = callee if outer is None else modules[outer.f_code.co_filename]
        if leads_up(caller, callee):
            upward.add(f"{caller}.{outer.f_code.co_name} calls {callee}.{frame.f_code.co_name}")

    options = [
        "--calibrate",
        write_pictures(tmp_path / "photos"),
        "--evaluate",
        write_pictures(tmp_path / "loose", 8, 1),
    ]
    sys.setprofile(follow)
    try:
        result = run("export", *NETWORK, "-o", tmp_path / "dist", *options, "--max-drop", 99, "--json")
    finally:
        sys.setprofile(None)
    assert result.exit_code == 0, result.stderr
    assert len(upward) <= 3, sorted(upward)
