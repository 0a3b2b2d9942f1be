"""A run's log, as a person may see it."""

from __future__ import annotations

from types import SimpleNamespace

from workbench.runs.logs import read_log


def test_keys_and_tokens_are_masked_and_lines_that_overwrite_each_other_stay_lines(tmp_path):
    run = SimpleNamespace(log_path=tmp_path / "log.txt")
    assert read_log(run) == ("", 0)
    token, other = "hf_" + "a1" * 17, "ms-01234567-89ab-cdef-0123-456789abcdef"
    run.log_path.write_bytes(f"10%\r20%\r\ntoken={token}\nsk-{'x' * 30}\n{other}\n".encode())
    text, offset = read_log(run)
    assert text == "10%\n20%\ntoken=hf_a…\nsk-x…\nms-0…\n"
    with run.log_path.open("ab") as log:
        log.write(b"more\n\xff")
    assert read_log(run, offset=offset) == ("more\n\ufffd", offset + 6)
    assert read_log(run, 3)[0] == "\ufffd"


def test_the_end_of_a_log_begins_with_a_line_so_that_no_half_of_a_key_is_shown(tmp_path):
    run = SimpleNamespace(log_path=tmp_path / "log.txt")
    run.log_path.write_text(f"token=hf_{'a1' * 17}\nlast\n")
    assert read_log(run, 20)[0] == "last\n"
