"""Keras models become a float graph; graphs become TFLite and ONNX files; files are read back.

The package is also the function `mbn_deploy.export`: both have the same name, and whichever of them is imported
first, `from mbn_deploy import export` must give something that exports.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`mbn_deploy.pipeline.export.export`."""
        from mbn_deploy.pipeline.export import export

        return export(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
