"""An Android library as one file, written in pure Python (developer.android.com, "Anatomy of an AAR file").

It holds assets and what the format demands, but no classes: making a package needs no Kotlin or Java compiler, so the
classes lie beside the library as sources.
"""

from __future__ import annotations

from collections.abc import Mapping

from mbn_deploy.archives import ALIGNMENT, zip_bytes

_JAR_MANIFEST = b"Manifest-Version: 1.0\r\n\r\n"  # all that the specification of jars demands
_MAPPED = (".tflite", ".onnx")


def aar(manifest: bytes, assets: Mapping[str, bytes], rules: bytes) -> bytes:
    """Return the bytes of a library; nothing in it is compressed, and models begin on a memory page.

    Args:
        manifest: AndroidManifest.xml, which names the library's package.
        assets: the files under `assets/`, by relative path.
        rules: proguard.txt, for apps that shrink their code.
    """
    entries = {
        "AndroidManifest.xml": manifest,
        "classes.jar": zip_bytes({"META-INF/MANIFEST.MF": _JAR_MANIFEST}, alignment=ALIGNMENT),
        "R.txt": b"",  # no resources
        "proguard.txt": rules,
    }
    entries |= {f"assets/{name}": content for name, content in sorted(assets.items())}
    models = {name for name in entries if name.endswith(_MAPPED)}
    return zip_bytes(entries, alignment=ALIGNMENT, page_aligned=models)
