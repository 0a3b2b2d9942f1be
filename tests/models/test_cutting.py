import pytest

from tests.tiny_model import build_tiny_tokenizer
from workbench.models.cutting import fit_examples, shorten
from workbench.models.rendering import tokenize_example, tokenize_examples

QUESTION = {"role": "user", "content": "question " * 20 + "END-OF-QUESTION"}
ANSWER = {"role": "assistant", "content": "answer " * 20 + "END-OF-ANSWER"}
SYSTEM = {"role": "system", "content": "Be kind."}
OLD = [{"role": "user", "content": "old question"}, {"role": "assistant", "content": "old answer"}]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tiny_tokenizer()


def text(tokenizer, messages):
    return tokenizer.decode(tokenize_example(tokenizer, messages).input_ids)


@pytest.mark.parametrize("limit", [*range(75, 130, 7), 200, 300, 400])
@pytest.mark.parametrize("system", [[], [SYSTEM]])
def test_the_header_the_heads_and_the_end_of_turn_are_kept(tokenizer, limit, system):
    shorter = shorten(tokenizer, [*system, QUESTION, ANSWER], limit)
    written = text(tokenizer, shorter)
    assert len(tokenize_example(tokenizer, shorter).input_ids) <= limit
    assert shorter[:-2] == system
    assert "<|im_start|>user\nques" in written
    assert "<|im_end|>\n<|im_start|>assistant\nans" in written
    assert written.endswith("<|im_end|>")
    assert (shorter[-1] == ANSWER) == written.endswith("END-OF-ANSWER<|im_end|>")


def test_a_short_answer_is_kept_whole_and_the_question_gives_way(tokenizer):
    shorter = shorten(tokenizer, [QUESTION, {"role": "assistant", "content": "Yes."}], 100)
    assert shorter[-1]["content"] == "Yes."
    assert QUESTION["content"].startswith(shorter[0]["content"])
    assert len(tokenize_example(tokenizer, shorter).input_ids) == 100


def test_what_fits_is_kept_and_old_turns_go_first(tokenizer):
    assert shorten(tokenizer, [SYSTEM, QUESTION, ANSWER], 1000) == [SYSTEM, QUESTION, ANSWER]
    whole = len(tokenize_example(tokenizer, [SYSTEM, QUESTION, ANSWER]).input_ids)
    assert shorten(tokenizer, [SYSTEM, *OLD, *OLD, QUESTION, ANSWER], whole) == [
        SYSTEM,
        QUESTION,
        ANSWER,
    ]


def test_where_nothing_would_be_left_the_row_is_left_out(tokenizer):
    assert shorten(tokenizer, [QUESTION, ANSWER], 20) is None


def test_a_character_is_never_split(tokenizer):
    emoji = [
        {"role": "user", "content": "\U0001f600" * 30},
        {"role": "assistant", "content": "é" * 60},
    ]
    for limit in range(70, 100):
        shorter = shorten(tokenizer, emoji, limit)
        assert set(shorter[0]["content"] + shorter[1]["content"]) == {"\U0001f600", "é"}


def test_rows_are_cut_or_left_out_and_counted(tokenizer):
    rows = [[QUESTION, ANSWER], OLD, [QUESTION, ANSWER]]
    conversations = [{"messages": row} for row in rows]
    examples = tokenize_examples(tokenizer, rows)
    cut = fit_examples(tokenizer, conversations, examples, 100, "cut")
    assert (cut.cut_rows, cut.dropped_rows) == (2, 0)
    assert all(len(example.input_ids) <= 100 for example in cut.examples)
    dropped = fit_examples(tokenizer, conversations, examples, 100, "drop")
    assert (dropped.cut_rows, dropped.dropped_rows) == (0, 2)
    assert dropped.examples == [None, examples[1], None]
