"""A table as one SVG: lines over time or numbers, bars over words. No scripts, no outside fonts.

The first column stands along the axis, every numeric column is a line (or a group of bars); a second
column of words names the lines, as in (day, channel, users). Colours follow the reader's setting.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

import polars as pl

from shopkeeper.errors import InputError

LINES = 6  # told apart by colour and dash; more are left out, and said
BARS = 30
# hues told apart by people with colour-blindness too (Okabe and Ito), for light and for dark
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b07d00", "#4b9fd5")
_DARK = ("#56b4e9", "#ff8c42", "#2fd3a0", "#e08fd0", "#f0c040", "#9ad0f5")
_DASHES = ("none", "6 3", "2 3", "8 3 2 3", "1 2", "10 4")
_FONT = 'font:12px system-ui,-apple-system,"Noto Sans CJK SC","WenQuanYi Zen Hei",sans-serif'
_STYLE = (
    f".ch-t{{{_FONT};fill:#1f2328}}.ch-s{{{_FONT};fill:#59636e}}.ch-g{{stroke:#d1d9e0}}.ch-l{{fill:none;stroke-width:2}}"
    + "".join(f".ch-{n}{{stroke:{c};stroke-dasharray:{d}}}.ch-f{n}{{fill:{c}}}" for n, (c, d) in enumerate(zip(_LIGHT, _DASHES, strict=True)))
    + "@media(prefers-color-scheme:dark){.ch-t{fill:#e6edf3}.ch-s{fill:#9aa4af}.ch-g{stroke:#3d444d}"
    + "".join(f".ch-{n}{{stroke:{c}}}.ch-f{n}{{fill:{c}}}" for n, c in enumerate(_DARK))
    + "}"
)  # fmt: skip
_LEFT, _TOP, _WIDE, _TALL = 70, 58, 640, 260

Series = Mapping[str, Sequence[tuple[int, float]]]  # name -> (place along the axis, value)


def chart(frame: pl.DataFrame, title: str = "", more: str = "{count} more not drawn") -> str:
    """The table as SVG text. InputError: it has no axis or no numbers.

    Args:
        more: how it is said that lines or rows are left out.
    """
    places, series = _series(frame)
    values = [value for points in series.values() for _, value in points]
    if not values:
        raise InputError(
            "nothing to draw: no column of numbers beside the first column", where="chart",
            next="ask for a column of days or words first, then one or more of numbers",
        )  # fmt: skip
    kind = frame.dtypes[0]
    lines = kind.is_temporal() or kind.is_numeric()
    out = 0
    if len(series) > LINES:
        out = len(series) - LINES
        series = dict(list(series.items())[:LINES])
    if not lines and len(places) > BARS:
        out = out or len(places) - BARS
        places = places[:BARS]
    ticks = _ticks(min(0.0, *values), max(0.0, *values))
    draw = _draw_lines if lines else _draw_bars
    name = title or f"{', '.join(series)} by {frame.columns[0]}"
    parts, wide, tall = draw(places, series, ticks)
    legend, far = _legend(series, more.format(count=out) if out else "")
    return _svg(name, [*legend, *parts], max(wide, 16 + _width(name), far), tall)


def _series(frame: pl.DataFrame) -> tuple[list[str], Series]:
    """Labels along the axis, and the lines."""
    if not frame.width:
        return [], {}
    axis, *rest = frame.columns
    numbers = [name for name in rest if frame[name].dtype.is_numeric()]
    words = [name for name in rest if frame[name].dtype == pl.String]
    distinct = frame[axis].unique(maintain_order=True)
    place = {value: n for n, value in enumerate(distinct)}
    found: dict[str, list[tuple[int, float]]] = {}
    for row in frame.iter_rows(named=True):
        for name in numbers:
            if row[name] is None or not math.isfinite(row[name]):
                continue
            line = name if not words else str(row[words[0]])
            if words and len(numbers) > 1:
                line = f"{line}: {name}"
            found.setdefault(line, []).append((place[row[axis]], float(row[name])))
    return [_label(value) for value in distinct], found


def _label(value: object) -> str:
    text = str(value).removesuffix("+00:00").removesuffix(" 00:00:00")
    return text if len(text) <= 28 else f"{text[:27]}…"


def _legend(series: Series, said: str) -> tuple[list[str], int]:
    """Names of the lines, what is `said` beside them, and how far to the right it goes."""
    parts, x = [], 16.0
    for number, name in enumerate(series):
        parts.append(
            f'<rect class="ch-f{number}" x="{x:.0f}" y="35" width="10" height="10" rx="2"/>'
        )
        parts.append(_text(x + 15, 44, name, "ch-t"))
        x += 30 + _width(name)
    if said:
        parts.append(_text(x, 44, f"({said})", "ch-s"))
        x += _width(f"({said})")
    return parts, int(x) + 16


def _draw_lines(
    places: Sequence[str], series: Series, ticks: Sequence[float]
) -> tuple[list[str], int, int]:
    low, high = ticks[0], ticks[-1]
    across, up = _WIDE / max(len(places) - 1, 1), _TALL / (high - low)
    parts = []
    for tick in ticks:
        y = _TOP + _TALL - (tick - low) * up
        parts.append(
            f'<line class="ch-g" x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _WIDE}" y2="{y:.1f}"/>'
        )
        parts.append(_text(_LEFT - 8, y + 4, _number(tick), "ch-s", "end"))
    step = max(1, math.ceil(len(places) / 8))
    for place in range(0, len(places), step):
        parts.append(
            _text(_LEFT + place * across, _TOP + _TALL + 18, places[place], "ch-s", "middle")
        )
    for number, (name, points) in enumerate(series.items()):
        drawn = [
            (_LEFT + place * across, _TOP + _TALL - (value - low) * up) for place, value in points
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(
            f'<polyline class="ch-l ch-{number}" points="{path}"><title>{escape(name)}</title></polyline>'
        )
        if len(drawn) == 1:
            parts.append(
                f'<circle class="ch-f{number}" cx="{drawn[0][0]:.1f}" cy="{drawn[0][1]:.1f}" r="3"/>'
            )
    return parts, 2 * _LEFT + _WIDE, _TOP + _TALL + 30  # fmt: skip


def _draw_bars(
    places: Sequence[str], series: Series, ticks: Sequence[float]
) -> tuple[list[str], int, int]:
    low, high = ticks[0], ticks[-1]
    left = 24 + max(map(_width, places))
    across, row = _WIDE / (high - low), 8 + 14 * len(series)
    parts = []
    for tick in ticks:
        x = left + (tick - low) * across
        parts.append(
            f'<line class="ch-g" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{_TOP + row * len(places)}"/>'
        )
        parts.append(_text(x, _TOP + row * len(places) + 16, _number(tick), "ch-s", "middle"))
    for place, label in enumerate(places):
        parts.append(_text(left - 8, _TOP + place * row + row / 2 + 4, label, "ch-t", "end"))
    for number, (name, points) in enumerate(series.items()):
        for place, value in points:
            if place < len(places):
                x, y = left + (min(value, 0.0) - low) * across, _TOP + place * row + 4 + 14 * number
                told = f"<title>{escape(places[place])}, {escape(name)}: {_number(value)}</title>"
                parts.append(
                    f'<rect class="ch-f{number}" x="{x:.1f}" y="{y:.1f}" width="{abs(value) * across:.1f}" height="12" rx="2">{told}</rect>'
                )
    return parts, left + _WIDE + 60, _TOP + row * len(places) + 28  # fmt: skip


def _svg(title: str, parts: Sequence[str], wide: int, tall: int) -> str:
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {tall}" width="{wide}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{_STYLE}</style>",
            _text(16, 22, title, "ch-t"),
            *parts,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _width(text: str) -> int:
    """About how many pixels a 12 px text takes; a Chinese character is two Latin ones wide."""
    return sum(13 if ord(char) > 0x2E7F else 7 for char in text)


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers from at or below `low` to at or above `high`."""
    span = (high - low) or 1.0
    size = 10.0 ** math.floor(math.log10(span / 5))
    step = next(m * size for m in (1, 2, 2.5, 5, 10) if m * size >= span / 5 * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
