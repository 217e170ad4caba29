"""Where bundles, packages and sweeps may not be written: refused at once, with the place's name."""

from pathlib import Path

import pytest
from cli_run import run

from mbn_deploy.bundle.write import check_target
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.packages.package import check_package_target

CHECKS = {"bundle": check_target, "package": check_package_target}


@pytest.fixture(params=CHECKS)
def check(request):
    return CHECKS[request.param]


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "outside" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "outside" / "here")
    return tmp_path / "outside" / "here"


@pytest.mark.parametrize("place", ["/", "//", "/..", "/./"])
def test_the_root_of_the_file_system(check, place, here):
    with pytest.raises(UsageError, match="root"):
        check(here / place, overwrite=True)


@pytest.mark.parametrize("place", ["", ".", "./", "..", "../here", "../../outside"])
def test_a_folder_in_which_the_command_runs(check, place, here):
    """It would be replaced by another folder, and a shell be left in one that is gone."""
    with pytest.raises(UsageError, match="runs"):
        check(Path(place), overwrite=True)
    assert here.is_dir()


def test_names_that_no_folder_can_have(check, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for name in ("a" * 300, "loop", "loop/inside", "zero\0byte"):
        with pytest.raises(InputError) as caught:
            check(tmp_path / name, overwrite=False)
        assert name[:4] in str(caught.value)


def test_a_folder_that_is_gone(check, here):
    here.rmdir()
    with pytest.raises(InputError):
        check(Path("out"), overwrite=False)


def test_every_command_that_writes_a_folder_refuses_the_root(tmp_path):
    out = tmp_path / "dist"  # is not read any more
    sweep = ("--models", "mobilenet_v1", "--weights", "none", "--precisions", "float32")
    for command in (
        ("bundle", "android", out, "--package", "com.example.digits", "-o", "/"),
        ("bundle", "ios", out, "-o", "/"),
        ("bundle", "c-array", out, "-o", "/"),
        ("bundle", "pi", out, "-o", "/"),
        ("export", "mobilenet_v1", "--weights", "none", "--precisions", "float32", "-o", "/"),
        ("sweep", *sweep, "-o", "/"),
        ("demo", "-o", "/"),
    ):
        result = run(*command)
        assert (result.exit_code, "/ " in result.stderr) == (2, True), (command, result.stderr)
