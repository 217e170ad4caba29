"""Find where the data of a member of a zip archive begins."""


def data_offset(data, info):
    """Return where an entry's data begin: after its local header (APPNOTE.TXT, 4.3.7)."""
    at = info.header_offset
    return (
        at + 30 + int.from_bytes(data[at + 26 : at + 28], "little") + int.from_bytes(data[at + 28 : at + 30], "little")
    )
