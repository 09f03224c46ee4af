"""Colour profiles for tests, made by the rules of the ICC (ICC.1:2001-04)."""

import struct

D50 = (0.9642, 1.0, 0.8249)
# Columns of RGB -> XYZ at D50.
DISPLAY_P3 = ((0.5151, 0.2412, -0.0011), (0.2919, 0.6922, 0.0419), (0.1572, 0.0666, 0.7841))
SWAPPED = ((0.1431, 0.0606, 0.7141), (0.3851, 0.7169, 0.0971), (0.4361, 0.2225, 0.0139))


def fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def profile(space: bytes, gamma: float, columns=(), name: bytes = b"ours") -> bytes:
    """A profile of displays: RGB by three columns and a gamma, or GRAY by a gamma."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {b"kTRC": curve} if space == b"GRAY" else {}
    for letter, column in zip((b"r", b"g", b"b"), columns, strict=False):
        tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*column)
        tags[letter + b"TRC"] = curve
    return assembled(tags, b"mntr" + space + b"XYZ ", name)


def assembled(tags: dict[bytes, bytes], kind: bytes, name: bytes = b"ours") -> bytes:
    """A profile of these tags; `kind` is its device, its space and the one it leads to."""
    name += b"\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"cprt": b"text" + bytes(4) + name,
        b"wtpt": b"XYZ " + bytes(4) + fixed(*D50),
        **tags,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content
    head = struct.pack(">I4sI", start + len(body), bytes(4), 0x02400000) + kind
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp"
    head += bytes(68 - len(head)) + fixed(*D50)
    return head + bytes(128 - len(head)) + table + body
