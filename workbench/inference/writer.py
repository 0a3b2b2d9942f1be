"""Write several answers at once: the one thread that computes, and what it has to do next."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from workbench.inference.answer import Answer, Outcome, Question
from workbench.inference.engine import Engine

MOST_AT_ONCE = 4  # answers; each takes time from the others, and memory


class Writer:
    """Writes answers in the order they were asked for, up to ``MOST_AT_ONCE`` side by side, a token each in turn.

    One that has no short way is written whole, and the others wait; one whose model has no room in memory waits for all
    others. All but ``write`` happens in the one thread, whose queue is the order: before each token one more question is
    read, if there is room.

    Args:
        engine: What answers.
        thread: The one thread that computes.
    """

    def __init__(self, engine: Engine, thread: ThreadPoolExecutor) -> None:
        self._engine, self._thread = engine, thread
        self._waiting: deque[tuple[Question, Future[Outcome]]] = deque()
        self._written: list[tuple[Answer, Future[Outcome]]] = []
        self._comes_back = False  # ``_go_on`` is in the thread's queue

    def write(self, question: Question) -> Future[Outcome]:
        """Write an answer."""
        outcome: Future[Outcome] = Future()
        self._thread.submit(self._take, question, outcome)
        return outcome

    def _take(self, question: Question, outcome: Future[Outcome]) -> None:
        self._waiting.append((question, outcome))
        if not self._comes_back:
            self._go_on()

    def _go_on(self) -> None:
        """Begin an answer if there is room, write a token of each, and come back for the next."""
        if self._waiting and self._has_room_for(self._waiting[0][0]):
            self._begin(*self._waiting.popleft())
        if self._written:
            self._add_tokens()
        self._comes_back = bool(self._written or self._waiting)
        if self._comes_back:
            self._thread.submit(self._go_on)

    def _has_room_for(self, question: Question) -> bool:
        if not self._written:
            return True
        return len(self._written) < MOST_AT_ONCE and self._engine.fits_beside(question)

    def _begin(self, question: Question, outcome: Future[Outcome]) -> None:
        try:
            self._written.append((self._engine.begin(question), outcome))
        except BaseException as error:
            outcome.set_exception(error)
        self._tell_ends()

    def _add_tokens(self) -> None:
        """Write a token of each; what fails in one ends that one, and what fails in the model ends all."""
        try:
            logits = self._engine.next_logits([answer for answer, _ in self._written])
        except BaseException as error:
            for _, outcome in self._written:
                outcome.set_exception(error)
        else:
            for (answer, outcome), scores in zip(self._written, logits, strict=True):
                try:
                    answer.choose(scores)
                except BaseException as error:
                    outcome.set_exception(error)
        self._tell_ends()

    def _tell_ends(self) -> None:
        for answer, outcome in self._written:
            if answer.is_over and not outcome.done():
                outcome.set_result(answer.outcome)
        self._written = [
            (answer, outcome) for answer, outcome in self._written if not outcome.done()
        ]
