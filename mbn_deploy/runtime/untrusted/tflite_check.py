"""Check the structure of a .tflite file of unknown origin before an interpreter opens it."""

from __future__ import annotations

from mbn_deploy.runtime.formats.flatbuffer import DamagedError, Table, damage_named, root
from mbn_deploy.runtime.formats.tflite_file import IDENTIFIER, read_metadata
from mbn_deploy.runtime.untrusted.flatbuffer_check import StructureCheck


def check_tflite(data: bytes, where: str) -> None:
    """Raise `InputError` that names `where` for a file whose references, lengths or indices lead nowhere."""
    with damage_named(where):
        model = root(data, IDENTIFIER)
        StructureCheck(data).run()
        read_metadata(data, where)  # indices have targets from here on
        _check_signatures(model)


def _check_signatures(model: Table) -> None:
    graphs = model.tables(2)
    for signature in model.tables(7):
        index = signature.scalar(4, "I", 0)
        if index >= len(graphs):
            raise DamagedError(f"a signature is for graph {index}, there are {len(graphs)}")
        count = graphs[index].vector(0, 4)[1]
        for entry in (*signature.tables(0), *signature.tables(1)):
            if entry.scalar(1, "I", 0) >= count:
                raise DamagedError(f"a signature names tensor {entry.scalar(1, 'I', 0)}, there are {count}")
