"""An Android library as one file, in pure Python (developer.android.com, "Anatomy of an AAR file").

It holds assets and what the format demands. There is no class in it: no compiler of Kotlin or Java is asked
of who makes one, so the classes lie beside it as sources.
"""

from __future__ import annotations

from collections.abc import Mapping

from mbn_deploy.archives import ALIGNMENT, zip_bytes

_JAR_MANIFEST = b"Manifest-Version: 1.0\r\n\r\n"  # a jar's specification wants no more; it ends with an empty line
MAPPED = (".tflite", ".onnx")


def aar(manifest: bytes, assets: Mapping[str, bytes], rules: bytes) -> bytes:
    """The same bytes for the same arguments. Nothing is compressed, models begin on a page.

    Args:
        manifest: AndroidManifest.xml, which names the library's package.
        assets: what lies under `assets/`, by relative path.
        rules: proguard.txt, for apps that shrink their code.
    """
    entries = {
        "AndroidManifest.xml": manifest,
        "classes.jar": zip_bytes({"META-INF/MANIFEST.MF": _JAR_MANIFEST}, alignment=ALIGNMENT),
        "R.txt": b"",  # no resources
        "proguard.txt": rules,
    }
    entries |= {f"assets/{name}": content for name, content in sorted(assets.items())}
    models = {name for name in entries if name.endswith(MAPPED)}
    return zip_bytes(entries, alignment=ALIGNMENT, page_aligned=models)
