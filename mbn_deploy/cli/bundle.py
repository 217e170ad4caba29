"""`mbn-deploy bundle TARGET BUNDLE -o DIR`: packages made from a bundle."""

from __future__ import annotations

import typer

from mbn_deploy.cli.bundle_android import android
from mbn_deploy.cli.bundle_c_array import c_array
from mbn_deploy.cli.bundle_ios import ios
from mbn_deploy.cli.bundle_pi import pi
from mbn_deploy.cli.help_screen import Command, Group, examples

bundle = typer.Typer(
    cls=Group, help="Build a package for a device from a bundle.", no_args_is_help=True, rich_markup_mode=None
)
bundle.command(
    "pi",
    cls=Command,
    short_help="ARM boards: models, wheels, an offline installer, a service.",
    epilog=examples("bundle pi dist -o flowers-pi --python 3.13"),
)(pi)
bundle.command(
    "android",
    cls=Command,
    short_help="A Gradle module, a library or an asset pack, with Kotlin.",
    epilog=examples("bundle android dist -o flowers-android --package com.example.flowers"),
)(android)
bundle.command(
    "ios",
    cls=Command,
    short_help="A folder of resources, with a Swift class.",
    epilog=examples("bundle ios dist -o flowers-ios"),
)(ios)
bundle.command(
    "c-array",
    cls=Command,
    short_help="TensorFlow Lite Micro: a C array, operators, arena.",
    epilog=examples("bundle c-array dist -o flowers-mcu --name flowers"),
)(c_array)
