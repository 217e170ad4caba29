"""Names in an Android package, checked so that none of them needs quoting."""

from __future__ import annotations

import re

from mbn_deploy.errors import UsageError

_SEGMENT = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9_]*")

# Java SE 17 (JLS 3.9) and Kotlin's hard keywords (kotlinlang.org, "Keywords and operators").
_JAVA = """
abstract assert boolean break byte case catch char class const continue default do double else enum extends final
finally float for goto if implements import instanceof int interface long native new package private protected public
return short static strictfp super switch synchronized this throw throws transient try void volatile while true false
null
"""
_KOTLIN = """
as break class continue do else false for fun if in interface is null object package return super this throw true try
typealias typeof val var when while
"""
KEYWORDS = frozenset((_JAVA + _KOTLIN).split())

# Classes that the generated code uses by their short names; a class of the same name would hide them.
_USED = """
AndroidJUnit4 Array AssetManager AutoCloseable BaseOptions Bitmap BitmapImageBuilder Boolean Build Byte ByteArray
ByteBuffer ByteOrder Charsets Companion Context DataInputStream Double DoubleArray File FileChannel FileInputStream
FileNotFoundException Filter Float FloatArray Golden IOException ImageClassifier ImageClassifierOptions
ImageProcessingOptions Input InputStream InstrumentationRegistry Int IntArray Interpreter JvmField JvmOverloads
JvmStatic List Long Math OnnxJavaType OnnxTensor OrtEnvironment OrtSession Output Override Pair Plan Prediction
RectF Resize Rows RunWith Runtime String Suppress Synchronized Taps Test Type Unit
"""
TAKEN = frozenset(_USED.split())


def package_name(name: str) -> str:
    """Return `name` if it can be the package of an Android library; raises `UsageError` that says what can."""
    segments = name.split(".")
    if len(segments) < 2 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise UsageError(
            f"{name!r} cannot be a package: it takes two or more names with dots between them, each a letter and then "
            "letters, digits and _, as in com.example.flowers"
        )
    for segment in segments:
        if segment in KEYWORDS:
            raise UsageError(f"{name!r} cannot be a package: {segment!r} is a keyword of Java or Kotlin")
    return name


def class_name(name: str) -> str:
    """Return `name` if it can be the name of a class; raises `UsageError` that says what can."""
    if not _CLASS.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a class: it takes a capital letter and then letters, digits and _, as in "
            "FlowerClassifier"
        )
    if name in TAKEN:
        raise UsageError(f"{name!r} cannot be the class: the code uses another class of that name")
    return name


def pack_name(name: str) -> str:
    """Return `name` if it can be the name of an asset pack or AI pack; raises `UsageError` that says what can.

    The rule is that of developer.android.com, "Integrate asset delivery"; `base` is the app's own module.
    """
    if not _SEGMENT.fullmatch(name) or name == "base":
        raise UsageError(
            f"{name!r} cannot be a pack: it takes a letter and then letters, digits and _; 'base' is taken"
        )
    return name


def snake_case(name: str) -> str:
    """Write `FlowerClassifier` as `flower_classifier`, the name of the folder of its assets."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def constant(precision: str) -> str:
    """Write a precision as the name of a constant: `int8-mixed` as `INT8_MIXED`."""
    return re.sub(r"[^A-Z0-9]+", "_", precision.upper())
