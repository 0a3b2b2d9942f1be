"""The playground's conversation: two histories with the same questions, and how they grow. No gradio."""

from __future__ import annotations

import queue
import random
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from workbench.chat import OTHER_RUN, ChatProcess, ModelName, Reply, Stop, served_models
from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.runs.chats import Chat
from workbench.runs.store import Run

Side = Literal["left", "right"]
SIDES: tuple[Side, ...] = ("left", "right")
NOTHING = ""  # the choice for one model alone
SHOW_SECONDS = 0.15  # drawing every token would take from the model the cores it computes on
NO_ANSWER = "(The model gave an empty answer.)"
STOPPED_EARLY = "(Stopped before the first word.)"
STOPPED = "Stopped. What was written so far is kept."
ENDS = {
    "stopped": STOPPED,
    "length": "An answer was cut at its longest length, which is set under Advanced.",
}
WAITING = "Another answer is being written, so this one takes longer…"
# What is certainly code: there Markdown shows everything as it is. What only may be is taken for text.
_CODE = re.compile(
    r"^ {0,3}(`{3,})[\w+#.-]*[ \t]*\n.*?(?:^ {0,3}\1`*[ \t]*$|\Z)|(?<![`\\])`[^`\n|]+`(?!`)",
    re.MULTILINE | re.DOTALL,
)
_FENCE = re.compile(r"^[\s>*+\-\d.)]*(?:`{3,}|~{3,})", re.MULTILINE)


@dataclass(frozen=True)
class Talk:
    """What was said on each side: questions and answers in turn, the last answer perhaps unfinished."""

    left: tuple[Message, ...] = ()
    right: tuple[Message, ...] = ()

    @classmethod
    def of(cls, chat: Chat) -> Talk:
        """Return what was said in a chat that was kept."""
        return cls(**dict(zip(SIDES, chat.conversations, strict=False)))

    def side(self, side: Side) -> tuple[Message, ...]:
        """Return the messages of one side."""
        return self.left if side == "left" else self.right

    def with_question(self, question: str, sides: Mapping[Side, ModelName]) -> Talk:
        """Add a question, and the place for its answer."""
        turn: tuple[Message, ...] = (
            {"role": "user", "content": question},
            {"role": "assistant", "content": ""},
        )
        return replace(self, **{side: self.side(side) + turn for side in sides})

    def with_answer(self, side: Side, text: str) -> Talk:
        """Put text in the place for the last answer."""
        answer: Message = {"role": "assistant", "content": text}
        return replace(self, **{side: (*self.side(side)[:-1], answer)})

    def before(self, turn: int) -> Talk:
        """Return what was said before a question, counted from 0."""
        return Talk(self.left[: 2 * turn], self.right[: 2 * turn])

    def question(self, turn: int) -> str:
        """Return a question, counted from 0."""
        return (self.left or self.right)[2 * turn]["content"]

    @property
    def turns(self) -> int:
        """How many questions were asked."""
        return max(len(self.left), len(self.right)) // 2


def answers(
    chat: ChatProcess,
    talk: Talk,
    sides: Mapping[Side, ModelName],
    settings: Mapping[str, Any],
    stop: Stop | None = None,
) -> Iterator[tuple[Talk, str]]:
    """Yield the conversation while each side answers the last question, and what to say about it.

    Args:
        chat: With the models loaded.
        talk: Ends on a question without an answer.
        sides: Which model answers on which side.
        settings: The values of the settings of ``playground_settings``.
        stop: Ends it from another thread; what is written by then stays.

    Raises:
        WorkbenchError: The question is too long, or the process is gone.
    """
    before = system_message(settings.get("system"))
    sampling = sampling_of(settings)
    stop = Stop(stop)  # also set where one side fails
    asked = {}
    for side, model in sides.items():
        # The slider is of this run; another one's models have the strength that is kept with theirs.
        is_ours = model != "base" and not model.startswith(OTHER_RUN)
        strength = {"strength": settings.get("strength", 1)} if is_ours else {}
        *earlier, question, _ = talk.side(side)
        messages = [*before, *answered(earlier), question]
        asked[side] = chat.replies(model, messages, stop=stop, **sampling, **strength)
    words = _answering(sides)
    yield talk, WAITING if chat.users > 1 else words
    shown_at, ends = 0.0, dict.fromkeys(sides, Reply())
    for side, reply in _as_they_come(asked, stop):
        ends[side] = reply
        if reply.finish_reason and reply.finish_reason != "stopped" and not reply.text.strip():
            reply = replace(reply, text=NO_ANSWER)
        talk = talk.with_answer(side, reply.text)
        if reply.finish_reason or (reply.text and time.monotonic() - shown_at > SHOW_SECONDS):
            yield talk, words
            shown_at = time.monotonic()
    yield talk, " ".join(_notes(ends.values()))


def answered(messages: Sequence[Message]) -> list[Message]:
    """Return questions and answers in turn without the questions that got none: nobody is to go on from those, or learn them."""
    pairs = zip(messages[::2], messages[1::2], strict=True)
    return [said for pair in pairs if pair[1]["content"] not in ("", NO_ANSWER) for said in pair]


def _answering(sides: Mapping[Side, ModelName]) -> str:
    labels = [model_label(model) for model in sides.values()]
    return f"{' and '.join(labels)} {'answer' if len(labels) > 1 else 'answers'}…"


def _notes(ends: Iterable[Reply]) -> list[str]:
    """Return what there is to say of answers that ended; both sides often have the same to say."""
    notes: dict[str, None] = {}
    for reply in ends:
        notes |= {reply.note: None} if reply.note else {}
        notes |= {ENDS[reply.finish_reason]: None} if reply.finish_reason in ENDS else {}
    return list(notes)


def _as_they_come(
    asked: Mapping[Side, Iterator[Reply]], stop: Stop
) -> Iterator[tuple[Side, Reply]]:
    """Yield the replies of all sides, whichever comes next; whoever does not wait for the end stops all."""
    came: queue.Queue[tuple[Side, Reply | BaseException | None]] = queue.Queue()

    def follow(side: Side, replies: Iterator[Reply]) -> None:
        try:
            for reply in replies:
                came.put((side, reply))
            came.put((side, None))
        except BaseException as error:  # noqa: BLE001 - raised below
            came.put((side, error))

    for side, replies in asked.items():
        threading.Thread(target=follow, args=(side, replies), daemon=True).start()
    missing = len(asked)
    try:
        while missing:
            side, reply = came.get()
            if isinstance(reply, BaseException):
                raise reply
            if reply is None:
                missing -= 1
            else:
                yield side, reply
    finally:
        if missing:
            stop.set()


def system_message(words: str | None) -> list[Message]:
    """Return what is said before everything else; nothing for an empty system prompt."""
    system = (words or "").strip()
    return [{"role": "system", "content": system}] if system else []


def sampling_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as the server takes them; without a seed, one for both sides is made up.

    Raises:
        WorkbenchError: The seed is no number.
    """
    return {
        "temperature": settings["temperature"],
        "top_p": settings["top_p"],
        "top_k": int(settings["top_k"]),
        "repetition_penalty": settings["repetition_penalty"],
        "max_tokens": int(settings["max_tokens"]),
        "seed": _seed(str(settings.get("seed") or "").strip()),
    }


def _seed(words: str) -> int:
    if not words:
        return random.randrange(2**31)
    if not words.isdecimal() or int(words) >= 2**63:
        raise WorkbenchError(
            f"The seed is {words!r}, which is no whole number.",
            "Type one such as 42, or leave it empty.",
        )
    return int(words)


def model_choices(run: Run) -> list[tuple[str, ModelName]]:
    """Return label and name of what a run lets one ask."""
    return [(model_label(name), name) for name in served_models(run)]


def model_label(name: ModelName) -> str:
    """Say what a model is."""
    if name.startswith(OTHER_RUN):
        run_id = name.removeprefix(OTHER_RUN)  # 20261126-042043-identity
        made = time.strptime(run_id[:15], "%Y%m%d-%H%M%S")
        return f"Run {run_id[16:]} ({time.strftime('%d %b %H:%M:%S', made)})"
    if name.startswith("step-"):
        return f"Checkpoint of step {int(name.removeprefix('step-')):,}"
    return {"base": "Before training", "tuned": "Tuned model"}[name]


def shown(messages: tuple[Message, ...], if_empty: str = "") -> list[dict[str, str]]:
    """Return the messages of one side as a chat component takes them.

    Args:
        messages: Questions and answers in turn.
        if_empty: What stands in a last place that is empty; such a place is left out without.
    """
    return [
        {"role": message["role"], "content": safe_markdown(message["content"] or if_empty)}
        for place, message in enumerate(messages)
        if message["content"] or if_empty or place < len(messages) - 1
    ]


def safe_markdown(text: str) -> str:
    """Return Markdown without HTML and without pictures, which would tell their server who reads this.

    The chat component still removes what is dangerous, and the page loads nothing from elsewhere.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    pieces, end = [], 0
    for code in _CODE.finditer(text):
        pieces += [_without_html(text[end : code.start()]), code[0]]
        end = code.end()
    pieces.append(_without_html(text[end:]))
    if any(_FENCE.search(words) for words in pieces[::2]):  # then what looked like code may be none
        return _without_html(text)
    return "".join(pieces)


def _without_html(text: str) -> str:
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)
    return text.replace("![", "&#33;[")
