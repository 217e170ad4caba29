"""What a machine says of itself: trees of /proc and /sys as boards have them, and this machine."""

import os

import pytest
import runtime_models as models
from cli_run import run

import mbn_deploy.runtime.benchmark.benchmark as benchmark_module
from mbn_deploy.runtime.benchmark.benchmark import Amount, benchmark
from mbn_deploy.runtime.system.device import condition, meaning, this_machine, usable_processors

CPUFREQ = "sys/devices/system/cpu/cpufreq"
PI = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    f"{CPUFREQ}/policy0/scaling_governor": "ondemand\n",
    f"{CPUFREQ}/policy0/scaling_cur_freq": "600000\n",
    f"{CPUFREQ}/policy0/scaling_max_freq": "1500000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48212\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",  # hexadecimal without a prefix
}


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_raspberry_pi(tmp_path):
    root = tree(tmp_path, PI)
    assert this_machine(root).model == "Raspberry Pi 4 Model B Rev 1.4"
    found = condition(root)
    assert found.governors == ("ondemand",)
    assert (found.frequency, found.frequency_limit) == (600, 1500)
    assert found.temperatures == {"cpu-thermal": 48.212}
    assert found.hottest == 48.212
    assert found.throttled == 0x50005
    assert found.throttling == (
        "under-voltage now", "throttled now", "under-voltage since start", "throttled since start",
    )  # fmt: skip
    assert found.absent == ()


def test_groups_of_cores_and_zones_of_one_name(tmp_path):
    big = {f"{CPUFREQ}/policy4/{name.rpartition('/')[2]}": text for name, text in PI.items() if CPUFREQ in name}
    big[f"{CPUFREQ}/policy4/scaling_governor"] = "performance"
    big[f"{CPUFREQ}/policy4/scaling_cur_freq"] = "2400000"
    zones = {"sys/class/thermal/thermal_zone1/type": "cpu-thermal", "sys/class/thermal/thermal_zone1/temp": "61000"}
    found = condition(tree(tmp_path, PI | big | zones))
    assert found.governors == ("ondemand", "performance")
    assert found.frequency == 600
    assert found.temperatures == {"cpu-thermal": 48.212, "cpu-thermal (thermal_zone1)": 61}


def test_what_is_not_told_is_absent(tmp_path):
    found = condition(tmp_path)
    assert found.absent == ("governor", "frequency", "temperature", "throttling")
    assert (found.hottest, found.throttled, found.throttling) == (None, None, ())
    assert this_machine(tmp_path).model == "unknown"


def test_nonsense_is_absent(tmp_path):
    found = condition(tree(tmp_path, dict.fromkeys(PI, "?")))
    assert (found.frequency, found.temperatures, found.throttled) == (None, {}, None)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\nmodel name\t: Some CPU\n\nprocessor\t: 1\nmodel name\t: Other\n", "Some CPU"),
        ("processor: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n", "CPU implementer 0x41 part 0xd0b"),
        ("processor: 0\nCPU part\t: 0xd0b\nModel\t: Raspberry Pi 5 Model B\n", "Raspberry Pi 5 Model B"),
    ],
    ids=["x86", "arm", "pi"],
)
def test_the_processors_name(tmp_path, text, model):
    assert this_machine(tree(tmp_path, {"proc/cpuinfo": text})).model == model


def test_the_firmwares_program_is_asked_where_the_kernel_has_no_file(tmp_path, monkeypatch):
    program = tmp_path / "vcgencmd"
    program.write_text("#!/bin/sh\necho throttled=0x80008\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    if os.path.exists("/sys/devices/platform/soc/soc:firmware/get_throttled"):  # noqa: PTH110
        pytest.skip("this is a board whose kernel says it itself")
    found = condition()
    assert found.throttled == 0x80008
    assert found.throttling == ("soft temperature limit active now", "soft temperature limit reached since start")
    program.write_text("#!/bin/sh\nexit 1\n")
    assert condition().throttled is None


def test_this_machine():
    machine = this_machine()
    assert machine.processors == usable_processors() >= 1
    assert machine.model in machine.key
    assert machine.architecture in str(machine)
    assert meaning(0) == ()


@pytest.fixture
def on_a_board(tmp_path, monkeypatch):
    """(a model file, a function that says what the board's files hold and how many processes want to run)."""
    path = tmp_path / "m.tflite"
    path.write_bytes(models.float_tflite())

    def said(files, load=0.0):
        root = tree(tmp_path / "board", PI | files)
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
        monkeypatch.setattr(benchmark_module, "condition", lambda: condition(root))

    return path, said


SLOW = {f"{CPUFREQ}/policy0/scaling_governor": "powersave", "sys/class/thermal/thermal_zone0/temp": "81600"}
QUICK = {f"{CPUFREQ}/policy0/scaling_cur_freq": "1500000", "sys/devices/platform/soc/soc:firmware/get_throttled": "0"}


def test_what_made_a_benchmark_slow_is_said(on_a_board):
    path, said = on_a_board
    said(SLOW, load=1000.0)
    few = Amount(seconds=None, runs=3, warmup=1)
    busy, governor, firmware, hot = benchmark([path], threads=[1], amount=few, openings=0).notes[:4]
    assert "load 1000.0" in busy
    assert "powersave" in governor
    assert "under-voltage now, throttled now" in firmware
    assert "82 °C" in hot
    said(QUICK)
    notes = benchmark([path], threads=[1], amount=few, openings=0).notes
    assert [note for note in notes if "the last third" not in note] == []


def test_a_board_on_the_screen(on_a_board):
    path, said = on_a_board
    said({})
    done = run("benchmark", path, "--runs", 3, "--threads", 1, "--openings", 0)
    assert done.exit_code == 0, done.stderr
    printed = " ".join(done.stdout.split())
    for fact in ("ondemand", "600 MHz before", "48 °C before", "0x50005 before", "0x50005 after"):
        assert fact in printed
    assert "not reported" not in printed
