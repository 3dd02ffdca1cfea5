"""Color profiles, built from the numbers that define them (ICC.1:2010)."""

import struct
from collections.abc import Sequence

import numpy as np

#: Primaries, as x and y of red, green and blue; white is D65, except for ProPhoto, where it is D50.
DISPLAY_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
ADOBE_RGB = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
PROPHOTO = (0.734699, 0.265301, 0.159597, 0.840403, 0.036598, 0.000105)
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
_D50_XYZ = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array(((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)))


def rgb_profile(
    primaries: Sequence[float], gamma: float | None = None, white: tuple[float, float] = D65, name: str = "test"
) -> bytes:
    """A display profile with these primaries and this gamma, or the curve of sRGB."""
    xyz = np.array([_xyz(*primaries[at : at + 2]) for at in (0, 2, 4)]).T
    white_xyz = _xyz(*white)
    matrix = xyz * np.linalg.solve(xyz, white_xyz)
    scale = np.diag((_BRADFORD @ _D50_XYZ) / (_BRADFORD @ white_xyz))
    adapted = np.linalg.inv(_BRADFORD) @ scale @ _BRADFORD @ matrix
    curve = _curve(gamma)
    tags = {b"rXYZ": _xyz_tag(adapted[:, 0]), b"gXYZ": _xyz_tag(adapted[:, 1]), b"bXYZ": _xyz_tag(adapted[:, 2])}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}, name)


def grey_profile(gamma: float) -> bytes:
    """A grey profile with this gamma."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve(gamma)}, "test grey")


def cmyk_profile() -> bytes:
    """A press whose inks are pale: it prints 100 % of each ink as 50 % of its color."""
    corners = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    lab = bytes(value for c, m, y, k in corners for value in _pale_lab(c, m, y, k))
    line = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if at % 4 == 0 else 0 for at in range(9)))
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + line * 4 + lab + line * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": lut, b"A2B1": lut}, "test press")


def _pale_lab(c: int, m: int, y: int, k: int) -> tuple[int, int, int]:
    lightness = round(255 * (1 - 0.5 * k) * (1 - 0.1 * (c + m + y)))
    return lightness, 128 + 20 * (m - c), 128 + 20 * (y - (c + m) // 2)


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes], name: str) -> bytes:
    text = name.encode() + b"\0"
    tags = tags | {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(text)) + text + bytes(78),
        b"wtpt": _xyz_tag(_D50_XYZ),
        b"cprt": b"text" + bytes(4) + b"none\0",
    }
    table, data, at = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        padded = content + bytes(-len(content) % 4)
        table += tag + struct.pack(">II", at + len(data), len(content))
        data += padded
    head = bytes(4) + struct.pack(">I", 0x02400000) + kind + space + connection + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(value * 65536) for value in _D50_XYZ)) + bytes(48)
    size = 4 + len(head) + 4 + len(table) + len(data)
    return struct.pack(">I", size) + head + struct.pack(">I", len(tags)) + table + data


def _curve(gamma: float | None) -> bytes:
    steps = np.linspace(0, 1, 1024)
    linear = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    values = linear if gamma is None else steps**gamma
    return b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *np.rint(values * 65535).astype(int))


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array((x / y, 1.0, (1 - x - y) / y))


def _xyz_tag(values: Sequence[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(float(value) * 65536) for value in values))
