"""Android archives for tests: made by Python's zipfile, byte by byte, and libraries of any layout."""

import io
import struct
import zipfile

from mbn_deploy.check_apk.check import check_apk

BINARY_MANIFEST = b"\x03\x00\x08\x00" + bytes(60)
TEXT_MANIFEST = b'<manifest package="org.example"/>'
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def aligned(info, place, alignment):
    """Fill the extra field so that data after a header at `place` begin at a multiple of `alignment`."""
    begin = place + 30 + len(info.filename.encode())
    padding = -begin % alignment
    if 0 < padding < 4:
        padding += alignment
    if padding:
        info.extra = struct.pack("<2H", 0xD935, padding - 4) + bytes(padding - 4)


def archive(files, packed=(), alignment=16384):
    """Return the bytes of a zip archive of {name: bytes}; names in `packed` are compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = DEFLATED if name in packed else STORED
            if alignment and info.compress_type == STORED:
                aligned(info, buffer.tell(), alignment)
            made.writestr(info, data)
    return buffer.getvalue()


def apk(files, **options):
    return archive({"AndroidManifest.xml": BINARY_MANIFEST, **files}, **options)


def many(count):
    """Return an APK of `count` files of one byte."""
    local, central, names = bytearray(), bytearray(), ["AndroidManifest.xml", *(f"res/{i:06}" for i in range(1, count))]
    for name in names:
        fields = struct.pack("<5H3IH", 20, 0, 0, 0, 33, 0x4B0BBE37, 1, 1, len(name)) + bytes(2)
        central += b"PK\x01\x02\x14\x00" + fields + bytes(10)
        central += struct.pack("<I", len(local)) + name.encode()
        local += b"PK\x03\x04" + fields + name.encode() + b"\x03"
    size, begin = len(central), len(local)
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, begin)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, begin + size, 1)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return bytes(local + central) + record + locator + end


def elf(alignment=16384, *, machine=183, bits=64, order="<", apart=0, loads=2, kind=3):
    """Return a shared object of headers only: LOAD segments `apart` bytes off their place in memory."""
    head = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    width, size = (56, 64) if bits == 64 else (32, 52)
    form = "HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"
    head += struct.pack(order + form, kind, machine, 1, 0, size, 0, 0, size, width, loads + 1, 0, 0, 0)
    segments = [(6, 64, 64, 0, 4)]  # PT_PHDR counts for nothing
    segments += [(1, i * alignment, i * alignment + apart * i, 0, alignment) for i in range(loads)]
    for number, offset, address, length, align in segments:
        if bits == 64:
            head += struct.pack(order + "2I6Q", number, 4, offset, address, address, length, length, align)
        else:
            head += struct.pack(order + "8I", number, offset, address, address, length, length, 4, align)
    return head


def field(number, value):
    """Return a protobuf field: bytes, or a small number."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    return bytes([number << 3 | 2, len(value)]) + value


def bundle_config(globs=(), *, alignment=None, packs=0):
    """Return a BundleConfig.pb."""
    native = field(1, 1) + (b"" if alignment is None else field(2, alignment))
    compression = b"".join(field(1, glob.encode()) for glob in globs) + (field(2, packs) if packs else b"")
    return field(1, field(2, b"1.18.1")) + field(2, field(2, native)) + field(3, compression)


def check(folder, files, *, bundle=None, make=apk, name="app.apk", **options):
    """Check an archive of these files and return the report."""
    path = folder / name
    path.write_bytes(make(files, **options))
    return check_apk(path, bundle)


def problems(report):
    return [f"{finding.entry}: {finding.text}" for finding in report.problems]


def the_problem(report):
    """Return the only finding, which must say what to do."""
    (finding,) = report.problems
    assert finding.advice
    assert not report.passed
    return f"{finding.entry}: {finding.text}"
