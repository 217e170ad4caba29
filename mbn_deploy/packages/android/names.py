"""Names that an Android package is made with: checked, or made from a model's name. None of them needs quoting."""

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

# What the generated code calls by their short names; a class of the same name would hide them.
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
    """`name` if it can be an Android library's package; `UsageError` that says what can."""
    segments = name.split(".")
    if len(segments) < 2 or not all(_SEGMENT.fullmatch(segment) for segment in segments):
        raise UsageError(
            f"{name!r} cannot be a package: two or more names with dots between them, each of letters, digits and _, "
            "with a letter first, as in com.example.flowers"
        )
    for segment in segments:
        if segment in KEYWORDS:
            raise UsageError(f"{name!r} cannot be a package: {segment!r} is a keyword of Java or Kotlin")
    return name


def class_name(name: str) -> str:
    """`name` if a class can be called so; `UsageError` that says what can."""
    if not _CLASS.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be a class: a capital letter first, then letters, digits and _, as in FlowerClassifier"
        )
    if name in TAKEN:
        raise UsageError(f"{name!r} cannot be the class: the code uses another class of that name")
    return name


def pack_name(name: str) -> str:
    """`name` if an asset pack or AI pack can be called so; `UsageError` that says what can.

    The rule is that of developer.android.com, "Integrate asset delivery"; `base` is the app's own part of
    an app bundle.
    """
    if not _SEGMENT.fullmatch(name) or name == "base":
        raise UsageError(f"{name!r} cannot be a pack: a letter first, then letters, digits and _, and not 'base'")
    return name


def class_name_of(model: str) -> str:
    """A class's name made from any text: `mobilenet_v2_1.0_224` becomes `MobilenetV2Classifier`."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", model) if word and not word.isdigit()]
    joined = "".join(word[0].upper() + word[1:] for word in words)
    return f"{joined if _CLASS.fullmatch(joined) else 'Picture'}Classifier"


def snake_case(name: str) -> str:
    """`FlowerClassifier` as `flower_classifier`: the folder of its assets."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def constant(precision: str) -> str:
    """A precision as the name of a constant: `int8-mixed` as `INT8_MIXED`."""
    return re.sub(r"[^A-Z0-9]+", "_", precision.upper())
