"""What judges said of the answers, kept beside them: one row a line, so that a judging that stopped goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workbench.evaluation.intervals import Figure, mean, share
from workbench.evaluation.request import TUNED, EvaluationRequest
from workbench.files import write_text_atomically
from workbench.runs.events import end_torn_line
from workbench.runs.store import Run

if TYPE_CHECKING:
    from workbench.evaluation.result import RowResult

Choice = Literal["base", "tuned", "tie"]
CHOICES = ("base", "tuned", "tie", None)
POINTS = {"tuned": 1.0, "tie": 0.0, "base": -1.0}


@dataclass(frozen=True)
class Judgement:
    """What a judge said of one row.

    Attributes:
        index: The row's.
        pair: A hash of the texts judged; other answers are judged anew.
        base_first: Whom it preferred with the base model's answer first; ``None`` where it did not say.
        tuned_first: Likewise in the other order.
        asked: It was asked; not where both answers are the same.
    """

    index: int
    pair: str
    base_first: Choice | None
    tuned_first: Choice | None
    asked: bool = True

    @property
    def verdict(self) -> Choice | None:
        """Whom it prefers in both orders; a tie where the order decided."""
        if self.base_first is None or self.tuned_first is None:
            return None
        return self.base_first if self.base_first == self.tuned_first else "tie"

    @property
    def flipped(self) -> bool:
        """The order decided: it preferred the first place, or the second, both times."""
        return {self.base_first, self.tuned_first} == {"base", "tuned"}


@dataclass(frozen=True)
class Judged:
    """What one judge said of all rows.

    Attributes:
        url: Where it was asked.
        model: Which model it is.
        wins: Rows in which it prefers the tuned model's answer.
        ties: Rows in which neither, the order decided, or the answers are the same.
        losses: Rows in which it prefers the base model's.
        flipped: Ties in which the order decided.
        unclear: Rows of which it did not say; in no figure.
        missing: Rows it has not seen.
        win_share: Wins among wins, ties and losses.
        ahead: Wins minus losses as a share of these, from -1 to 1.
    """

    url: str
    model: str
    wins: int
    ties: int
    losses: int
    flipped: int
    unclear: int
    missing: int
    win_share: Figure
    ahead: Figure


def pair_key(row: RowResult) -> str:
    """Return a hash of everything a judge is shown of a row."""
    assert row.base
    assert row.tuned
    texts = [row.asked, row.expected, row.base.answer, row.tuned.answer]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]


def judgements_path(run: Run, request: EvaluationRequest, url: str, model: str) -> Path:
    """Return where the words of one judge on the tuned model of a request are kept."""
    digest = hashlib.sha256(json.dumps([url, model]).encode()).hexdigest()[:8]
    return request.directory(run) / f"judged-{_stem(run, request)}-{digest}.jsonl"


def append_judgement(path: Path, url: str, model: str, said: Judgement) -> None:
    """Append what a judge said of a row; which judge it is stands in the first line, written with its first word."""
    line = json.dumps(asdict(said)) + "\n"
    if not path.exists():
        write_text_atomically(path, json.dumps({"url": url, "model": model}) + "\n" + line)
        return
    end_torn_line(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(line)


def read_judgements(path: Path) -> list[Judgement]:
    """Read a file; a missing one is empty, a torn line is passed over. The last word on a row counts."""
    found: dict[int, Judgement] = {}
    for line in path.read_bytes().split(b"\n")[1:] if path.exists() else []:
        try:
            one = Judgement(**json.loads(line))
        except (ValueError, TypeError):
            continue  # asked again
        if {one.base_first, one.tuned_first} <= set(CHOICES):
            found[one.index] = one
    return list(found.values())


def judgement_paths(run: Run, request: EvaluationRequest) -> list[Path]:
    """Return the files of all judges that said something of a request's tuned model; none where only one is asked."""
    if not (request.base and request.tuned):
        return []
    return sorted(request.directory(run).glob(f"judged-{_stem(run, request)}-*.jsonl"))


def read_judged(path: Path, rows: Sequence[RowResult]) -> Judged:
    """Count what a judge said of rows as they are now."""
    judge = json.loads(path.read_bytes().split(b"\n")[0])
    known = {(one.index, one.pair): one for one in read_judgements(path)}
    said = [one for row in rows if (one := known.get((row.index, pair_key(row))))]
    verdicts = [one.verdict for one in said if one.verdict]
    return Judged(
        url=judge["url"],
        model=judge["model"],
        wins=verdicts.count("tuned"),
        ties=verdicts.count("tie"),
        losses=verdicts.count("base"),
        flipped=sum(one.flipped for one in said),
        unclear=len(said) - len(verdicts),
        missing=len(rows) - len(said),
        win_share=share([verdict == "tuned" for verdict in verdicts]),
        ahead=mean([POINTS[verdict] for verdict in verdicts]),
    )


def _stem(run: Run, request: EvaluationRequest) -> str:
    return request.answer_paths(run)[TUNED].stem
