"""Read a model file of either format as a graph of operations."""

from __future__ import annotations

from mbn_deploy.diagnose.file_graph import StoredNetwork
from mbn_deploy.diagnose.onnx_graph import read_onnx_network
from mbn_deploy.diagnose.tflite_graph import read_tflite_network
from mbn_deploy.manifest import FileFormat


def read_network(data: bytes, file_format: FileFormat, where: str) -> StoredNetwork:
    """The network of a file's bytes; `where` names it. Raises `InputError` for damaged ones."""
    read = read_tflite_network if file_format == "tflite" else read_onnx_network
    return read(data, where)
