"""What kind of answers some data has, and how to read one: a label, JSON, or a number at the end."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from workbench.data.labels import LabelCounter

Task = Literal["labels", "json", "number", "text"]
TASKS: tuple[Task, ...] = get_args(Task)
TASK_WORDS: dict[Task, str] = {
    "labels": "few distinct answers",
    "json": "JSON answers",
    "number": "a number at the end of the answer",
    "text": "free text",
}
# So many of the expected answers must be of a kind; the others are counted as unusable.
CLEARLY = 0.9
NO_LABEL = "(no label)"
SAME_NUMBER = 1e-6  # relative; 0.333333 is one third

_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d+)?"
_NUMBERS = re.compile(_NUMBER)
# How worked answers mark their result: GSM8K writes "#### 42", MATH writes "\boxed{42}".
_MARKED = re.compile(rf"(?:####|\\boxed\{{)\s*\$?\s*({_NUMBER})")
_ENDS_ON_NUMBER = re.compile(rf"({_NUMBER})\W{{0,3}}\Z")


def choose_task(expected: Sequence[str], learned: Sequence[str] = ()) -> Task:
    """Choose how answers are compared, from the answers that are expected.

    Args:
        expected: All answers of the data, not only those held back: twenty rows show little.
        learned: Answers of other data that the run learned from: a small file may lack some labels.
    """
    reader = LabelReader(labels_of([*learned, *expected]))
    if _share(reader.read(text) != NO_LABEL for text in expected) >= CLEARLY:
        return "labels"
    if labels_of(expected):
        return "labels"
    if _share(isinstance(read_json(text), (dict, list)) for text in expected) >= CLEARLY:
        return "json"
    if _share(ends_on_number(text) for text in expected) >= CLEARLY:
        return "number"
    return "text"


def labels_of(expected: Sequence[str]) -> list[str]:
    """Return the labels, the most frequent first; empty where the answers are none."""
    counter = LabelCounter()
    for text in expected:
        counter.add(text)
    return list(counter.labels())


def all_labels(expected: Sequence[str], learned: Sequence[str] = ()) -> list[str]:
    """Return every label there is to choose from; as ``choose_task``. Empty where the answers are none."""
    return labels_of([*learned, *expected]) or labels_of(expected)


class LabelReader:
    """Reads labels from answers; case, outer spaces and punctuation make no difference.

    Args:
        labels: All there are. Where two of them would look alike, answers must match exactly.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        folded = {_fold(label): label for label in labels}
        self._exact = len(folded) < len(labels)
        self._labels: Mapping[str, str] = {x: x for x in labels} if self._exact else folded
        longest_first = sorted(map(re.escape, self._labels), key=len, reverse=True)
        self._inside = re.compile(rf"(?<!\w)(?:{'|'.join(longest_first) or '(?!)'})(?!\w)")

    def read(self, answer: str) -> str:
        """Return the label an answer is, or ``NO_LABEL``."""
        return self._labels.get(self._key(answer), NO_LABEL)

    def find(self, answer: str) -> str:
        """Return the one label that stands somewhere in an answer, or ``NO_LABEL``."""
        text = answer if self._exact else answer.casefold()
        found = {self._labels[word] for word in self._inside.findall(text)}
        return found.pop() if len(found) == 1 else NO_LABEL

    def _key(self, answer: str) -> str:
        return answer.strip() if self._exact else _fold(answer)


def read_json(answer: str) -> Any:
    """Return what an answer says in JSON; ``None`` when it is none, as ``null`` alone is no answer.

    JSON has one kind of number, so 1.0 is 1.
    """
    try:
        return json.loads(answer, parse_constant=_refuse, parse_float=_number)
    except (ValueError, RecursionError):
        return None


def json_text(value: Any) -> str:
    """Write a value so that equal ones, and only those, look alike: the order of keys does not count, that of lists does."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def json_fields(value: Any) -> Counter[tuple[str, str]]:
    """Return the fields of a value with what they hold, each as often as it stands there.

    ``{"a": 1, "b": [2, 2]}`` has ``a`` = 1 once and ``b[]`` = 2 twice; the order of a list does not count.
    """
    return Counter(_leaves(value, ""))


def final_number(answer: str) -> float | None:
    """Return the number an answer comes to: the one it marks as its result, else the last one."""
    found = _MARKED.findall(answer) or [text for text in _NUMBERS.findall(answer) if text]
    number = float(found[-1].replace(",", "")) if found else math.nan
    return number if math.isfinite(number) else None


def ends_on_number(answer: str) -> bool:
    """Say whether a number is the last thing an answer says, or marked as its result."""
    return bool(_MARKED.search(answer) or _ENDS_ON_NUMBER.search(answer))


def same_number(expected: float, found: float | None) -> bool:
    """Say whether two numbers are the same but for rounding."""
    return found is not None and math.isclose(expected, found, rel_tol=SAME_NUMBER)


def plain(text: str) -> str:
    """Return a text with single spaces, as it is compared."""
    return " ".join(text.split())


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _leaves(inner, f"{path}[]")
    else:
        yield path, json_text(value)


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def _fold(text: str) -> str:
    folded = plain(text.casefold())
    marks = {c for c in folded if unicodedata.category(c).startswith("P") or c in " `"}
    return folded.strip("".join(marks)) or folded


def _share(facts: Iterator[bool]) -> float:
    known = list(facts)
    return sum(known) / len(known) if known else 0.0
