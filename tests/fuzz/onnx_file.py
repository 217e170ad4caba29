"""The reader of .onnx files and the checks before an interpreter."""

from harness import fuzz, instrumented, probe

with instrumented():
    from mbn_deploy.runtime.untrusted.onnx_check import check_onnx

fuzz(lambda data: check_onnx(data, "m.onnx"), [probe("float32.onnx"), probe("int8.onnx")])
