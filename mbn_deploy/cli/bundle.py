"""`mbn-deploy bundle TARGET BUNDLE -o DIR`: packages made from a bundle."""

from __future__ import annotations

import typer

from mbn_deploy.cli.bundle_android import android
from mbn_deploy.cli.bundle_c_array import c_array
from mbn_deploy.cli.bundle_ios import ios
from mbn_deploy.cli.bundle_pi import pi
from mbn_deploy.cli.screens import PACKAGES, Command

bundle = typer.Typer(help="Packages made from a bundle.", no_args_is_help=True, rich_markup_mode=None)
bundle.command("pi", cls=Command, short_help=PACKAGES["pi"])(pi)
bundle.command("android", cls=Command, short_help=PACKAGES["android"])(android)
bundle.command("ios", cls=Command, short_help=PACKAGES["ios"])(ios)
bundle.command("c-array", cls=Command, short_help=PACKAGES["c-array"])(c_array)
