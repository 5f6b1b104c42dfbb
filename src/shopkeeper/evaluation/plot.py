"""Pictures of results as SVG text: the leaderboard as bars with intervals, and curves per epoch.

Plain XML without scripts or outside fonts, readable on white and on dark (the colours follow the
reader's setting); every class starts with `sk-`, so that a page may hold several.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from shopkeeper.errors import InputError

WORDS = {
    "en": {
        "bars": "{metric}, with 95% intervals over {users} users",
        "floor": "floor",
        "model": "model",
        "epoch": "epoch",
        "best": "best epoch",
        "curves": "On validation, after each epoch (○ best)",
        "empty": "no epochs to show",
    },
    "zh": {
        "bars": "{metric}，{users} 位用户，95% 置信区间",
        "floor": "基线",
        "model": "模型",
        "epoch": "轮次",
        "best": "最佳轮次",
        "curves": "每轮训练后的验证结果（○ 最佳）",
        "empty": "没有可显示的轮次",
    },
}

# one panel each; accuracy and recall_weighted are equal by definition, both are asked for by name
CURVES = ("NDCG@10", "HR@10", "accuracy", "recall_weighted", "f1_weighted", "loss")

# six hues told apart by people with colour-blindness too (Okabe and Ito), for light and for dark
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b07d00", "#4b9fd5")
DARK = ("#56b4e9", "#ff8c42", "#2fd3a0", "#e08fd0", "#f0c040", "#9ad0f5")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "10 4")

_STYLE = """
.sk-t{font:13px system-ui,-apple-system,"Noto Sans CJK SC","WenQuanYi Zen Hei",sans-serif;fill:#1f2328}
.sk-h{font-weight:600;font-size:14px}.sk-b{font-weight:600}.sk-s{font-size:11px;fill:#59636e}
.sk-g{stroke:#d1d9e0;stroke-width:1}.sk-w{stroke:#1f2328;stroke-width:1.5}
.sk-m{fill:#0072b2}.sk-f{fill:#9aa4ae}
"""
_STYLE_DARK = """
.sk-t{fill:#e6edf3}.sk-s{fill:#9aa4af}.sk-g{stroke:#3d444d}.sk-w{stroke:#e6edf3}
.sk-m{fill:#56b4e9}.sk-f{fill:#6b7680}
"""


def bars(frame: pl.DataFrame, lang: str = "en") -> str:
    """The leaderboard's primary metric: a bar a model, its interval as whiskers, floors in grey."""
    words = WORDS[lang]
    metric = frame["primary"][0]
    names = frame["model"].to_list()
    left = 24 + max(_width(name) for name in names)
    plot, row, top = 460, 30, 62
    width, height = left + plot + 84, top + row * frame.height + 34
    highest = max(frame["ci_high"].max() or 0.0, frame[metric].max() or 0.0)
    ticks = _ticks(0.0, float(highest))  # type: ignore[arg-type]
    scale = plot / ticks[-1]
    title = words["bars"].format(metric=metric, users=f"{frame['users'][0]:,}")
    parts = [_text(16, 24, title, "sk-t sk-h")]
    parts += [
        '<rect class="sk-m" x="16" y="36" width="10" height="10" rx="2"/>',
        _text(31, 45, words["model"], "sk-t sk-s"),
        f'<rect class="sk-f" x="{46 + _width(words["model"])}" y="36" width="10" height="10" rx="2"/>',
        _text(61 + _width(words["model"]), 45, words["floor"], "sk-t sk-s"),
    ]
    bottom = top + row * frame.height
    for tick in ticks:
        x = left + tick * scale
        parts.append(_line(x, top - 4, x, bottom, "sk-g"))
        parts.append(_text(x, bottom + 18, _number(tick, ticks), "sk-t sk-s", "middle"))
    for place, one in enumerate(frame.to_dicts()):
        y = top + place * row
        middle = y + row / 2
        low, high = left + max(one["ci_low"], 0.0) * scale, left + one["ci_high"] * scale
        kind = "sk-f" if one["is_floor"] else "sk-m"
        parts += [
            _text(left - 10, middle + 4.5, one["model"], "sk-t", "end"),
            f'<rect class="{kind}" x="{left:.1f}" y="{y + 6:.1f}" '
            f'width="{max(one[metric], 0.0) * scale:.1f}" height="{row - 12}" rx="2">'
            f"<title>{escape(one['model'])}: {one[metric]:.4f} "
            f"[{one['ci_low']:.4f}, {one['ci_high']:.4f}]</title></rect>",
            _line(low, middle, high, middle, "sk-w"),
            _line(low, middle - 4, low, middle + 4, "sk-w"),
            _line(high, middle - 4, high, middle + 4, "sk-w"),
            _text(left + plot + 14, middle + 4.5, f"{one[metric]:.4f}", "sk-t"),
        ]
    return _svg(width, height, title, parts)


def curves(
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
    lang: str = "en",
    metrics: Sequence[str] = CURVES,
) -> str:
    """What each epoch brought: a panel a metric, a line a model, the best epoch ringed.

    Args:
        runs: model -> its epochs as `card["curve"]` has them: `epoch` (from 1) and metrics; an epoch
            that was not validated lacks them and gets no point.
        metrics: the panels; those that no epoch has are left out.
    Raises:
        InputError: a value is not a finite number.
    """
    words = WORDS[lang]
    shown = {
        metric: {name: points for name, rows in runs.items() if (points := _points(rows, metric))}
        for metric in metrics
    }
    shown = {metric: lines for metric, lines in shown.items() if lines}
    names = list(dict.fromkeys(name for lines in shown.values() for name in lines))
    columns = min(2, max(1, len(shown)))
    wide, tall, top = 400, 216, 66
    width, height = 16 + columns * wide, top + max(1, math.ceil(len(shown) / columns)) * tall
    title = words["curves"]
    parts = [_text(16, 24, title, "sk-t sk-h")]
    if not shown:
        parts.append(_text(16, top, words["empty"], "sk-t"))
    x = 16.0
    for place, name in enumerate(names):
        parts.append(_stroke("line", place, f'x1="{x:.1f}" y1="42" x2="{x + 28:.1f}" y2="42"'))
        parts.append(_text(x + 34, 46.5, name, "sk-t"))
        x += 54 + _width(name)
    width = max(width, math.ceil(x))
    for panel, (metric, lines) in enumerate(shown.items()):
        left, above = 16 + panel % columns * wide, top + panel // columns * tall
        parts += _panel(metric, lines, names, words, left, above, wide, tall)
    return _svg(width, height, title, parts)


def _points(rows: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[int, float]]:
    found = [(int(row["epoch"]), float(row[metric])) for row in rows if metric in row]
    for epoch, value in found:
        if not math.isfinite(value):
            raise InputError(
                f"{metric} of epoch {epoch} is not a number; only finite values can be drawn"
            )
    return found


def _panel(
    metric: str,
    lines: Mapping[str, Sequence[tuple[int, float]]],
    names: Sequence[str],
    words: Mapping[str, str],
    x0: float,
    y0: float,
    wide: float,
    tall: float,
) -> list[str]:
    left, top, right, bottom = x0 + 48, y0 + 24, x0 + wide - 24, y0 + tall - 44
    every = [value for points in lines.values() for _, value in points]
    last = max(epoch for points in lines.values() for epoch, _ in points)
    ticks = _ticks(min(every), max(every), 4)
    rise = (bottom - top) / (ticks[-1] - ticks[0])
    step = (right - left) / max(last - 1, 1)
    parts = [_text(x0, y0 + 12, metric, "sk-t sk-b")]
    for tick in ticks:
        y = bottom - (tick - ticks[0]) * rise
        parts.append(_line(left, y, right, y, "sk-g"))
        parts.append(_text(left - 8, y + 4, _number(tick, ticks), "sk-t sk-s", "end"))
    for epoch in _epochs_shown(last):
        parts.append(
            _text(left + (epoch - 1) * step, bottom + 16, str(epoch), "sk-t sk-s", "middle")
        )
    parts.append(_text((left + right) / 2, bottom + 31, words["epoch"], "sk-t sk-s", "middle"))
    for name, points in lines.items():
        place = names.index(name)
        drawn = [
            (left + (epoch - 1) * step, bottom - (value - ticks[0]) * rise)
            for epoch, value in points
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        lowest = metric == "loss"
        best = min(
            range(len(points)), key=lambda row: (points[row][1] * (1 if lowest else -1), row)
        )
        epoch, value = points[best]
        told = f"<title>{escape(name)}: {words['best']} {epoch}, {value:.4f}</title>"
        ring = f'cx="{drawn[best][0]:.1f}" cy="{drawn[best][1]:.1f}" r="4.5"'
        parts.append(_stroke("polyline", place, f'points="{path}"'))
        parts.append(_stroke("circle", place, ring, told))
    return parts


def _stroke(shape: str, place: int, where: str, inner: str = "") -> str:
    """A drawn line of the `place`-th model: colour, and dashes that do without colour."""
    dash = DASHES[place % len(DASHES)] if shape != "circle" else ""
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<{shape} class="sk-l sk-c{place % len(LIGHT)}"{dashes} {where}>{inner}</{shape}>'


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    light = "".join(f".sk-c{n}{{stroke:{colour}}}" for n, colour in enumerate(LIGHT))
    dark = "".join(f".sk-c{n}{{stroke:{colour}}}" for n, colour in enumerate(DARK))
    style = (
        f"{_STYLE}.sk-l{{fill:none;stroke-width:2;stroke-linejoin:round}}{light}"
        f"@media(prefers-color-scheme:dark){{{_STYLE_DARK}{dark}}}"
    ).replace("\n", "")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
            f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{style}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _width(text: str) -> int:
    """About how many pixels a 13 px text takes; a Chinese character is two Latin ones wide."""
    return sum(14 if ord(char) > 0x2E7F else 8 for char in text)


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about `wanted` steps."""
    span = high - low
    if span <= 0:
        span = abs(high) or 1.0
        high = low + span
    rough = span / wanted
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def _number(value: float, ticks: Sequence[float]) -> str:
    step = ticks[1] - ticks[0]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:.{places + (round(step * 10**places, 6) % 1 > 0)}f}"


def _epochs_shown(epochs: int) -> list[int]:
    step = max(1, math.ceil(epochs / 12))
    return sorted({1, *range(step, epochs + 1, step)})
