"""The page of layers and operations names all of them."""

import re
from pathlib import Path

import pytest

from mbn_deploy.export.from_keras.handlers.training_only import INACTIVE
from mbn_deploy.export.from_keras.supported import LAYERS, OPERATIONS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "layers.md"


@pytest.mark.parametrize("name", sorted({*LAYERS, *OPERATIONS} - set(INACTIVE)))
def test_every_layer_and_operation_is_named(name):
    assert re.search(rf"`{name}`", PAGE.read_text(encoding="utf-8"))
