"""Keep one model's tokenizer loaded and answer requests: ``python -m workbench.models.tokenizer_process DIR``.

One JSON object a line on stdin, one on stdout; it ends when stdin closes. The web process cannot do this
itself, as loading a tokenizer brings torch along.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from workbench.data.conversations import read_conversations
from workbench.errors import WorkbenchError
from workbench.models.cutting import shorten
from workbench.models.rendering import load_tokenizer, token_pieces, tokenize_example
from workbench.models.tokens import token_cache_path, tokenize_dataset


def main(model_dir: Path) -> None:
    """Answer until stdin closes."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    tokenizer: Any = None
    for line in sys.stdin:
        try:
            tokenizer = tokenizer or load_tokenizer(model_dir)
            request = json.loads(line)
            if "conversations_path" in request:
                answer = _count(tokenizer, model_dir, Path(request["conversations_path"]))
            else:
                answer = _preview(tokenizer, **request)
        except WorkbenchError as error:
            answer = {"error": error.message, "hint": error.hint}
        except Exception as error:  # the process boundary: the page waits for one line
            traceback.print_exc()
            answer = {"error": f"The tokenizer failed: {type(error).__name__}.", "hint": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


def _count(tokenizer: Any, model_dir: Path, path: Path) -> dict[str, Any]:
    """Tokenize a dataset into its cache, where the page reads the lengths."""
    examples = tokenize_dataset(
        tokenizer, read_conversations(path), token_cache_path(path, model_dir)
    )
    return {"rows": len(examples)}


def _preview(
    tokenizer: Any, messages: list[Any], limit_tokens: int, too_long: str
) -> dict[str, Any]:
    """Return the tokens of one row as the trainer takes it."""
    is_long = len(tokenize_example(tokenizer, messages).input_ids) > limit_tokens
    shorter = shorten(tokenizer, messages, limit_tokens) if is_long and too_long == "cut" else None
    shown = shorter or messages
    example = tokenize_example(tokenizer, shown)
    return {
        "pieces": token_pieces(tokenizer, shown),
        "tokens": len(example.input_ids),
        "supervised_tokens": example.supervised_tokens,
        "fate": "kept" if not is_long else ("cut" if shorter else "dropped"),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
