"""What the chat process holds after people who leave, stop, ask again and ask too much; with the starter model.

::

    .venv/bin/workbench models --download smollm2-135m-instruct
    .venv/bin/python -m tests.benchmarks.chat_memory

It prints the memory (RSS) after each, and the processes that are left at the end.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import psutil

from tests.benchmarks.chat_speed import make_run
from workbench.chat import ChatProcess
from workbench.errors import WorkbenchError
from workbench.settings import Settings

QUESTION = [{"role": "user", "content": "Write a long story about a dog that learns to sail."}]
NEAR_LIMIT, TOO_LONG = 7_500, 10_000  # tokens; the starter model reads 8,192


def leave_early(chat: ChatProcess, count: int) -> None:
    """Open answers and leave each after its first token."""
    for number in range(count):
        answer = chat.stream("base" if number % 2 else "tuned", QUESTION, max_tokens=400)
        next(answer)
        answer.close()


def ask_long(chat: ChatProcess, tokens: int) -> None:
    """Ask something of so many tokens: a short answer, or the sentence that refuses it."""
    words = [{"role": "user", "content": " dog" * tokens}]
    try:
        print(f"  {''.join(chat.stream('tuned', words, max_tokens=8))!r}")
    except WorkbenchError as error:
        print(f"  {error}")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        settings, run, _ = make_run(Path(folder) / "home", Settings.from_environment().models_dir)
        chat = ChatProcess(settings)
        chat.open(run)
        assert chat._server is not None
        child = psutil.Process(chat._server.process.pid)
        before = 0

        def tell(what: str) -> None:
            nonlocal before
            "".join(chat.stream("tuned", QUESTION, max_tokens=16))  # the line is empty again
            now = child.memory_info().rss
            before = before or now
            print(f"{what}: {now / 1e6:,.0f} MB, {now / before - 1:+.1%}", flush=True)

        for model in ("base", "tuned"):
            "".join(chat.stream(model, QUESTION, max_tokens=100))
        tell("After two answers")
        leave_early(chat, 50)
        tell("After 50 that were left at the first token")
        leave_early(chat, 20)
        tell("After 20 stops and repeats")
        ask_long(chat, TOO_LONG)
        tell(f"After {TOO_LONG:,} tokens")
        ask_long(chat, NEAR_LIMIT)
        tell(f"After {NEAR_LIMIT:,} tokens")
        print(f"Processes below it: {child.children()}")
        chat.close()
        print(f"It has ended: {not child.is_running()}")


if __name__ == "__main__":
    main()
