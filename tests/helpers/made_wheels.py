"""Stand-ins for the wheels that a package index would give: pip can choose and fetch them, nothing runs them."""

import zipfile


def write_wheel(folder, name, version, requires=(), tag="py3-none-any"):
    """Write a wheel with metadata and one module: all that pip needs to choose it."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    lines = [
        "Metadata-Version: 2.1",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")


def write_wheels(folder):
    """Write a wheel for each dependency of this program, of a version that fits, for 64-bit boards."""
    from packaging.requirements import Requirement

    from mbn_deploy.packages.pi.own_wheel import own_metadata

    needed = {"tflite_runtime": "2.14.0", "numpy": "1.26.4"}
    for text in own_metadata().get_all("Requires-Dist"):
        requirement = Requirement(text)
        versions = ["99.0", *(s.version for s in requirement.specifier if s.operator == ">=")]
        needed.setdefault(requirement.name.replace("-", "_"), next(v for v in versions if v in requirement.specifier))
    for name, version in needed.items():
        tag = "cp311-cp311-manylinux_2_28_aarch64" if name in ("numpy", "pillow", "ai_edge_litert") else "py3-none-any"
        write_wheel(folder, name, version, tag=tag)
    return folder


def offline_index(folder):
    """Return settings with which pip takes these wheels, written to `folder`, and asks no index."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(write_wheels(folder / "wheels")), "PIP_CONFIG_FILE": "/dev/null"}
