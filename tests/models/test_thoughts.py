import pytest

from workbench.models.thoughts import answer_of, before_thought, thought_of, without_empty_thought


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("positive", "", "positive"),
        ("<think>\n\n</think>\n\npositive", "", "positive"),
        ("\n</think>\n\npositive", "", "positive"),  # the template had opened it
        ("<think>\nIt is praise.\n</think>\n\npositive", "It is praise.", "positive"),
        ("It is praise.</think>positive", "It is praise.", "positive"),
        ("<think>\nIt is pr", "", "<think>\nIt is pr"),  # cut at the longest length
    ],
)
def test_thought_and_answer(text, thought, answer):
    assert answer_of(text) == answer
    assert thought_of(text) == thought
    assert without_empty_thought(text) == (text if thought else answer)


@pytest.mark.parametrize("written", ["<think>\n\n</think>\n\nfour", "\n</think>\n\nfour"])
def test_while_it_is_written_an_empty_thought_never_shows(written):
    shown = [without_empty_thought(written[:end]) for end in range(len(written) + 1)]
    assert all("four".startswith(text.strip()) for text in shown)
    assert shown[-1] == "four"
    assert without_empty_thought("<b>") == "<b>"


def test_a_prompt_that_opens_a_thought():
    assert before_thought("<assistant>\n<think>\n") == "<assistant>\n"
    assert before_thought("<think>a</think>") is None
