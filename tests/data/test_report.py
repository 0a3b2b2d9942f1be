import json

import pytest

from tests.data.sample_files import ALPACA, LABELS, as_json, as_table
from workbench.data.check import check_file
from workbench.data.fixes import Fixes, fix_file, offered_fixes
from workbench.data.formats import Mapping
from workbench.data.problems import KINDS
from workbench.data.store import SAMPLES
from workbench.errors import WorkbenchError
from workbench.settings import SAMPLES_DIR


def write(tmp_path, rows, name="mine.json"):
    path = tmp_path / name
    path.write_bytes(rows if isinstance(rows, bytes) else as_json(rows, indent=1))
    return path


def check(tmp_path, rows, mapping=None):
    return check_file(write(tmp_path, rows), "mine.json", mapping)


def found(report):
    return {problem.code: problem for problem in report.problems}


def pair(question, answer):
    return {"instruction": question, "output": answer}


def test_a_clean_file_has_no_problem(tmp_path):
    report = check(tmp_path, ALPACA)
    assert report.is_usable
    assert report.problems == ()
    assert (report.rows, report.usable_rows, report.format) == (25, 25, "alpaca")
    assert report.characters == sum(len("".join(row.values())) + 1 for row in ALPACA)


@pytest.mark.parametrize(
    ("code", "row", "detail"),
    [
        ("missing-answer", {"instruction": "Q"}, "no answer"),
        ("empty-answer", pair("Q", ""), "`output` is empty"),
        ("empty-question", pair("", "A"), "no question"),
        ("wrong-type", pair("Q", ["A"]), "`output` is a list"),
        ("not-a-row", 7, "a number where"),
        ("broken-character", pair("Q", "\ud83d"), "half of a character"),
        ("control-character", pair("Q", "A\x07B"), "U+0007"),
        ("control-character", pair("Q", "caf\ufffd"), "U+FFFD"),
        ("outer-space", pair("Q", " A"), "begins or ends"),
        ("duplicate", ALPACA[0], "the same as row 1."),
        ("conflicting-answers", {**ALPACA[0], "output": "no"}, "row 1 answers the same question"),
        ("placeholder", pair("Q", "Dear {{ name }}, hello"), "“{{ name }}”"),
        ("placeholder", pair("Q", "TODO: write this"), "“TODO”"),
        ("placeholder", pair("Q", "Dear [Your Name],"), "“[Your Name]”"),
        ("placeholder", pair("Q", "As an AI language model, I cannot"), "As an AI language model"),
        ("secret", pair("Q", "use AKIAIOSFODNN7EXAMPLE"), "“AKIA…”"),
        ("secret", pair("Q", f"hf_{'a' * 34}"), "“hf_a…”"),
        ("secret", pair("Q", "-----BEGIN RSA PRIVATE KEY-----"), "“----…”"),
        ("secret", pair("Q", "password: hunter2hunter2"), "“pass…”"),
        ("personal-data", pair("Q", "write to jo.smith@mail.com"), "“jo.s…”"),
        ("personal-data", pair("Q", "call +49 30 901820 now"), "“+49 …”"),
        ("personal-data", pair("Q", "call (212) 736-5000"), "“(212…”"),
        ("personal-data", pair("Q", "电话 13912345678。"), "“1391…”"),
    ],
)
def test_every_row_problem_is_found_with_its_place(tmp_path, code, row, detail):
    rows = json.dumps([*ALPACA, row]).encode()
    problem = found(check(tmp_path, rows))[code]
    assert (problem.count, problem.first[0].row, problem.first[0].line) == (1, 26, 1)
    assert detail in problem.first[0].detail
    assert problem.severity == KINDS[code].severity
    assert problem.message.startswith("1 row ")


@pytest.mark.parametrize(
    "text",
    [
        "A normal answer, with 1,234,567 and 2023-10-12 and 3.14159265358979.",
        "x = {'a': {'b': 1}}; f(todo_list); #include <your.h>",
        "Mail info@example.com or user@example.org, price 12-3456.",
        "A task-based skill; risk-free asks: sk-ill.",
        "Çà et là, 你好 😀 مرحبا \u200d\n\tend",
        "Call (555) 123-4567 or 555-0100.",
        "Today +1 and -2 = -1; 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8",
    ],
)
def test_ordinary_text_raises_no_alarm(tmp_path, text):
    assert check(tmp_path, [*ALPACA, pair("Q", text)]).problems == ()


def test_a_secret_is_not_repeated_in_the_report(tmp_path):
    report = check(tmp_path, [*ALPACA, pair("Q", "AKIAIOSFODNN7EXAMPLE")])
    assert "IOSFODNN7" not in json.dumps(report.as_json()["problems"])


def test_only_the_first_places_are_kept_and_all_are_counted(tmp_path):
    report = check(tmp_path, [ALPACA[0], *[{"instruction": "Q"}] * 40])
    problem = found(report)["missing-answer"]
    assert (problem.count, len(problem.first)) == (40, 5)
    assert not report.is_usable
    assert report.usable_rows == 1


def test_labels_are_counted_and_their_balance_is_judged(tmp_path):
    assert check(tmp_path, as_table(LABELS)).labels == {"bad": 15, "good": 15}
    assert check(tmp_path, ALPACA).labels == {}
    rows = [pair(f"Q{n}", "yes") for n in range(95)] + [pair("a", "no"), pair("b", "No")]
    problems = found(check(tmp_path, rows))
    assert (
        "“yes” is the answer in 95 of 97 rows (98%)" in problems["label-imbalance"].first[0].detail
    )
    assert problems["rare-label"].count == 2


def test_few_rows_unused_columns_and_old_encodings_are_told(tmp_path):
    rows = [{**row, "id": 3, "source": "x"} for row in ALPACA[:4]]
    problems = found(check(tmp_path, rows))
    assert problems["unused-column"].message.startswith("2 columns are not used")
    assert problems["few-rows"].message.startswith("4 rows in all")
    french = json.dumps([pair("Où est l'été ?", "L'été est passé, déjà.")] * 9, ensure_ascii=False)
    assert "CP1252" in found(check(tmp_path, french.encode("cp1252")))["old-encoding"].first[0].detail  # fmt: skip


def test_a_field_that_first_comes_late_is_used(tmp_path):
    late = {**pair("late", "A"), "system": "S"}
    kept = []
    path = write(tmp_path, [pair(f"Q{n}", "A") for n in range(300)] + [late])
    check_file(path, "mine.json", keep=lambda row, conversation: kept.append(conversation))
    assert kept[-1]["messages"][0] == {"role": "system", "content": "S"}


def test_unknown_columns_are_asked_for_and_a_mapping_answers(tmp_path):
    rows = [{"frage": f"Q{n}", "antwort": f"A{n}"} for n in range(30)]
    report = check(tmp_path, rows)
    assert [problem.code for problem in report.problems] == ["unknown-columns"]
    assert report.fields == ("frage", "antwort")
    assert report.preview[0] == rows[0]
    report = check(tmp_path, rows, Mapping("frage", "antwort"))
    assert report.is_usable
    assert report.format == "mapped"
    with pytest.raises(WorkbenchError, match="no column `x`"):
        check(tmp_path, rows, Mapping("frage", "x"))


BAD = [
    *ALPACA,
    {"instruction": "no answer"},
    pair("number", 3),
    ALPACA[0],
    pair("space", " A "),
    pair("key", "AKIAIOSFODNN7EXAMPLE"),
    pair("list", []),
]


def test_only_repairs_that_change_something_are_offered(tmp_path):
    assert offered_fixes(check(tmp_path, ALPACA)) == {}
    assert offered_fixes(check(tmp_path, BAD)) == {
        "convert": "Turn numbers and true/false into text (2 rows)",
        "trim": "Remove outer space and characters that are no text (1 row)",
        "deduplicate": "Keep only the first of equal rows (1 row)",
        "drop-invalid": "Leave out rows that stop training (3 rows)",
        "drop:secret": "Leave out rows with what looks like a password or key (1 row)",
    }


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_a_repaired_copy_is_clean_and_the_original_untouched(tmp_path, suffix):
    path = write(tmp_path, BAD)
    original = path.read_bytes()
    fixes = Fixes.for_names(offered_fixes(check_file(path, "mine.json")))
    before, after = fix_file(path, "mine.json", tmp_path / f"fixed{suffix}", fixes)
    assert path.read_bytes() == original
    assert not before.is_usable
    assert (after.rows, after.problems, after.container) == (27, (), suffix[1:])
    assert sorted(tmp_path.iterdir()) == [tmp_path / f"fixed{suffix}", path]


def test_each_repair_does_only_its_own(tmp_path):
    path = write(tmp_path, BAD)
    for name, gone in (
        ("drop-invalid", {"missing-answer", "wrong-type"}),
        ("deduplicate", {"duplicate"}),
        ("trim", {"outer-space"}),
        ("drop:secret", {"secret"}),
    ):
        names = {name, "drop-invalid"}  # what stops training cannot be written
        out_path = tmp_path / f"{name.replace(':', '-')}.json"
        before, after = fix_file(path, "mine.json", out_path, Fixes.for_names(names))
        assert set(found(before)) - set(found(after)) == gone | {"missing-answer", "wrong-type"}


def test_a_row_that_is_left_out_leaves_the_good_answer_to_its_question(tmp_path):
    secret = {
        "instruction": "Q",
        "output": "My key is sk-abcdefghijklmnopqrstuvwxyz0123456789ABCDEF.",
    }
    clean = {"instruction": "Q", "output": "I keep my keys to myself."}
    path = write(tmp_path, [secret, clean, *ALPACA])
    assert found(check_file(path, "mine.json")).keys() == {"secret", "conflicting-answers"}
    fixes = Fixes.for_names(["drop:secret", "drop:conflicting-answers"])
    _, after = fix_file(path, "mine.json", tmp_path / "f.json", fixes)
    assert after.rows == len(ALPACA) + 1
    assert clean["output"] in (tmp_path / "f.json").read_text(encoding="utf-8")


def test_two_repairs_to_one_name_do_not_take_each_others_file(tmp_path):
    path = write(tmp_path, ALPACA)
    (tmp_path / "f.json.part").write_text("another repair's")
    fix_file(path, "mine.json", tmp_path / "f.json", Fixes.for_names(["trim"]))
    assert (tmp_path / "f.json.part").exists()


def test_the_readable_part_of_a_broken_file_can_be_kept(tmp_path):
    path = write(tmp_path, as_json(ALPACA, indent=1)[:-30])
    report = check_file(path, "mine.json")
    assert (report.usable_rows, found(report)["broken-row"].count) == (24, 1)
    _, after = fix_file(path, "mine.json", tmp_path / "f.json", Fixes.for_names(["drop-invalid"]))
    assert (after.rows, after.is_usable) == (24, True)


def test_nothing_is_written_when_nothing_is_left(tmp_path):
    path = write(tmp_path, [{"instruction": "Q"}, {"instruction": "Q", "output": ""}])
    with pytest.raises(WorkbenchError, match="Nothing of"):
        fix_file(path, "mine.json", tmp_path / "f.json", Fixes.for_names(["drop-invalid"]))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("file", [file for file, _ in SAMPLES.values()])
def test_samples_are_clean_and_share_no_question_with_what_is_held_out(file):
    questions = []
    for path in (SAMPLES_DIR / file, SAMPLES_DIR / file.replace(".json", "-heldout.json")):
        asked = set()
        report = check_file(
            path, file, keep=lambda row, c, asked=asked: asked.add(c["messages"][0]["content"])
        )
        assert report.problems == ()
        questions.append(asked)
    assert not questions[0] & questions[1]
