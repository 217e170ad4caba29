"""Read a model file of either format as a graph of operations."""

from __future__ import annotations

from mbn_deploy.diagnose.file_graph import FileGraph
from mbn_deploy.diagnose.onnx_graph import read_onnx_graph
from mbn_deploy.diagnose.tflite_graph import read_tflite_graph
from mbn_deploy.manifest import FileFormat


def read_file_graph(data: bytes, file_format: FileFormat, where: str) -> FileGraph:
    """Return the graph in a file's bytes. `where` names the file; raises `InputError` if it is damaged."""
    read = read_tflite_graph if file_format == "tflite" else read_onnx_graph
    return read(data, where)
