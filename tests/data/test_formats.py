import pytest

from workbench.data.detect import check_mapping, detect, parse_mapping
from workbench.data.formats import Mapping, Repairs, RowProblem, as_record, convert
from workbench.errors import WorkbenchError

ALPACA = Mapping("instruction", "output", "input", "system", "history")
TURNS = Mapping(messages="messages", system="system")
Q, A = {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}


def roles_and_texts(row, mapping=ALPACA, **repairs):
    messages = convert(row, mapping, Repairs(**repairs))["messages"]
    return [(message["role"], message["content"]) for message in messages]


def test_the_full_alpaca_form():
    row = {
        "instruction": "Translate",
        "input": "Hello",
        "output": "Bonjour",
        "system": "Be brief.",
        "history": [["Hi", "Hey"]],
    }
    assert roles_and_texts(row) == [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hey"),
        ("user", "Translate\nHello"),
        ("assistant", "Bonjour"),
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "Q", "output": "A"},
        {"instruction": "Q", "input": "", "output": "A", "system": "", "history": []},
        {"instruction": "Q", "input": None, "output": "A", "system": None, "history": None},
        {"input": "Q", "output": "A"},
    ],
)
def test_optional_fields_may_be_empty_or_absent(row):
    assert roles_and_texts(row) == [("user", "Q"), ("assistant", "A")]


def test_turns_in_the_spellings_of_sharegpt_and_openai():
    row = {"messages": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": "S"}  # fmt: skip
    assert roles_and_texts(row, TURNS) == [("system", "S"), ("user", "Q"), ("assistant", "A")]
    parts = [{"type": "text", "text": "Q1"}, {"type": "text", "text": "Q2"}]
    row = {"messages": [{"role": "user", "content": parts}, A]}
    assert roles_and_texts(row, TURNS) == [("user", "Q1Q2"), ("assistant", "A")]


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        ({"instruction": "Q"}, "missing-answer", r"`output` is missing \(fields found: `instruc"),
        ({"instruction": "Q", "output": ""}, "empty-answer", "`output` is empty"),
        ({"instruction": "Q", "output": " \n"}, "empty-answer", "`output` is empty"),
        ({"instruction": "Q", "output": None}, "empty-answer", "`output` is null"),
        ({"instruction": "Q", "output": 3}, "wrong-type", "`output` is a number, not text"),
        ({"instruction": "Q", "output": True}, "wrong-type", "`output` is true or false, not"),
        ({"instruction": ["Q"], "output": "A"}, "wrong-type", "`instruction` is a list, not"),
        ({"instruction": {"a": 1}, "output": "A"}, "wrong-type", "`instruction` is an object"),
        ({"output": "A"}, "empty-question", "no question"),
        ({"instruction": "Q", "output": "A", "history": "H"}, "wrong-type", "`history` must be"),
        ({"instruction": "Q", "output": "A", "history": [["H"]]}, "wrong-type", "`history` must"),
        ({"instruction": "Q", "output": "A", "history": [["", ""]]}, "empty-question", "is empty"),
        ({"instruction": "Q", "output": "A", "history": [["H", " "]]}, "empty-answer", "is empty"),
        ({"instruction": "Q", "output": "\ud800"}, "broken-character", "half of a character"),
        ("text", "not-a-row", "text where a row was expected"),
        (None, "not-a-row", "null where a row was expected"),
    ],
)
def test_a_bad_row_says_what_is_wrong(row, code, words):
    with pytest.raises(RowProblem, match=words) as problem:
        convert(row, ALPACA)
    assert problem.value.code == code


@pytest.mark.parametrize(
    ("turns", "code", "words"),
    [
        ([], "wrong-type", "an empty list, not a list of turns"),
        ("Hi", "wrong-type", "text, not a list of turns"),
        ([Q], "missing-answer", "the assistant says nothing"),
        ([Q, A, Q], "no-final-answer", "does not end on an answer"),
        ([A], "turn-order", r"do not take turns \(assistant\)"),
        ([Q, Q, A], "turn-order", r"\(user, user, assistant\)"),
        ([Q, {"role": "system", "content": "S"}, A], "turn-order", "user, system, assistant"),
        ([Q, {"role": "tool", "content": "x"}, A], "unknown-role", "turn 2 is by “tool”"),
        ([Q, {"role": 3, "content": "x"}], "unknown-role", "turn 2 is by a number"),
        ([Q, {"role": "assistant", "content": None}], "wrong-type", "turn 2: .* null, not text"),
        ([Q, {"role": "assistant", "content": " "}], "empty-answer", "turn 2 is empty"),
        ([Q, {"role": "assistant", "content": [{"type": "image"}]}], "wrong-type", "null, not"),
        ([Q, "A"], "wrong-type", "turn 2 is text, not an object"),
    ],
)
def test_a_bad_conversation_says_what_is_wrong(turns, code, words):
    with pytest.raises(RowProblem, match=words) as problem:
        convert({"messages": turns}, TURNS)
    assert problem.value.code == code


def test_numbers_and_true_or_false_are_turned_into_text():
    row = {"instruction": 3, "output": True}
    assert roles_and_texts(row, convert=True) == [("user", "3"), ("assistant", "true")]


def test_spaces_and_characters_that_are_no_text_are_trimmed():
    row = {"instruction": " Q\x00", "output": "\n\ud800A\ufffd "}
    assert roles_and_texts(row, trim=True) == [("user", "Q"), ("assistant", "A")]


def test_what_was_said_after_the_last_answer_is_left_out():
    assert roles_and_texts({"messages": [Q, A, Q]}, TURNS, cut_unanswered=True) == [
        ("user", "Q"),
        ("assistant", "A"),
    ]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"instruction": "Q", "output": "\x01 \ufffd"}, "empty-answer"),
        ({"instruction": "\ufffd", "output": "A"}, "empty-question"),
    ],
)
def test_of_what_is_no_text_nothing_is_left_to_learn(row, code):
    with pytest.raises(RowProblem, match="nothing but characters that are no text") as problem:
        convert(row, ALPACA, Repairs(trim=True))
    assert problem.value.code == code
    system = {"instruction": "Q", "output": "A", "system": "\x01"}
    assert roles_and_texts(system, trim=True) == [("user", "Q"), ("assistant", "A")]


def test_a_prefix_comes_before_the_question():
    mapping = Mapping("text", "label", prefix="Good or bad?")
    assert roles_and_texts({"text": "Fine!", "label": "good"}, mapping) == [
        ("user", "Good or bad?\nFine!"),
        ("assistant", "good"),
    ]


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "S"}]])
@pytest.mark.parametrize("pairs", [1, 3])
def test_a_record_is_read_back_as_the_same_conversation(system, pairs):
    conversation = {"messages": [*system, *[Q, A] * pairs]}
    assert convert(as_record(conversation), ALPACA) == conversation


@pytest.mark.parametrize(
    ("row", "kind", "mapping"),
    [
        ({"instruction": "", "output": ""}, "alpaca", ALPACA),
        ({"instruction": "", "input": "", "output": "", "text": ""}, "alpaca", ALPACA),
        ({"prompt": "", "completion": ""}, "prompt-completion", ("prompt", "completion", "")),
        ({"question": "", "answer": "", "id": 3}, "question-answer", ("question", "answer", "")),
        ({"Question": "", "context": "", "Answer": ""}, "question-answer", ("Question", "Answer", "context")),
        ({"instruction": "", "context": "", "response": "", "category": ""}, "question-answer", ("instruction", "response", "context")),
        ({"input": "", "output": ""}, "question-answer", ("input", "output", "")),
        ({"query": "", "response": ""}, "question-answer", ("query", "response", "")),
        ({"text": "", "label": 0}, "text-label", ("text", "label", "")),
        ({"conversations": [{"from": "human", "value": "Q"}]}, "sharegpt", "conversations"),
        ({"messages": [Q, A]}, "openai", "messages"),
    ],
)  # fmt: skip
def test_fields_are_recognised_by_name(row, kind, mapping):
    found = detect([row, 3, row])
    assert found.format == kind
    if isinstance(mapping, str):
        mapping = Mapping(messages=mapping, system="system")
    elif isinstance(mapping, tuple):
        mapping = Mapping(*mapping, system="system", history="history")
    assert found.mapping == mapping


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "", "answer": "", "response": "", "prompt": "", "completion": ""}, "Several readings"),
        ({"instruction": "", "answer": "", "response": ""}, "Both `response` and `answer` could be"),
        ({"instruction": "", "question": "", "answer": "", "output": ""}, "Several readings"),
        ({"prompt": "", "query": "", "answer": ""}, "could be the question"),
        ({"a": "", "b": ""}, "is the question or the answer. Columns: `a`, `b`."),
        ({"text": "", "score": 1}, "is the answer"),
        ({"messages": [Q, A], "instruction": "", "output": ""}, "Several readings"),
        ({"instruction": "", "messages": "not turns"}, "is the answer"),
    ],
)  # fmt: skip
def test_where_two_readings_are_possible_nobody_guesses(row, words):
    found = detect([row])
    assert found.mapping is None
    assert words in found.question


def test_a_mapping_must_fit():
    check_mapping(Mapping("a", "b"), ["a", "b", "c"])
    for mapping, words in (
        (Mapping("a"), "Choose the column"),
        (Mapping("a", "x"), "There is no column `x`"),
        (Mapping("a", "a"), "chosen twice"),
    ):
        with pytest.raises(WorkbenchError, match=words):
            check_mapping(mapping, ["a", "b"])


def test_a_mapping_from_the_command_line():
    assert parse_mapping([]) is None
    assert parse_mapping(["question=a", "answer=b c"]) == Mapping("a", "b c")
    with pytest.raises(WorkbenchError, match="is not understood"):
        parse_mapping(["frage=a"])
