"""What was measured: samples, figures, the table that is printed and the file that is written."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_HEAD = ("figure", "median", "p95", "unit", "floor", "floor p95", "ratio", "limit", "ok")


def p95(samples: Sequence[float]) -> float:
    """The 95th percentile, interpolated between samples; of one sample that sample."""
    return statistics.quantiles(samples, n=20, method="inclusive")[-1] if len(samples) > 1 else samples[0]


@dataclass(frozen=True, slots=True)
class Figure:
    """One row.

    Attributes:
        samples: what was measured, in `unit`; the figure's value is their median.
        floor: the same work by conmon and runc alone, in the same unit; empty: there is no floor.
        limit: holds for the ratio to the floor where there is a floor, else for the value; None: only told.
        more_is_better: the limit is then the least that is allowed.
    """

    name: str
    samples: Sequence[float]
    unit: str
    floor: Sequence[float] = ()
    limit: float | None = None
    more_is_better: bool = False

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    @property
    def floor_value(self) -> float | None:
        return statistics.median(self.floor) if self.floor else None

    @property
    def ratio(self) -> float | None:
        return None if self.floor_value is None else self.value / self.floor_value

    @property
    def ok(self) -> bool:
        if self.limit is None:
            return True
        judged = self.value if self.ratio is None else self.ratio
        return judged >= self.limit if self.more_is_better else judged <= self.limit


def lines(figures: Sequence[Figure]) -> list[str]:
    """The table, a line for each figure below the head."""
    rows = [_HEAD, *map(_row, figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    pads = (str.ljust, *[str.rjust] * (len(_HEAD) - 1))
    aligned = ["  ".join(pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True)) for row in rows]
    return [aligned[0], "-" * len(aligned[0]), *aligned[1:]]


def write(figures: Sequence[Figure], path: Path) -> None:
    """Write all figures as JSON: a list of {figure, value, unit, floor, ratio, limit, ok}."""
    told = [
        {
            "figure": figure.name,
            "value": _rounded(figure.value),
            "unit": figure.unit,
            "floor": _rounded(figure.floor_value),
            "ratio": _rounded(figure.ratio),
            "limit": figure.limit,
            "ok": figure.ok,
        }
        for figure in figures
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(told, indent=1) + "\n")


def _row(figure: Figure) -> tuple[str, ...]:
    sign = "≥" if figure.more_is_better else "≤"
    times = " ×" if figure.floor else ""
    single = len(figure.samples) == 1
    return (
        figure.name,
        _number(figure.value),
        "" if single else _number(p95(figure.samples)),
        figure.unit,
        _number(figure.floor_value),
        _number(p95(figure.floor)) if len(figure.floor) > 1 else "",
        "" if figure.ratio is None else f"{figure.ratio:.2f}",
        "" if figure.limit is None else f"{sign} {figure.limit:g}{times}",
        "" if figure.limit is None else "yes" if figure.ok else "NO",
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
