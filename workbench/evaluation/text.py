"""How alike texts are, in any script: chrF and BLEU by sacrebleu, ROUGE-L by rouge-score; and repetition."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from workbench.evaluation.intervals import NOTHING, Figure, resampled_sums

GRAM = 4
_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Scripts written without spaces; each of their characters counts as a word.
_UNSPACED = rf"{_HAN}\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_CHINESE = re.compile(rf"[{_HAN}]")
_OTHER_UNSPACED = re.compile(r"[\u3040-\u30ff\uac00-\ud7af\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
NOTICEABLE = 0.1  # of all letters


def words(text: str) -> list[str]:
    """Return the words of a text in lower case; of scripts without spaces, its characters."""
    return _WORDS.findall(text.lower())


def bleu_tokenizer(texts: Sequence[str]) -> str:
    """Return how sacrebleu should cut texts: ``zh`` for Chinese, ``char`` for Japanese, Korean and Thai.

    ``13a``, sacrebleu's own default, takes what stands between spaces for a word.
    """
    letters = sum(map(len, map("".join, map(words, texts)))) or 1
    if sum(len(_OTHER_UNSPACED.findall(text)) for text in texts) > NOTICEABLE * letters:
        return "char"
    chinese = sum(len(_CHINESE.findall(text)) for text in texts)
    return "zh" if chinese > NOTICEABLE * letters else "13a"


def repetition(text: str) -> float:
    """Return the share of 4-word sequences that stood in the text before; 0 for shorter texts."""
    found = words(text)
    grams = Counter(tuple(found[i : i + GRAM]) for i in range(len(found) - GRAM + 1))
    total = sum(grams.values())
    return 1 - len(grams) / total if total else 0.0


def chrf_of_each(expected: Sequence[str], answers: Sequence[str]) -> list[float]:
    """Return chrF of every answer, from 0 to 100."""
    metric = CHRF()
    pairs = zip(answers, expected, strict=True)
    return [metric.sentence_score(answer, [reference]).score for answer, reference in pairs]


def similarity(expected: Sequence[str], answers: Sequence[str]) -> dict[str, Figure]:
    """Return ``chrf`` and ``bleu`` of all answers together, from 0 to 100 as usual in the field.

    BLEU of few short answers is often 0: it wants four words in a row that are the same.
    """
    tokenizer = bleu_tokenizer(expected)
    return {
        "chrf": _corpus(CHRF(), expected, answers),
        "bleu": _corpus(BLEU(tokenize=tokenizer), expected, answers),
    }


def rouge_l_of_each(expected: Sequence[str], answers: Sequence[str]) -> list[float]:
    """Return ROUGE-L (F-measure) of every answer, from 0 to 1."""
    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    pairs = zip(expected, answers, strict=True)
    return [
        float(scorer.score(reference, answer)["rougeL"].fmeasure) for reference, answer in pairs
    ]


class _Words:
    """rouge-score's own tokenizer drops every letter that is not a to z."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def _corpus(metric: Any, expected: Sequence[str], answers: Sequence[str]) -> Figure:
    """Score all answers together; the interval is the percentile bootstrap over rows.

    sacrebleu's own bootstrap fails on few rows (2.6.0 cannot take the mean of NumPy's numbers) and keeps all
    resamples in memory; its statistics of single rows are used, which are not part of its public interface.
    """
    if not answers:
        return NOTHING
    rows = np.array(metric._extract_corpus_statistics(answers, [expected]), float)

    def score(counts: NDArray[Any]) -> float:
        return float(metric._compute_score_from_stats(counts.tolist()).score)

    return resampled_sums(rows, score)
