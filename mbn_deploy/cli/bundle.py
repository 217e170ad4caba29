"""`mbn-deploy bundle TARGET BUNDLE -o DIR`: packages made from a bundle."""

from __future__ import annotations

import typer

from mbn_deploy.cli.bundle_android import android
from mbn_deploy.cli.bundle_c_array import c_array
from mbn_deploy.cli.bundle_ios import ios
from mbn_deploy.cli.bundle_pi import pi

bundle = typer.Typer(help="Packages made from a bundle.", no_args_is_help=True, rich_markup_mode=None)
bundle.command("pi")(pi)
bundle.command("c-array")(c_array)
bundle.command("android")(android)
bundle.command("ios")(ios)
