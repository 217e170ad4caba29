"""Write Google's metadata by hand into a TFLite file."""

import io
import zipfile

import flatbuffers
import numpy as np
import runtime_models as models

from mbn_deploy.export.tflite.writer import write_tflite
from mbn_deploy.runtime.formats.tflite_file import read_metadata
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY, google_metadata


class Writer:
    """Write M001 tables from {field number: value}, in the declaration order of metadata_schema.fbs."""

    def __init__(self):
        self.builder = flatbuffers.Builder(256)

    def table(self, **fields):
        self.builder.StartObject(10)
        for key, (kind, value) in fields.items():
            slot = int(key[1:])
            if kind == "ref":
                self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                self.builder.PrependUint8Slot(slot, value, 0)
        return "ref", self.builder.EndObject()

    def text(self, value):
        return "ref", self.builder.CreateString(value)

    def tables(self, *items):
        self.builder.StartVector(4, len(items), 4)
        for _, offset in reversed(items):
            self.builder.PrependUOffsetTRelative(offset)
        return "ref", self.builder.EndVector()

    def floats(self, values):
        return "ref", self.builder.CreateNumpyVector(np.asarray(values, np.float32))

    def finish(self, root):
        self.builder.Finish(root[1], b"M001")
        return bytes(self.builder.Output())


def metadata_buffer(mean=(127.5,), std=(127.5,), labels="labels.txt", kind=2):
    w = Writer()
    options = w.table(f0=w.floats(mean), f1=w.floats(std))
    source = w.table(f0=w.text("image"), f4=w.tables(w.table(f0=("byte", 1), f1=options)))
    files = [w.table(f0=w.text("readme.txt"), f2=("byte", 1))]
    if labels:
        files.append(w.table(f0=w.text(labels), f2=("byte", kind)))
    result = w.table(f0=w.text("probability"), f6=w.tables(*files))
    subgraph = w.table(f2=w.tables(source), f3=w.tables(result))
    return w.finish(w.table(f0=w.text("tiny"), f3=w.tables(subgraph)))


def with_google(content=b"ant\nbee\ncat\ndog\neel\n", **options):
    data = write_tflite(models.graph(), "float32", metadata={GOOGLE_KEY: metadata_buffer(**options)})
    packed = io.BytesIO(data)
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("labels.txt", content)
    return packed.getvalue()


def google(data):
    return google_metadata(read_metadata(data, "m.tflite")[GOOGLE_KEY], data, "m.tflite")
