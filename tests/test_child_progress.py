from dataclasses import replace

from workbench.child_progress import Progress, ProgressWriter, read_progress


def test_the_newest_whole_line_counts(tmp_path):
    path = tmp_path / "progress.jsonl"
    assert read_progress(path) is None
    writer = ProgressWriter(path)
    writer.enter("Merging", 4)
    writer.advance(1)
    writer.advance(2)
    with path.open("a") as file:
        file.write('{"words": "half-wri')
    last = read_progress(path)
    assert (last.words, last.done, last.total, last.state) == ("Merging", 3, 4, "running")


def test_the_rest_takes_as_long_as_what_is_done():
    moment = Progress("Merging", 3, 4, part_began=100, time=130)
    assert moment.eta_seconds == 10
    assert replace(moment, done=0).eta_seconds is None
    assert replace(moment, state="stopped").eta_seconds is None
