"""The result of a comparison in one sentence: which model to take, and what that gains and costs."""

from __future__ import annotations

from tfcompress.evaluation.comparison import Comparison
from tfcompress.evaluation.intervals import mark


def headline(report: Comparison) -> str | None:
    """Return the candidate that the sentence is about; `None` if there is none beside the baseline.

    It is the one of the smallest file among those that aren't worse than the baseline, as far as the samples can show;
    if all are worse, the one that loses least.
    """
    others = [candidate for candidate in report.candidates if candidate.name != report.baseline]
    good = [one for one in others if "worse" not in mark_of(report, one.name).values()]
    if good:
        return min(good, key=lambda one: one.size.file_bytes).name
    return max(others, key=lambda one: _gain(report, one.name)).name if others else None


def mark_of(report: Comparison, name: str) -> dict[str, str]:
    """Return of each output's difference whether it is "better", "worse", or "grey": it may be chance."""
    intervals, scores = report.intervals(name), report[name].metrics.scores
    return {
        output: mark(intervals.get(output, (difference, difference)), scores[output][0] == "accuracy")
        for output, difference in report.differences(name).items()
    }


def verdict(report: Comparison) -> str:
    """Return the sentence, such as "int8.tflite: 4.2x smaller, 2.1x faster, accuracy -0.1 ± 0.3 points"."""
    name = headline(report)
    if name is None:
        return ""
    parts = [_times(report.shrink(name), "smaller", "larger", "as large")]
    speedup = report.speedup(name)
    if speedup is not None:
        low, high = report.speedup_interval(name) or (speedup, speedup)
        parts.append("as fast" if low <= 1 <= high else _times(speedup, "faster", "slower", "as fast"))
    marks = mark_of(report, name)
    parts += [_quality(report, name, output) for output in marks]
    text = f"{name}: {', '.join(parts)}, compared with {report.baseline}"
    if marks and set(marks.values()) == {"grey"} and report.intervals(name):
        samples = report[name].metrics.samples
        text += f"; the {samples:,} samples show no difference in quality"
    return text + "."


def _gain(report: Comparison, name: str) -> float:
    scores = report[name].metrics.scores
    return sum(
        difference if scores[output][0] == "accuracy" else -difference
        for output, difference in report.differences(name).items()
    )


def _times(factor: float, more: str, less: str, same: str) -> str:
    larger = max(factor, 1 / max(factor, 1e-9))
    times = f"{larger:.1f}x" if larger < 100 else f"{larger:,.0f}x"
    return same if times == "1.0x" else f"{times} {more if factor > 1 else less}"


def _quality(report: Comparison, name: str, output: str) -> str:
    kind, _ = report[name].metrics.scores[output]
    difference = report.differences(name)[output]
    low, high = report.intervals(name).get(output, (difference, difference))
    half = (high - low) / 2
    if kind == "accuracy":
        within = f" \u00b1 {half:.1f}" if half else ""
        return f"{output} accuracy {difference:+.1f}{within} points".strip()
    within = f" \u00b1 {half:.2g}" if half else ""
    return f"{output} MSE {difference:+.2g}{within}".strip()
