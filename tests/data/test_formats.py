import pytest

from workbench.data.formats import RowProblem, alpaca_conversation, unknown_fields


def roles_and_texts(row):
    return [(m["role"], m["content"]) for m in alpaca_conversation(row)["messages"]]


def test_the_full_form():
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


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"instruction": "Q"}, r"no answer. `output` is missing \(fields found: `instruction`\)"),
        ({"instruction": "Q", "response": "A"}, "`response`"),
        ({"instruction": "Q", "output": ""}, "`output` is empty"),
        ({"instruction": "Q", "output": "  \n"}, "`output` is empty"),
        ({"instruction": "Q", "output": 3}, "`output` is a number, not text"),
        ({"instruction": "Q", "output": True}, "`output` is true or false, not text"),
        ({"instruction": ["Q"], "output": "A"}, "`instruction` is a list, not text"),
        ({"instruction": {"a": 1}, "output": "A"}, "`instruction` is an object"),
        ({"output": "A"}, "no question"),
        ({"instruction": "Q", "output": "A", "history": "Hi"}, "`history` must be a list"),
        ({"instruction": "Q", "output": "A", "history": [["Hi"]]}, "`history` must be a list"),
        ("text", "text where an example was expected"),
        (None, "null where an example was expected"),
    ],
)
def test_a_bad_row_says_what_and_what_to_do(row, words):
    with pytest.raises(RowProblem, match=words):
        alpaca_conversation(row)


def test_unknown_fields_are_named():
    assert unknown_fields({"instruction": "Q", "output": "A", "id": 3}) == ["id"]
