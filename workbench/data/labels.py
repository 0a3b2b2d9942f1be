"""Are the answers labels, such as ``positive`` and ``negative``? Then their balance matters."""

from __future__ import annotations

from collections import Counter

# Labels are few and short, and each comes back.
MOST_LABELS = 20
LABEL_CHARACTERS = 40
ROWS_PER_LABEL = 5


class LabelCounter:
    """Counts answers until they are too many or too long to be labels."""

    def __init__(self) -> None:
        self._counts: Counter[str] | None = Counter()
        self._total = 0

    def add(self, answer: str) -> None:
        """Count one answer."""
        self._total += 1
        if self._counts is None:
            return
        self._counts[answer] += 1
        if len(self._counts) > MOST_LABELS or len(answer) > LABEL_CHARACTERS:
            self._counts = None

    def labels(self) -> dict[str, int]:
        """Return each label with its count, the most frequent first; empty when there are none."""
        counts = self._counts or Counter()
        if len(counts) < 2 or len(counts) * ROWS_PER_LABEL > self._total:
            return {}
        return dict(counts.most_common())
