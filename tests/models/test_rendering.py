import pytest
from tokenizers.processors import TemplateProcessing

from tests.tiny_model import build_tiny_model, build_tiny_tokenizer
from workbench.errors import WorkbenchError
from workbench.models.rendering import (
    IGNORED,
    has_fallback_template,
    load_tokenizer,
    prompt_ids,
    stop_ids,
    token_pieces,
    tokenize_example,
    tokenize_examples,
)


@pytest.fixture(scope="module")
def tokenizer():
    return build_tiny_tokenizer()


def turns(*texts, system=None):
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
    return ([{"role": "system", "content": system}] if system else []) + messages


def supervised_text(tokenizer, example):
    return tokenizer.decode([label for label in example.labels if label != IGNORED])


def test_only_the_answer_and_the_end_of_its_turn_are_supervised(tokenizer):
    example = tokenize_example(tokenizer, turns("Who?", "Me."))
    assert supervised_text(tokenizer, example) == "Me.<|im_end|>"
    assert len(example.labels) == len(example.input_ids)
    assert all(
        label in (IGNORED, token)
        for label, token in zip(example.labels, example.input_ids, strict=True)
    )


def test_the_end_of_turn_is_supervised_although_it_is_also_the_padding_token(tokenizer):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenize_example(tokenizer, turns("Q", "A")).labels[-1] == tokenizer.eos_token_id


def test_every_answer_of_a_conversation_is_supervised(tokenizer):
    example = tokenize_example(tokenizer, turns("a", "one", "b", "two", system="s"))
    assert supervised_text(tokenizer, example) == "one<|im_end|>two<|im_end|>"


def test_training_sees_exactly_the_prompt_of_the_playground(tokenizer):
    example = tokenize_example(tokenizer, turns("Who?", "Me.", system="Be kind."))
    prompt = prompt_ids(tokenizer, turns("Who?", system="Be kind."))
    assert example.input_ids[: len(prompt)] == prompt
    assert set(example.labels[: len(prompt)]) == {IGNORED}
    assert IGNORED not in example.labels[len(prompt) :]


def test_a_conversation_is_tokenized_as_the_template_writes_it(tokenizer):
    messages = turns("a", "one", "b", "two")
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(tokenize_example(tokenizer, messages).input_ids) == text.rstrip("\n")


def test_user_text_that_looks_like_a_special_token_is_not_supervised(tokenizer):
    example = tokenize_example(tokenizer, turns("say <|im_end|>", "no"))
    assert supervised_text(tokenizer, example) == "no<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_supervises_the_last_answer_only():
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
        "{% if m['role'] == 'assistant' and loop.last %}<think></think>{% endif %}"
        "{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    example = tokenize_example(tokenizer, turns("a", "one", "b", "two"))
    assert supervised_text(tokenizer, example) == "<think></think>two<|im_end|>"


def test_a_template_without_an_end_of_turn_gets_one():
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    example = tokenize_example(tokenizer, turns("a", "one"))
    assert supervised_text(tokenizer, example) == "one\n<|im_end|>"


def test_a_tokenizer_that_begins_every_text_by_itself_does_not_begin_one_twice():
    tokenizer = build_tiny_tokenizer()
    start, bos = tokenizer.bos_token_id, tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, start)]
    )
    assert tokenizer("a")["input_ids"][0] == start
    messages = turns("a", "one")
    for ids in (tokenize_example(tokenizer, messages).input_ids, prompt_ids(tokenizer, messages)):
        assert ids[:2].count(start) == 1
    begins = tokenizer.apply_chat_template(messages, tokenize=False).count(bos)
    assert tokenize_example(tokenizer, messages).input_ids.count(start) == begins


def test_a_model_without_a_template_is_a_sentence():
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(WorkbenchError, match="no chat template"):
        prompt_ids(tokenizer, turns("a"))


def test_generation_stops_where_training_ended_an_answer(tokenizer):
    assert stop_ids(tokenizer) == [tokenizer.eos_token_id]


def test_many_at_once_are_as_one_by_one(tokenizer, monkeypatch):
    monkeypatch.setattr("workbench.models.rendering.BATCH_EXAMPLES", 3)
    conversations = [
        turns("a", "one", "b", "two", system="s"),
        *[turns(f"q{n}" * n, f"answer {n}") for n in range(7)],
        turns("say <|im_end|>", "no <|im_start|> x"),
    ]
    together = tokenize_examples(tokenizer, conversations)
    assert together == [tokenize_example(tokenizer, messages) for messages in conversations]


def test_a_conversation_that_the_template_refuses_is_named():
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + tokenizer.chat_template
    )
    good, bad = turns("a", "one"), turns("a", "one", system="s")
    with pytest.raises(WorkbenchError, match="refuses example 3: no system role"):
        tokenize_examples(tokenizer, [good, good, bad])


def test_pieces_are_the_text_and_what_the_loss_counts(tokenizer):
    messages = turns("Wer? \U0001f600", "Ich 你 é.", system="s")
    pieces = token_pieces(tokenizer, messages)
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert "".join(piece for piece, _ in pieces) == text.rstrip("\n")
    supervised = "".join(piece for piece, counts in pieces if counts)
    assert supervised == "Ich 你 é.<|im_end|>"
    assert "\U0001f600" in [piece for piece, _ in pieces]


def test_a_base_model_is_written_to_in_a_plain_way_in_training_and_chat(tmp_path):
    directory = build_tiny_model(tmp_path / "base")
    for path in directory.glob("chat_template*"):
        path.unlink()
    tokenizer = load_tokenizer(directory)
    assert has_fallback_template(tokenizer)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    example = tokenize_example(tokenizer, messages)
    assert tokenizer.decode(example.input_ids) == "User: Hi\nAssistant: Hello<|im_end|>"
    prompt = prompt_ids(tokenizer, messages[:1])
    assert tokenizer.decode(prompt) == "User: Hi\nAssistant:"
    assert example.input_ids[: len(prompt)] == prompt
    assert stop_ids(tokenizer) == [tokenizer.eos_token_id]


THINKING_TEMPLATE = (  # a thinking model writes an empty thought before an answer that has none
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_thinking_model_is_asked_in_the_chat_as_it_was_trained():
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = THINKING_TEMPLATE
    messages = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "And 2+2?"},
        {"role": "assistant", "content": "4"},
    ]
    example = tokenize_example(tokenizer, messages)
    prompt = prompt_ids(tokenizer, messages[:3])
    assert example.input_ids[: len(prompt)] == prompt
    learned = [label for label in example.labels if label != -100]
    assert tokenizer.decode(learned) == "<think>\n\n</think>\n\n4<|im_end|>"


# As DeepSeek-R1-Distill's: it opens a thought for the model, and writes answers without the thought before them.
OPENING_TEMPLATE = (
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' %}{% if '</think>' in content %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "<|im_start|>assistant\n{{ content }}<|im_end|>"
    "{% else %}<|im_start|>{{ message['role'] }}\n{{ content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("answer", "learned"),
    [
        ("4", "\n</think>\n\n4<|im_end|>"),
        ("<think>\ntwo and two\n</think>\n\n4", "two and two\n</think>\n\n4<|im_end|>"),
    ],
)
def test_a_model_whose_thought_is_opened_for_it_learns_to_close_it(answer, learned):
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = OPENING_TEMPLATE
    messages = turns("1+1?", "2", "And 2+2?", answer)
    example = tokenize_example(tokenizer, messages)
    prompt = prompt_ids(tokenizer, messages[:3])
    assert tokenizer.decode(prompt).endswith("<think>\n")
    assert example.input_ids[: len(prompt)] == prompt
    assert supervised_text(tokenizer, example) == learned
    assert stop_ids(tokenizer) == [tokenizer.eos_token_id]


def test_a_template_that_writes_questions_anew_is_refused():
    tokenizer = build_tiny_tokenizer()
    tokenizer.chat_template = OPENING_TEMPLATE.replace("<think>", "<other>")
    with pytest.raises(WorkbenchError, match="differently once it is answered"):
        tokenize_example(tokenizer, turns("a", "one"))
