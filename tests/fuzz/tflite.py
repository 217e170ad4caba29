"""The reader of .tflite files and the checks before an interpreter."""

from harness import fuzz, instrumented, probe

with instrumented():
    from mbn_deploy.runtime.untrusted.tflite_check import check_tflite

fuzz(lambda data: check_tflite(data, "m.tflite"), [probe("float32.tflite"), probe("int8.tflite")])
