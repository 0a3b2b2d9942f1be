"""The loss in words: what a curve means, and the one change worth trying. Pure; for beginners.

Losses jump from step to step, so nothing here compares two of them. It compares the means of stretches of
steps, with outliers cut, and believes a difference only where chance does not explain it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workbench.runs.events import EvaluationEvent, StepEvent

Kind = Literal[
    "too few steps",
    "diverged",
    "never learned",
    "overfitting",
    "still learning",
    "learned what it could",
    "finished well",
]
Numbers = NDArray[np.float64]

# Stretches and samples.
MIN_STEPS = 20  # four stretches of five steps; the mean of fewer is one lucky batch
STRETCHES = 4  # a curve's last quarter against the one before: long enough to even out noise
NEWEST_STEPS = 10  # a rise must show soon, and a spike of a few steps must not count
EARLY = 0.2  # share of all steps; up to there a flat curve may be warm-up, a tenth as a rule
# What cannot be chance, or does not matter.
SURE = 4.0  # standard errors: chance gives so much in one of 30,000 looks; for what alarms
LIKELY = 3.0  # the same, one of 700; for whether it still falls, where a mistake costs little
PERHAPS = 2.0  # the same, one of 40; beyond it "learned nothing" would be too hard a word
RELAPSE = 0.5  # share of what was learned that is lost again: more than a new epoch ever costs
MIN_RELAPSE = 0.25  # share of the first loss, where little was learned that could be lost
MIN_LEARNED = 0.03  # share of the first loss; less shows in no answer
STILL_FALLING = 0.1  # share of all that was learned that the last quarter brings, else it is flat
MIN_RISE = 0.05  # share of the lowest validation loss; less comes and goes between two checks
LONE_RISE = 0.15  # the same where one check alone was made since: it must speak for itself
MANY_CHECKS = 8  # with fewer, the bend of the curve itself is taken for noise

MAD_TO_SIGMA = 1.4826  # of normally distributed numbers: deviation, standard / median absolute
OUTLIER = 3.0  # standard deviations from the median; farther away, a loss counts as this far

WAIT = "Wait a little; then the curve says more."


@dataclass(frozen=True)
class Reading:
    """What the curve means.

    Attributes:
        kind: In a word, for programs.
        sentence: What is seen, for a beginner.
        suggestion: One thing to do.
    """

    kind: Kind
    sentence: str
    suggestion: str


@dataclass(frozen=True)
class _Curve:
    """The finite losses of a run, the steps they belong to, and the level of each stretch."""

    steps: Numbers
    losses: Numbers
    levels: Numbers

    @property
    def stretch_steps(self) -> int:
        return len(self.losses) // STRETCHES

    @property
    def learned(self) -> float:
        """How much the loss fell from the first stretch to the last."""
        return float(self.levels[0] - self.levels[-1])

    def has_learned(self, certainty: float = SURE) -> bool:
        chance = certainty * _error(self.losses, self.stretch_steps)
        return self.learned > max(MIN_LEARNED * float(self.levels[0]), chance)

    @property
    def is_falling(self) -> bool:
        """Whether the last stretch brought a good share of what was learned."""
        # The noise of the end alone: a high loss jumps more than a low one.
        chance = LIKELY * _error(self.losses[-2 * self.stretch_steps :], self.stretch_steps)
        fall = float(self.levels[-2] - self.levels[-1])
        return fall > max(STILL_FALLING * self.learned, chance)


def read_loss(
    steps: Sequence[StepEvent],
    evaluations: Sequence[EvaluationEvent],
    total_steps: int,
    *,
    is_over: bool = False,
) -> Reading | None:
    """Say what the loss means.

    Args:
        steps: All steps so far.
        evaluations: All checks on the rows held back; none where no rows are.
        total_steps: How many steps the run was to have.
        is_over: It has ended, maybe earlier.

    Returns:
        The reading, or ``None`` before the first step.
    """
    if not steps:
        return None
    numbers = np.array([step.step for step in steps], dtype=np.float64)
    losses = np.array([step.loss for step in steps], dtype=np.float64)
    is_complete = is_over or steps[-1].step >= total_steps
    lost = _steps_without_loss(losses)
    if lost:  # such a step ends a run
        return _not_a_number(int(numbers[-lost]))
    if np.isfinite(losses).sum() < MIN_STEPS:
        return _too_few(len(steps), is_complete)
    curve = _curve(numbers, losses)
    surely = (
        _diverged(curve) or _overfitting(curve, evaluations) or _still_learning(curve, is_complete)
    )
    if surely:
        return surely
    if steps[-1].step < EARLY * total_steps:
        return _too_few(len(steps), is_complete)
    if curve.has_learned():
        return _flat(curve, evaluations, is_complete)
    return _unsure(curve, is_complete) if curve.has_learned(PERHAPS) else _never_learned(curve)


def _steps_without_loss(losses: Numbers) -> int:
    """Return how many of the newest steps have no loss."""
    finite = np.flatnonzero(np.isfinite(losses))
    return len(losses) - (int(finite[-1]) + 1 if len(finite) else 0)


def _curve(numbers: Numbers, losses: Numbers) -> _Curve:
    is_finite = np.isfinite(losses)
    steps, losses = numbers[is_finite], losses[is_finite]
    stretches = np.array_split(losses, STRETCHES)
    levels = np.array([_level(stretch) for stretch in stretches])
    return _Curve(steps, losses, levels)


def _level(losses: Numbers) -> float:
    """Return the mean, to which a spike adds no more than any other bad batch."""
    median = np.median(losses)
    reach = OUTLIER * MAD_TO_SIGMA * np.median(np.abs(losses - median))
    return float(losses.clip(median - reach, median + reach).mean())


def _error(losses: Numbers, count: int) -> float:
    """Return the standard error of the difference between the means of two stretches of ``count`` losses."""
    return _noise(losses) * float(np.sqrt(2 / count))


def _noise(values: Numbers) -> float:
    """Return the standard deviation of the noise, whatever the curve below it does.

    Each value is compared with the middle between its neighbours, so that a slope counts for nothing; the
    median makes a lone spike count for nothing, too.
    """
    if len(values) < 3:
        return 0.0
    bends = values[1:-1] - (values[:-2] + values[2:]) / 2
    return float(MAD_TO_SIGMA * np.median(np.abs(bends)) / 1.5**0.5)


def _not_a_number(step: int) -> Reading:
    return Reading(
        "diverged",
        f"Since step {step:,} the loss is not a number: the weights grew without limit and the model is "
        "broken.",
        "Start again with a learning rate a third as high.",
    )


def _too_few(count: int, is_complete: bool) -> Reading:
    steps = "1 step is" if count == 1 else f"{count:,} steps are"
    if is_complete:
        hint = "Train for more epochs, or with a smaller batch, to get more steps out of the same rows."
    else:
        hint = WAIT
    return Reading("too few steps", f"{steps} too few to tell how the training goes.", hint)


def _diverged(curve: _Curve) -> Reading | None:
    newest = _level(curve.losses[-NEWEST_STEPS:])
    first, lowest = float(curve.levels[0]), float(curve.levels.min())
    chance = SURE * _error(curve.losses, NEWEST_STEPS)
    if newest - lowest <= max(RELAPSE * (first - lowest), MIN_RELAPSE * first, chance):
        return None
    return Reading(
        "diverged",
        f"The loss rose from {_say(lowest)} to {_say(newest)}: the model gets worse, because its weights "
        "change too much at each step.",
        "Start again with a learning rate a third as high.",
    )


def _overfitting(curve: _Curve, evaluations: Sequence[EvaluationEvent]) -> Reading | None:
    """Say so where the validation loss rose clearly above its lowest while the training loss did not rise."""
    checks = [(event.step, event.loss) for event in evaluations if event.loss is not None]
    losses = np.array([loss for _, loss in checks])
    best = int(losses.argmin()) if checks else 0
    since = losses[best + 1 :]
    if not len(since):
        return None
    step = checks[best][0]
    # The lower of the newest two, because one check alone may be unlucky.
    rise = float(since[-2:].min() - losses[best])
    least = (LONE_RISE if len(since) == 1 else MIN_RISE) * losses[best]
    chance = SURE * _noise(losses) if len(checks) >= MANY_CHECKS else 0.0
    if rise <= max(least, chance) or _rose_since(curve, step):
        return None
    rose = f"the loss on rows it does not train on rose from {_say(losses[best])} to {_say(losses[-1])}"
    if step == 0:
        return Reading(
            "overfitting",
            f"From the start {rose}: what it learns does not carry over to other rows.",
            "Try a learning rate a third as high; or add rows, so that they resemble each other more.",
        )
    return Reading(
        "overfitting",
        f"Since step {step:,} {rose}: the model begins to learn its rows by heart.",
        f"Train for fewer epochs, about {step:,} steps in all; or add rows.",
    )


def _rose_since(curve: _Curve, step: int) -> bool:
    """Say whether the training loss of the last stretch is above that of the stretch up to ``step``."""
    before = curve.losses[curve.steps <= step][-curve.stretch_steps :]
    chance = SURE * _error(curve.losses, curve.stretch_steps)
    return bool(len(before) and curve.levels[-1] > _level(before) + chance)


def _unsure(curve: _Curve, is_complete: bool) -> Reading:
    return Reading(
        "too few steps",
        f"The loss seems to fall, from {_say(curve.levels[0])} to {_say(curve.levels[-1])}, but it jumps too "
        "much from step to step to be sure yet.",
        "Train for more epochs." if is_complete else WAIT,
    )


def _never_learned(curve: _Curve) -> Reading:
    first, last = curve.levels[0], curve.levels[-1]
    return Reading(
        "never learned",
        f"The loss went from {_say(first)} to {_say(last)}: so far the model learned next to nothing.",
        "Try a learning rate three times as high.",
    )


def _still_learning(curve: _Curve, is_complete: bool) -> Reading | None:
    if not (curve.has_learned() and curve.is_falling):
        return None
    fell = f"The loss fell from {_say(curve.levels[0])} to {_say(curve.levels[-1])}"
    if is_complete:
        sentence = f"{fell} and was still falling at the end: there was more to learn."
        return Reading("still learning", sentence, "Train for more epochs.")
    return Reading(
        "still learning",
        f"{fell} and goes on falling: the model is learning.",
        "Change nothing; let it go on.",
    )


def _flat(curve: _Curve, evaluations: Sequence[EvaluationEvent], is_complete: bool) -> Reading:
    fell = f"The loss fell from {_say(curve.levels[0])} to {_say(curve.levels[-1])}"
    if not is_complete:
        return Reading(
            "learned what it could",
            f"{fell} and hardly moves any more: the model learned what it could from these rows.",
            "You may stop now and keep what was learned; more steps change little.",
        )
    checks = [event.loss for event in evaluations if event.loss is not None]
    if len(checks) < 2 or checks[-1] > (1 + MIN_RISE) * min(checks):
        return Reading(
            "finished well",
            f"{fell} and levelled off. Whether the model only learned the rows by heart, this cannot tell.",
            "Try it in the Playground; and hold rows back next time, whose loss shows it.",
        )
    return Reading(
        "finished well",
        f"{fell} and levelled off, and so did the loss on the rows held back.",
        "Try the model in the Playground. If it should know more, add rows; more epochs change little.",
    )


def _say(loss: float) -> str:
    return f"{loss:.3g}"
