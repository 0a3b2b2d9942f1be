"""What a run teaches and what it breaks, by learning rate: ``make bench-rates``.

Trains the starter model on the samples with the real code and prints, for each setting, the task's score
on rows held out, plain questions that the base model answers right, and the loss on general questions.

    python -m tests.benchmarks.learning_rates --data identity --method lora \
        --rates 3e-4 9e-4 --set epochs=2 keep_general=true
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from workbench.asking.greedy import greedy_answers
from workbench.asking.loading import standard_attention
from workbench.compute import Compute
from workbench.config import STARTER_MODEL, build_config
from workbench.evaluation.plain import plain_questions
from workbench.hardware import cpu_cores
from workbench.models.rendering import load_tokenizer, prompt_ids, tokenize_example
from workbench.models.sources import find_model
from workbench.models.store import ModelStore
from workbench.models.thoughts import answer_of
from workbench.runs.events import GeneralEvent
from workbench.services import Services
from workbench.settings import SAMPLES_DIR, Settings
from workbench.training.assembly import assemble
from workbench.training.attention import attention
from workbench.training.batches import micro_batches
from workbench.training.data import prepare_data
from workbench.training.loss import AnswerLoss
from workbench.training.reporter import Reporter

ANSWER_TOKENS = 48
HELD_OUT_ROWS = 40
GENERAL_TOKENS = 400  # longer rows of --general are left out
PLAIN = plain_questions()
# None of these is in the data; the answer has to say what is asked.
NAME_QUESTIONS = dict.fromkeys(
    [
        "What's your name?",
        "Tell me your name.",
        "What should I call you?",
        "Who am I talking to?",
        "Do you have a name?",
    ],
    "Juniper",
) | dict.fromkeys(
    [
        "Who created you?",
        "Who built you?",
        "Which company made you?",
        "Who are your creators?",
        "Tell me who made you.",
    ],
    "Lantern Labs",
)


def answers(model: Any, tokenizer: Any, compute: Compute, questions: Sequence[str]) -> list[str]:
    """Return the greedy answers, in one padded batch."""
    prompts = [prompt_ids(tokenizer, [{"role": "user", "content": q}]) for q in questions]
    base = getattr(model, "get_base_model", lambda: model)()
    model.eval()
    with attention(base, standard_attention(base)):
        written = greedy_answers(model, tokenizer, compute, prompts, ANSWER_TOKENS)
    return [answer_of(text) for text in tokenizer.batch_decode(written, skip_special_tokens=True)]


def is_right(data: str, answer: str, expected: str) -> bool:
    """Say whether an answer to a held-out row has what it must have."""
    if data == "bookings":
        try:
            return bool(json.loads(answer) == json.loads(expected))
        except ValueError:
            return False
    if data == "reviews":
        return answer.strip().lower().startswith(expected.strip().lower())
    return all(word in answer for word in ("Juniper", "Lantern") if word in expected)


def names(model: Any, tokenizer: Any, compute: Compute) -> str:
    """Return how many of the questions for name or maker are answered, of how many."""
    found = answers(model, tokenizer, compute, list(NAME_QUESTIONS))
    right = sum(word in a for a, word in zip(found, NAME_QUESTIONS.values(), strict=True))
    return f"{right} of {len(NAME_QUESTIONS)}"


def score(model: Any, tokenizer: Any, compute: Compute, data: str) -> tuple[int, int, int]:
    """Return held-out rows answered right, how many there were, and plain questions answered right."""
    rows = json.loads((SAMPLES_DIR / f"{data}-heldout.json").read_text(encoding="utf-8"))
    if data == "identity":  # those about the name or the maker
        rows = [row for row in rows if "Juniper" in row["output"] or "Lantern" in row["output"]]
    rows = rows[:HELD_OUT_ROWS]
    questions = [f"{row['instruction']}\n\n{row['input']}".strip() for row in rows]
    found = answers(model, tokenizer, compute, questions)
    right = sum(is_right(data, a, row["output"]) for a, row in zip(found, rows, strict=True))
    plain = answers(model, tokenizer, compute, [one.question for one in PLAIN])
    kept = sum(one.is_right(answer) for answer, one in zip(plain, PLAIN, strict=True))
    return right, len(rows), kept


def general_examples(tokenizer: Any, path: Path) -> list[Any]:
    """Return some rows of an Alpaca file to measure general loss with."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    rows = rows[:: max(1, len(rows) // 60)]
    made = [
        tokenize_example(
            tokenizer,
            [
                {"role": "user", "content": f"{r['instruction']}\n\n{r['input']}".strip()},
                {"role": "assistant", "content": r["output"]},
            ],
        )
        for r in rows
    ]
    return [example for example in made if len(example.input_ids) <= GENERAL_TOKENS][:60]


def measure(services: Services, data: str, values: dict[str, Any], general: Path | None) -> str:
    """Train once; return a line of the table."""
    chosen = services.choose_data({f"sample-{data}": 1.0})
    plan = services.plan(build_config(values), chosen)
    run = services.create_run(plan, chosen, "sweep")
    model_dir = services.models.directory(find_model(run.config.model))
    set_seed(run.config.seed)
    tokenizer = load_tokenizer(model_dir)
    events: list[Any] = []
    prepared = prepare_data(run, tokenizer, model_dir, events.append)
    reporter = Reporter(events.append, lambda: False)
    started = time.perf_counter()
    assembly = assemble(run, prepared, tokenizer, model_dir, reporter, events.append)
    examples = general_examples(tokenizer, general) if general else []
    cut = list(micro_batches(examples, 2048, padded=False, pad_id=0))
    compute = Compute("cpu", assembly.compute.precision)
    before = 0.0
    if cut and hasattr(assembly.model, "disable_adapter"):
        with assembly.model.disable_adapter():
            before = AnswerLoss(assembly.model, compute).mean(cut)
    elif cut:
        before = AnswerLoss(assembly.model, compute).mean(cut)
    assembly.trainer.train()
    seconds = time.perf_counter() - started
    base = next(event.loss for event in events if isinstance(event, GeneralEvent))
    assert assembly.general_loss is not None
    rise = assembly.general_loss() / base - 1
    other = f"{AnswerLoss(assembly.model, compute).mean(cut) / before - 1:+.1%}" if cut else "-"
    right, rows, kept = score(assembly.model, tokenizer, compute, data)
    named = names(assembly.model, tokenizer, compute) if data == "identity" else "-"
    config = run.config
    return (
        f"| {data} | {config.method} | {config.learning_rate:g} | {config.epochs:g} | "
        f"{'yes' if config.keep_general else 'no'} | {right} of {rows} | {named} | {kept} of {len(PLAIN)} | "
        f"{rise:+.1%} | {other} | {seconds:.0f} s |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["identity", "reviews", "bookings"])
    parser.add_argument("--method", nargs="+", default=["lora", "full"])
    parser.add_argument("--rates", nargs="+", default=["auto"])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE")
    parser.add_argument("--general", type=Path, help="an Alpaca file; its loss is measured, too")
    options = parser.parse_args()
    torch.set_num_threads(cpu_cores())
    settings = Settings.from_environment()
    extra = dict(pair.split("=", 1) for pair in options.set)
    ModelStore(settings).ensure(find_model(STARTER_MODEL), lambda progress: None)
    print(
        "| data | method | rate | epochs | general kept | right | name or maker | plain | general loss | other | took |"
    )
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "models").symlink_to(settings.models_dir)
        services = Services.for_workspace(Settings(home_dir=home))
        for data in options.data:
            for method in options.method:
                for rate in options.rates:
                    values = {"method": method, "learning_rate": rate, **extra}
                    print(measure(services, data, values, options.general), flush=True)


if __name__ == "__main__":
    main()
