"""The places of tumours: sites of primaries and levels of neck nodes, in canonical coordinates."""

from __future__ import annotations

from training.phantom.shapes import Point

SIDES = (-1.0, 1.0)
"""Right and left, as the sign of the canonical x."""

SITES: dict[str, tuple[Point, Point]] = {
    "tonsil": ((19, -43, -57), (0.85, 1.0, 1.25)),
    "base of tongue": ((7, -53, -72), (1.2, 0.95, 0.95)),
    "oral cavity": ((15, -84, -66), (0.9, 1.35, 0.8)),
    "larynx": ((7, -52, -108), (0.9, 1.1, 1.1)),
    "hypopharynx": ((15, -40, -94), (0.9, 0.9, 1.35)),
    "nasopharynx": ((10, -40, -22), (1.2, 0.9, 1.0)),
}
"""For each site, the canonical centre (x, y, z) on the left side in mm, and the ratios of the
semi-axes."""

LEVELS: dict[str, tuple[Point, Point, float]] = {
    "II": ((41, -24, -56), (3, 5, 10), 0.52),
    "III": ((39, -28, -92), (3, 4, 9), 0.28),
    "IV": ((34, -27, -128), (4, 4, 9), 0.11),
    "V": ((48, 14, -92), (3, 6, 15), 0.09),
}
"""For each level, the canonical centre (x, y, z) on the left side in mm, the standard deviation of
the position in mm, and the share of the nodes. Phantoms have no nodes at levels I and VI."""
