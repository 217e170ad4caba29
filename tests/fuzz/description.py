"""What a lone model file says about itself."""

from harness import fuzz, instrumented

with instrumented():
    from mbn_deploy.manifest import Description, Preprocess

_SEED = Description("m", "int8", "softmax", Preprocess(), labels=("a", "b")).to_json().encode()
fuzz(lambda data: Description.from_json(data, "m.tflite"), [_SEED, b"{}"])
