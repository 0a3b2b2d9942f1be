"""What was said to a run's models on the Playground, kept in the run: one file a chat.

::

    runs/<id>/conversations/<id>.json    who answered, what was said, how it was asked
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.runs.store import UNREADABLE, Run, read_json, write_json

_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")
# As in workbench/chat.py.
_MODEL = re.compile(r"base|tuned|step-\d+|run-\d{8}-\d{6}-[a-z0-9-]{1,66}")


@dataclass(frozen=True)
class Chat:
    """The same questions to one model or two, and what each answered.

    Attributes:
        run_id: Whose models.
        models: The name of each, the left one first.
        conversations: What was said to each, in the same order: questions and answers in turn.
        settings: How the last answer was asked for.
        id: Its file; empty while it is not kept.
        changed: When it was kept last, in seconds since the epoch.
    """

    run_id: str
    models: tuple[str, ...]
    conversations: tuple[tuple[Message, ...], ...]
    settings: dict[str, Any]
    id: str = ""
    changed: float = 0.0

    @property
    def title(self) -> str:
        """The first question."""
        return self.conversations[0][0]["content"]

    @property
    def question(self) -> str:
        """The last question."""
        return self.conversations[0][-2]["content"]

    @property
    def answers(self) -> tuple[str, ...]:
        """The last answer of each model."""
        return tuple(messages[-1]["content"] for messages in self.conversations)


def keep_chat(run: Run, chat: Chat) -> Chat:
    """Write a chat in one step, and return it as it is kept.

    It gets a file of its own unless the one it has is as it left it: two pages may go on with the same chat.

    Raises:
        OSError: It could not be written; or the run was deleted.
    """
    _folder(run).mkdir(exist_ok=True)
    changed = time.time()
    chat_id = chat.id if _is_as_left(run, chat) else _new_id(changed)
    kept = replace(chat, id=chat_id, changed=changed)
    write_json(_path(run, chat_id), chat_document(run, kept) | {"changed": changed})
    return kept


def find_chats(run: Run) -> tuple[list[Chat], list[str]]:
    """Return the chats of a run, the last one first, and the names of files that are damaged."""
    found, damaged = [], []
    for path in sorted(_folder(run).glob("*.json")):
        if _ID.fullmatch(path.stem):
            try:
                found.append(_read(run, path.stem))
            except FileNotFoundError:
                continue  # deleted just now
            except UNREADABLE:
                damaged.append(path.name)
    return sorted(found, key=lambda chat: -chat.changed), damaged


def get_chat(run: Run, chat_id: str) -> Chat:
    """Return one chat.

    Raises:
        WorkbenchError: It is not there, or damaged.
    """
    try:
        return _read(run, chat_id)
    except UNREADABLE as error:
        raise WorkbenchError(
            "This conversation is not there any more.", "Choose another one."
        ) from error


def delete_chat(run: Run, chat_id: str) -> None:
    """Remove one chat, if it is there."""
    _path(run, chat_id).unlink(missing_ok=True)


def chat_document(run: Run, chat: Chat) -> dict[str, Any]:
    """Return a chat as JSON says it, for the person and for other programs."""
    pairs = zip(chat.models, chat.conversations, strict=True)
    return {
        "run": run.id,
        "base_model": run.config.model,
        "settings": chat.settings,
        "conversations": [{"model": model, "messages": messages} for model, messages in pairs],
    }


def _folder(run: Run) -> Path:
    return run.directory / "conversations"


def _path(run: Run, chat_id: str) -> Path:
    if not _ID.fullmatch(chat_id):
        raise WorkbenchError(f"There is no conversation {chat_id!r}.")
    return _folder(run) / f"{chat_id}.json"


def _new_id(now: float) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return f"{stamp}-{secrets.token_hex(3)}"


def _is_as_left(run: Run, chat: Chat) -> bool:
    try:
        return _read(run, chat.id).changed == chat.changed
    except UNREADABLE:
        return False


def _read(run: Run, chat_id: str) -> Chat:
    document = read_json(_path(run, chat_id))
    parts = document["conversations"]
    models = tuple(part["model"] for part in parts)
    conversations = tuple(tuple(_messages(part["messages"])) for part in parts)
    if not 1 <= len(parts) <= 2 or not all(_MODEL.fullmatch(model) for model in models):
        raise ValueError("not one model or two")
    settings, changed = dict(document["settings"]), float(document["changed"])
    return Chat(run.id, models, conversations, settings, chat_id, changed)


def _messages(found: list[Any]) -> list[Message]:
    roles = [message["role"] for message in found]
    if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError("not questions and answers in turn")
    if not all(isinstance(message["content"], str) for message in found):
        raise ValueError("not text")
    return [{"role": message["role"], "content": message["content"]} for message in found]
