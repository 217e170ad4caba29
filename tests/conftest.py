"""What holds for every test."""

import json
import os
import shutil
import signal

import pytest
from browser import browser, one_browser  # noqa: F401 - fixtures
from hypothesis import HealthCheck, settings

# How long an example takes depends on what else the machine does.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure():
    """Let Ctrl-C work in tests and the processes they start: a shell's background jobs inherit that it is ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """MBN_ARM=no, MBN_BROWSER=no and MBN_ANDROID=no leave out what is marked so, whatever else is chosen by -m."""
    without = {mark for mark in ("arm", "browser", "android") if os.environ.get(f"MBN_{mark.upper()}") == "no"}
    left_out = [item for item in items if any(mark.name in without for mark in item.iter_markers())]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Digits as a user would have them: calibration images, a folder a class, labels."""
    from mbn_deploy.demo.digits import CLASSES, shipped

    root = tmp_path_factory.mktemp("data")
    calibration, held_back = shipped()
    calibration.write(root / "calibration", by_class=False)
    held_back.write(root / "held-back", by_class=True)
    (root / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    return root


@pytest.fixture(scope="session")
def exported(digits):
    """(bundle, what the command printed): float32 and int8 in both formats, evaluated."""
    from cli_run import NETWORK, run

    out = digits / "bundle"
    result = run(
        "export",
        *NETWORK,
        "-o",
        out,
        "--precisions",
        "float32,int8",
        "--resize",
        "squash",
        "--labels",
        digits / "labels.txt",
        "--calibrate",
        digits / "calibration",
        "--calibration-count",
        50,
        "--evaluate",
        digits / "held-back",
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    return out, json.loads(result.stdout)


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(exported[0], tmp_path / "bundle")


@pytest.fixture
def picture(digits):
    return min((digits / "held-back" / "7").iterdir())


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    """By machine of the emulated ARM userland: the folder with the project's wheel and its device dependencies."""
    import arm

    folder = tmp_path_factory.mktemp("arm")
    wheel = arm.build_wheel(folder)
    return {machine: arm.install(wheel, folder / machine, machine) for machine in ("aarch64", "armv7l")}


@pytest.fixture(scope="session")
def board(sites):
    """A function: the emulated board of a processor."""
    import arm

    return lambda cpu: arm.Board(cpu, sites["armv7l" if cpu == arm.ARMV7L else "aarch64"])


@pytest.fixture(scope="session")
def demo_bundles(digits, tmp_path_factory):
    """One network of each generation, trained: float32 and int8, both formats, golden vectors."""
    from importlib import resources
    from pathlib import Path

    from mbn_deploy.demo.digits import CLASSES
    from mbn_deploy.demo.networks import DEMO_SPECS, weights_name
    from mbn_deploy.models.api import build
    from mbn_deploy.pipeline.export import export_model

    folder = tmp_path_factory.mktemp("bundles")
    for name, spec in DEMO_SPECS.items():
        weights = Path(str(resources.files("mbn_deploy.demo") / weights_name(name)))
        model = build(name, alpha=spec.alpha, size=spec.size, classes=len(CLASSES), weights=weights)
        export_model(
            model,
            folder / name,
            precisions=["float32", "int8"],
            resize="squash",
            labels=list(CLASSES),
            calibrate=digits / "calibration",
            calibration_count=50,
        )
    return [folder / name for name in DEMO_SPECS]
