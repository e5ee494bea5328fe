"""Curves as SVG, without libraries."""

import math
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 420, 260, 70, 45, 35, 20


def svg(curves: dict[str, dict]) -> str:
    """All curves, two in a row. The x axis is logarithmic, the y axis begins at 0."""
    rows = (len(curves) + 1) // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * _WIDTH}" height="{max(1, rows) * _HEIGHT}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for index, (name, curve) in enumerate(curves.items()):
        parts.append(f'<g transform="translate({index % 2 * _WIDTH},{index // 2 * _HEIGHT})">')
        parts += _panel(name, curve)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(name: str, curve: dict):
    points = [(x, y) for x, y in curve["points"] if x > 0]
    left, right = _LEFT, _WIDTH - _RIGHT
    top, bottom = _TOP, _HEIGHT - _BOTTOM
    yield f'<text x="{left}" y="20" font-size="13" font-weight="bold">{escape(name)}</text>'
    yield f'<path d="M{left},{top}V{bottom}H{right}" fill="none" stroke="black"/>'
    yield f'<text x="{(left + right) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(curve["x"])}</text>'
    if not points:
        return
    low, high = math.log(min(x for x, _ in points)), math.log(max(x for x, _ in points))
    step = _step(max(y for _, y in points))
    most = step * math.ceil(max(y for _, y in points) / step) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        share = (math.log(x) - low) / (high - low) if high > low else 0.5
        return left + share * (right - left), bottom - y / most * (bottom - top)

    for tick in range(round(most / step) + 1):
        y = place(points[0][0], tick * step)[1]
        yield f'<path d="M{left},{y:.1f}H{right}" stroke="#ddd"/>'
        yield f'<text x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{_short(tick * step)}</text>'
    for x, _ in points:
        yield f'<text x="{place(x, 0)[0]:.1f}" y="{bottom + 15}" text-anchor="middle">{_short(x)}</text>'
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    yield f'<polyline points="{line}" fill="none" stroke="#1f6fb2" stroke-width="2"/>'
    for point in points:
        x, y = place(*point)
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#1f6fb2"/>'
    yield f'<text x="{right}" y="20" text-anchor="end">{escape(curve["y"])}</text>'


def _step(most: float) -> float:
    """A round distance of about five lines."""
    if most <= 0:
        return 1
    power = 10 ** math.floor(math.log10(most / 5))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= most)


def _short(value: float) -> str:
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"
