"""Are the answers labels, such as ``positive`` and ``negative``? Then their balance matters."""

from __future__ import annotations

from collections import Counter

# Labels are few and short, and each comes back.
MOST_LABELS = 20
LABEL_CHARACTERS = 40
ROWS_PER_LABEL = 5
# So many answers may be none: a slip in some rows does not make the others free text.
MOST_OTHERS = 0.1
MOST_DISTINCT = 10_000  # more short answers are not kept in mind


class LabelCounter:
    """Counts answers until too many of them are different to be labels."""

    def __init__(self) -> None:
        self._counts: Counter[str] | None = Counter()
        self._total = 0

    def add(self, answer: str) -> None:
        """Count one answer."""
        self._total += 1
        if self._counts is None or not answer.strip() or len(answer) > LABEL_CHARACTERS:
            return
        self._counts[answer] += 1
        if len(self._counts) > MOST_DISTINCT:
            self._counts = None

    def labels(self) -> dict[str, int]:
        """Return each label with its count, the most frequent first; empty when there are none."""
        counts = dict((self._counts or Counter[str]()).most_common(MOST_LABELS))
        labelled = sum(counts.values())
        if len(counts) < 2 or len(counts) * ROWS_PER_LABEL > labelled:
            return {}
        return counts if self._total - labelled <= MOST_OTHERS * self._total else {}
