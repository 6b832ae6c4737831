"""Drawings as SVG: lines, areas, steps and dots that are as wide as the page, at any width.

The plot itself is stretched; strokes are not (``non-scaling-stroke``), and the labels are HTML beside
it, so that text has the same size on a phone. What a pointer shows is kept with the drawing as JSON,
in an attribute that a script of the page reads; without the script the drawing is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby

import msgspec

from fanout.charts.axes import Axis

WIDTH, HEIGHT = 1000, 300

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One value for each place on the x axis; None leaves a gap. ``base`` is what an area stands on."""

    name: str
    hue: str  # a class of the page's style: blue, green, red, amber, violet, teal, grey
    values: Values
    texts: Sequence[str]  # as a pointer shows them
    is_area: bool = False
    is_dashed: bool = False
    base: Values | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """Single points of one kind, each with the text that a pointer shows."""

    name: str
    hue: str
    points: Sequence[tuple[float, float]]
    texts: Sequence[str]
    is_square: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A drawing on one pair of axes. ``labels`` say what a place on the x axis is called."""

    x: Axis
    y: Axis
    places: Sequence[float] = ()
    labels: Sequence[str] = ()
    lines: Sequence[Line] = ()
    dots: Sequence[Dots] = field(default_factory=tuple)

    def html(self, title: str, caption: str) -> str:
        """The plot with its legend and its axes. ``title`` and ``caption`` are for screen readers."""
        parts = [_grid(self.x, self.y)]
        xs = [round(self.x.at(place) * WIDTH, 1) for place in self.places]
        for line in self.lines:
            parts += self._drawn(line, xs)
        for dots in self.dots:
            shape = "square" if dots.is_square else "round"
            path = "".join(f"M{self._x(x):g} {self._y(y):g}h0" for x, y in dots.points)
            parts.append(f'<path class="dot {shape} {dots.hue}" d="{path}"/>')
        ys = "".join(
            f'<span style="bottom:{share:.1%}">{escape(text)}</span>' for share, text in self.y.places()
        )
        ticks = "".join(
            f'<span style="left:{share:.1%}">{escape(text)}</span>' for share, text in self.x.places()
        )
        named = [(line.name, line.hue) for line in self.lines] + [(dots.name, dots.hue) for dots in self.dots]
        return (
            f'{legend(named)}<div class="plot"><div class="ys" aria-hidden="true">{ys}</div>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" tabindex="0" '
            f'aria-label="{escape(f"{title}. {caption}")}" data-hover="{escape(self._hover(xs))}">'
            f"{''.join(parts)}</svg>"
            f'<div class="xs" aria-hidden="true">{ticks}</div></div>'
        )

    def _drawn(self, line: Line, xs: Sequence[float]) -> Iterable[str]:
        tops = [None if value is None else self._y(value) for value in line.values]
        if line.is_area:
            base = [self._y(0.0 if value is None else value) for value in line.base or [0.0] * len(tops)]
            yield f'<path class="area {line.hue}" d="{_area(xs, tops, base)}"/>'
        yield f'<path class="line {line.hue}{" dashed" if line.is_dashed else ""}" d="{_path(xs, tops)}"/>'

    def _x(self, value: float) -> float:
        return round(self.x.at(value) * WIDTH, 1)

    def _y(self, value: float) -> float:
        return round((1 - self.y.at(value)) * HEIGHT, 1)

    def _hover(self, xs: Sequence[float]) -> str:
        if self.dots:
            points = [
                (round(self._x(x) / WIDTH, 3), round(self._y(y) / HEIGHT, 3), text, dots.hue)
                for dots in self.dots
                for (x, y), text in zip(dots.points, dots.texts, strict=True)
            ]
            return msgspec.json.encode({"points": points}).decode()
        data = {
            "x": [round(x / WIDTH, 4) for x in xs],
            "labels": self.labels,
            "lines": [(line.name, line.hue, line.texts) for line in self.lines],
        }
        return msgspec.json.encode(data).decode()


def legend(named: Sequence[tuple[str, str]]) -> str:
    """Names with their colours; nothing for a single one, as the title names it."""
    if len(named) < 2:
        return ""
    return (
        f'<p class="legend">{"".join(f"<span class={hue}>{escape(name)}</span>" for name, hue in named)}</p>'
    )


def _grid(x: Axis, y: Axis) -> str:
    lines = "".join(f"M0 {round((1 - share) * HEIGHT, 1):g}H{WIDTH}" for share, _ in y.places())
    ticks = "".join(f"M{round(share * WIDTH, 1):g} {HEIGHT}v-4" for share, _ in x.places())
    return f'<path class="grid" d="{lines}{ticks}"/>'


def _runs(values: Values) -> Iterable[tuple[int, int]]:
    """From and to of each stretch without a gap."""
    for is_gap, group in groupby(range(len(values)), key=lambda i: values[i] is None):
        held = list(group)
        if not is_gap:
            yield held[0], held[-1] + 1


def _path(xs: Sequence[float], ys: Values) -> str:
    parts = []
    for begin, end in _runs(ys):
        points = [f"{xs[i]:g} {ys[i]:g}" for i in range(begin, end)]
        parts.append(f"M{points[0]}h0" if len(points) == 1 else f"M{'L'.join(points)}")
    return "".join(parts)


def _area(xs: Sequence[float], tops: Values, base: Sequence[float]) -> str:
    parts = []
    for begin, end in _runs(tops):
        if end - begin > 1:
            there = [f"{xs[i]:g} {tops[i]:g}" for i in range(begin, end)]
            back = (
                [f"{xs[end - 1]:g} {base[end - 1]:g}", f"{xs[begin]:g} {base[begin]:g}"]
                if len(set(base[begin:end])) == 1
                else [f"{xs[i]:g} {base[i]:g}" for i in reversed(range(begin, end))]
            )
            parts.append(f"M{'L'.join([*there, *back])}Z")
    return "".join(parts)
