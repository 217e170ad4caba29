"""Pictures built byte by byte that claim more than they hold."""

import io
import struct


def marker(code, data):
    """Return a segment of a JPEG."""
    return b"\xff" + bytes([code]) + struct.pack(">H", len(data) + 2) + data


def jpeg_of_many_scans(width, height, scans, *, components=1, progressive=True, between=b""):
    """A JPEG with as many scans as asked for, all of them empty; `between` stands before each."""
    frame = struct.pack(">BHHB", 8, height, width, components)
    frame += b"".join(bytes([index, 0x11, 0]) for index in range(1, components + 1))
    data = b"\xff\xd8" + marker(0xDB, b"\0" + bytes([16] * 64)) + marker(0xC2 if progressive else 0xC0, frame)
    data += marker(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0") + marker(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0")
    last = b"\0\0\0" if progressive else b"\0\x3f\0"
    scan = b"".join(
        between + marker(0xDA, bytes([1, index, 0]) + last) + bytes(3) for index in range(1, components + 1)
    )
    return data + scan * -(-scans // components) + b"\xff\xd9"


def _entry(big, *entry):
    """Pack (tag, type, count, value)."""
    return struct.pack("<HHQQ" if big else "<HHII", *entry)


def overlapping_tiff(*, entries, size, big=False):
    """A TIFF whose directory has many entries that name the same `size` bytes."""
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) if big else struct.pack("<2sHI", b"II", 42, 8)
    table = struct.pack("<Q" if big else "<H", entries)
    start = len(head) + len(table) + entries * (20 if big else 12) + (8 if big else 4)
    table += b"".join(_entry(big, 40_000 + index, 7, size, start) for index in range(entries))
    return head + table + bytes(8 if big else 4) + bytes(size)


def tiff_of_one_strip_many_times(count):
    """An uncompressed grey TIFF of 16 × 16 pixels, whose strip is listed `count` times."""
    fields = {256: (3, 16), 257: (3, 16), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1), 278: (3, 16)}
    rows = sorted([*((tag, kind, 1, value) for tag, (kind, value) in fields.items()), (273, 4, count, 0)])
    pixels = 8 + 2 + 12 * len(rows) + 4
    listed = pixels if count == 1 else pixels + 256
    table = b"".join(_entry(False, *row[:3], listed if row[0] == 273 else row[3]) for row in rows)
    offsets = b"" if count == 1 else struct.pack("<I", pixels) * count
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(rows)) + table + bytes(4) + bytes(256) + offsets


def jpeg2000_of_small_precincts(image, exponent, container):
    """A JPEG 2000 file whose header says that precincts have sides of 2^exponent pixels."""
    made = io.BytesIO()
    image.save(made, "JPEG2000", no_jp2=True, num_resolutions=1)
    data = made.getvalue()
    at = data.index(b"\xff\x52")
    length = int.from_bytes(data[at + 2 : at + 4], "big")
    style = data[at + 4 : at + 2 + length]
    changed = bytes([style[0] | 1]) + style[1:] + bytes([exponent * 17])
    data = data[:at] + b"\xff\x52" + struct.pack(">H", len(changed) + 2) + changed + data[at + 2 + length :]
    if not container:
        return data
    image.save(made := io.BytesIO(), "JPEG2000", num_resolutions=1)
    boxes = made.getvalue()
    boxes = boxes[: boxes.index(b"jp2c") - 4]
    return boxes + struct.pack(">I4s", 8 + len(data), b"jp2c") + data
