"""No file makes the check crash: valid files of every kind, broken in every way we can think of."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.sample_files import FILES
from workbench.data.check import check_file
from workbench.data.fixes import offered_fixes
from workbench.data.problems import text_problems
from workbench.data.report import report_from_json
from workbench.data.source import UNPACKED_LIMIT_BYTES

SECONDS_PER_FILE = 20
MEMORY_BYTES = 1_500_000_000

# Put in somewhere, each has broken some reader of data files before.
NASTY = [
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b'"\\ud800"',
    b"\\ud83d",
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"-",
    b"[" * 3000,
    b'{"a":' * 3000,
    b'"',
    b"\\",
    b"\r",
    b"\n\n",
    b",,,,",
    b'{"instruction": 1, "instruction": "Q", "output": "A"},',
    b'{"messages": [{"role": "tool", "content": null}]}',
    b'{"conversations": [[], {}, 3, null, {"from": 3, "value": {}}]}',
    b'=HYPERLINK("http://x")',
    "‮\u2028\ufeff".encode(),
]


@st.composite
def broken_files(draw):
    name = draw(st.sampled_from(sorted(FILES)))
    content = bytearray(FILES[name])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["cut", "flip", "insert", "repeat", "remove", "retype"])):
            case "cut":
                del content[at:]
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                content[at:at] = draw(st.sampled_from(NASTY))
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 400))]
            case "remove":
                del content[at : at + draw(st.integers(1, 40))]
            case "retype":
                text = draw(st.sampled_from([b'"', b"{", b"[", b":", b"output", b"from"]))
                new = draw(st.sampled_from([b"", b"null", b"3", b"[]", b"{}", b"x"]))
                content = bytearray(content.replace(text, new, draw(st.integers(1, 5))))
    return bytes(content)


@settings(
    max_examples=1_000,
    deadline=SECONDS_PER_FILE * 1000,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(content=broken_files())
def test_a_broken_file_gives_a_report(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    kept = []
    report = check_file(path, "file", keep=lambda row, conversation: kept.append(conversation))
    assert len(kept) == report.usable_rows <= report.rows
    assert report.is_usable or report.errors
    json.dumps(kept, ensure_ascii=False).encode()  # what is kept can be written
    document = json.loads(json.dumps(report.as_json()))
    assert report_from_json(document) == report
    assert all(words for words in offered_fixes(report).values())


def check_in_bounds(path):
    """Check a file in a process that may use so much memory and no more."""
    code = f"""
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
from workbench.data.check import check_file
report = check_file(Path(sys.argv[1]), "huge")
print(report.rows, report.usable_rows, *[p.code for p in report.problems])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def one_long_line(size):
    return json.dumps([{"instruction": "Q", "output": "x" * size}]).encode()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such memory limit")
@pytest.mark.parametrize(
    ("content", "rows", "usable_rows"),
    [
        (one_long_line(50_000_000), "1", "1"),
        (one_long_line(50_000_000)[:-20_000_000], "1", "0"),
        (b'{"instruction": "' + b"x" * 50_000_000, "1", "0"),
        (b"a," * 25_000_000, "0", "0"),
        (b'a,b\n"' + b"x" * 50_000_000, "1", "0"),
        (b"[" * 50_000_000, "1", "0"),
        (b"[" + b"1," * 300_000 + b"1]", "300001", "0"),
    ],
    ids=["line", "cut line", "cut object", "columns", "open quote", "nested", "numbers"],
)
def test_a_huge_file_stays_in_bounds(tmp_path, content, rows, usable_rows):
    path = tmp_path / "huge.json"
    path.write_bytes(content)
    assert check_in_bounds(path)[:2] == [rows, usable_rows]


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    [
        "{{" + " " * 300_000,
        "{{a" * 100_000,
        "password " * 30_000 + " " * 100_000,
        "a" * 150_000 + "@" + "b" * 150_000,
        "@a." * 100_000,
        "+1 2 3 4 5 " * 30_000,
        "555-" * 75_000,
        "1" * 300_000,
        "sk-" * 100_000,
        "-----BEGIN " * 30_000,
        "[your " * 50_000,
        "`" * 300_000,
    ],
)
def test_no_text_keeps_a_search_busy(text):
    list(text_problems(text, text))


@pytest.mark.parametrize("inner", [b"[1]" * 1000, gzip.compress(b"[1]")], ids=["zeros", "twice"])
def test_a_packed_bomb_is_refused(tmp_path, monkeypatch, inner):
    monkeypatch.setattr("workbench.data.source.UNPACKED_LIMIT_BYTES", 1000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(inner))
    report = check_file(path, "bomb.gz")
    assert [problem.code for problem in report.problems] == ["unreadable"]
    assert "bomb.gz" in report.problems[0].message


def test_a_workbook_that_claims_to_be_huge_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "bomb.xlsx"
    path.write_bytes(FILES["alpaca.xlsx"])
    assert check_file(path, "bomb.xlsx").is_usable
    monkeypatch.setattr("workbench.data.source.UNPACKED_LIMIT_BYTES", 1000)
    assert "unpacks to more than" in check_file(path, "bomb.xlsx").problems[0].message
    assert UNPACKED_LIMIT_BYTES >= 1e9  # the real one lets real files pass


def test_random_bytes_are_no_text(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(random.Random(0).randbytes(10_000))
    assert [problem.code for problem in check_file(path, "noise").errors] == ["unreadable"]
