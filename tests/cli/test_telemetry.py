"""No command leaves a trace of another program's telemetry.

From 1.29 on, the import alone of onnxruntime writes an identifier and a database of events into the cache folder
(`Microsoft/DeveloperTools/.onnxruntime`), unless ORT_DISABLE_TELEMETRY is set, or CI. Here every command runs as for a
new user: an empty home, an empty cache and temporary folder, and no variable beyond the few that a shell sets.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from apk_files import apk
from cli_run import NETWORK
from made_wheels import write_wheels
from serving import serving

from mbn_deploy.cli.main import app
from mbn_deploy.runtime.backends.modules import load_interpreter

MAIN = "from mbn_deploy.cli.main import main; main()"
SHELL = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}", "LANG": "C.UTF-8"}
# What other libraries write, and is no telemetry: Keras its settings; matplotlib, which this program does not need but
# Keras imports where it is installed, a list of fonts; TensorFlow the bytecode of functions that it has translated.
KNOWN = {".keras/keras.json", ".cache/matplotlib", "tmp/__pycache__"}
OURS = ".cache/mbn-deploy"


def new_home(folder):
    (folder / "home" / "tmp").mkdir(parents=True)
    return folder / "home"


@pytest.fixture
def home(tmp_path):
    return new_home(tmp_path)


def run_in(home, code, *arguments, **environment):
    """Run Python as a new user does in that home, and return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=SHELL | {"HOME": str(home), "TMPDIR": str(home / "tmp")} | environment,
        cwd=home / "tmp",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def traces(home):
    """List the files below the home that neither this program nor a library in `KNOWN` has written."""
    files = [path.relative_to(home).as_posix() for path in home.rglob("*") if not path.is_dir()]
    return sorted(name for name in files if not any(f"{name}/".startswith(f"{known}/") for known in (*KNOWN, OURS)))


@pytest.fixture(scope="module")
def exporter(tmp_path_factory, digits):
    """The home in which an export ran; all other commands use its bundle."""
    home = new_home(tmp_path_factory.mktemp("exporter"))
    options = ("--calibrate", digits / "calibration", "--calibration-count", 20, "--labels", digits / "labels.txt")
    run_in(home, MAIN, "export", *NETWORK, "-o", home.parent / "dist", "--precisions", "float32,int8", *options)
    return home


@pytest.fixture(scope="module")
def dist(exporter):
    return exporter.parent / "dist"


def app_of(dist):
    assets = {f"assets/digits/{path.name}": path.read_bytes() for path in dist.iterdir() if path.suffix != ".html"}
    (dist.parent / "app.apk").write_bytes(apk(assets))
    return dist.parent / "app.apk"


def int8(dist):
    return next(dist.glob("*_int8.onnx"))


def wheels_in(folder):
    write_wheels(folder)
    return folder


# Of the demo, one network of three.
ONLY_V1 = "from mbn_deploy.demo.networks import DEMO_SPECS as d; [d.pop(name) for name in [*d][1:]]; "
SMALLEST = ("--alphas", 0.25, "--sizes", 32, "--classes", 10, "--weights", "none", "--precisions", "float32")
# By command: what it is given, of the bundle, a folder and a picture. With onnxruntime where it can be.
CASES = {
    "list": lambda *_: (),
    "describe": lambda *_: ("mobilenet_v2",),
    "export": None,  # its bundle is that of all others
    "evaluate": lambda d, o, p: (d, "--data", p.parent.parent, "--backend", "onnx"),
    "inspect": lambda d, o, p: (next(d.glob("*_int8.onnx")), "--ops"),
    "run": lambda d, o, p: (d, p, "--backend", "onnx", "--isolate"),
    "verify": lambda d, o, p: (d, "--backend", "onnx"),
    "benchmark": lambda d, o, p: (d, "--backend", "onnx", "--seconds", 0.01, "--openings", 1, "--threads", 1),
    "serve": None,  # ends only when it is told to
    "sweep": lambda d, o, p: ("-o", o / "sweep", "--models", "mobilenet_v1", *SMALLEST, "--formats", "onnx"),
    "demo": lambda d, o, p: ("-o", o / "demo"),
    "doctor": lambda *_: (),
    "check-apk": lambda d, o, p: (app_of(d), "--bundle", d),
    "bundle android": lambda d, o, p: (d, "-o", o / "out", "--package", "com.example.digits", "--runtime", "onnx"),
    "bundle ios": lambda d, o, p: (d, "-o", o / "out"),
    "bundle c-array": lambda d, o, p: (d, "-o", o / "out"),
    "bundle pi": lambda d, o, p: (d, "-o", o / "out", "--backend", "onnx", "--wheels", wheels_in(o / "wheels")),
}
SLOW = {"sweep", "demo"}


def commands(group, above=""):
    """List the names of the command line's own commands."""
    for name, command in group.commands.items():
        yield from commands(command, f"{name} ") if hasattr(command, "commands") else [f"{above}{name}"]


def test_every_command_has_a_case():
    assert sorted(commands(typer.main.get_command(app))) == sorted(CASES)


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name, case in CASES.items() if case]
)
def test_no_command_leaves_a_trace(command, dist, tmp_path, home, picture):
    before = ONLY_V1 if command == "demo" else ""
    run_in(home, f"{before}{MAIN}", *command.split(), *CASES[command](dist, tmp_path, picture))
    assert traces(home) == []


def test_no_export_leaves_a_trace(exporter):
    assert traces(exporter) == []
    settings = json.loads((exporter / ".keras" / "keras.json").read_text())
    assert set(settings) <= {"floatx", "epsilon", "backend", "image_data_format", "nnx_enabled"}  # identify nobody


def test_no_server_leaves_a_trace(dist, home, picture, monkeypatch):
    for name in set(os.environ) - set(SHELL):
        monkeypatch.delenv(name)
    place = {"HOME": str(home), "TMPDIR": str(home / "tmp")}
    with serving(dist, "--backend", "onnx", env=SHELL | place) as server:
        assert server.classify(picture.read_bytes()).status == 200
    assert traces(home) == []


def test_what_is_looked_for_is_left_without_this_package(home):
    """Otherwise a later onnxruntime that writes elsewhere would go unseen."""
    version = tuple(map(int, load_interpreter("onnx").__version__.split(".")[:2]))
    if version < (1, 29):
        pytest.skip("this onnxruntime has no telemetry")
    run_in(home, "import onnxruntime")
    assert [name for name in traces(home) if "onnxruntime" in name]


@pytest.mark.parametrize(("told", "kept"), [({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")])
@pytest.mark.parametrize("by", ["load_interpreter('onnx')", "load_part('onnx', 'quantization')"])
def test_a_users_own_choice_stays(home, by, told, kept):
    code = (
        f"import os; from mbn_deploy.runtime.backends.modules import load_interpreter, load_part; {by}; "
        "print(os.environ['ORT_DISABLE_TELEMETRY'])"
    )
    assert run_in(home, code, **told) == f"{kept}\n"
