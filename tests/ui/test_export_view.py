"""What the page says of exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from tests.made_runs import make_run
from workbench.child_progress import Progress
from workbench.export.history import RunExport
from workbench.export.process import ExportResult, make_request
from workbench.export.request import GGUF_TYPES, KINDS
from workbench.export.sums import ExportedFile
from workbench.services import Services
from workbench.settings import Settings
from workbench.ui.app import build_app
from workbench.ui.export_views import (
    GGUF_LABELS,
    KIND_HELP,
    KIND_LABELS,
    delete_export_question,
    export_choices,
    export_to_follow,
    exports_html,
    progress_html,
    size_words,
    stored_update,
    upload_question,
)

HOSTILE = '"><script>alert(1)</script>'


def export(path, progress=None, kind="gguf", usage=("one", "two", "three")):
    progress = progress or Progress(state="finished")
    done = progress.state == "finished"
    files = (ExportedFile(HOSTILE, 2_000_000, "a" * 64),)
    result = ExportResult(kind, str(path), files, usage, {}, (HOSTILE,)) if done else None
    return RunExport(path.parent / "id-1", make_request(kind, path), progress, result)


def test_every_kind_is_named_and_explained():
    assert set(KIND_LABELS) == set(KIND_HELP) == set(KINDS)
    assert set(GGUF_LABELS) == set(GGUF_TYPES)


def test_sizes_are_said_before():
    assert "About 270 MB; 12.0 GB are free" in size_words("gguf", 270e6, 12e9)
    assert "A few kB" in size_words("card", 0, 12e9)
    assert "At most 3 MB" in size_words("bundle", 3e6, 12e9)


def test_a_file_is_downloaded_by_its_address_and_a_folder_file_by_file(tmp_path):
    path = tmp_path / "my model.gguf"
    path.write_bytes(b"x")
    text = exports_html([export(path)], tmp_path)
    assert f'href="gradio_api/file={tmp_path}/my%20model.gguf" download="my model.gguf"' in text
    assert "2 MB" in text
    assert "a" * 64 in text
    assert "one\ntwo\nthree" in text
    # Elsewhere on this computer: only its place.
    assert "href" not in exports_html([export(path)], tmp_path / "exports")
    folder = tmp_path / "merged"
    folder.mkdir()
    text = exports_html([export(folder, kind="merged")], tmp_path)
    assert text.count("href") == 1
    assert f'href="gradio_api/file={folder}/%22%3E%3Cscript%3E' in text
    assert "<script" not in text
    assert "href" not in exports_html([export(folder, kind="merged")], tmp_path / "exports")
    assert str(folder) in text


def test_what_a_run_or_file_is_called_is_no_html(tmp_path):
    path = Path(f"{tmp_path}/{HOSTILE.replace('/', '')}.gguf")
    texts = [
        exports_html([export(path, usage=(HOSTILE,))], tmp_path),
        progress_html(export(path, Progress(HOSTILE, 1, 2))),
        progress_html(export(path, Progress("", state="failed", message=HOSTILE))),
    ]
    for text in texts:
        assert "<script" not in text
        assert "&lt;script" in text


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (
            Progress("Merging", 1, 4, part_began=0.0, time=30.0),
            "Merging: 25 %, about 2 minutes left",
        ),
        (Progress("Merging", 1, 4, part_began=0.0, time=30.0), "width:25%"),
        (Progress("Loading the model"), "wb-unknown"),
        (Progress("", state="stopped"), "cancelled"),
        (Progress("", state="failed", message="Full.", hint="Free some."), "Full. Free some."),
    ],
)
def test_how_far_it_is(tmp_path, progress, words):
    assert words in progress_html(export(tmp_path / "a.gguf", progress))


def test_what_is_done_is_listed_not_told(tmp_path):
    done = export(tmp_path / "a.gguf")
    assert progress_html(done) == progress_html(None) == ""
    ((label, export_id),) = export_choices([done, export(tmp_path / "b.gguf", Progress())])
    assert label.startswith("a.gguf, 2 MB, ")
    assert export_id == "id-1"


def test_what_is_chosen_to_be_deleted_stays_chosen(tmp_path):
    newest = export(tmp_path / "new.gguf")
    older = replace(export(tmp_path / "old.gguf"), directory=tmp_path / "id-2")
    assert "value" not in stored_update([newest, older], "id-2")
    assert stored_update([newest], "id-2")["value"] == "id-1"  # it is gone
    assert stored_update([newest, older], None)["value"] == "id-1"
    assert stored_update([], "id-2") == {"choices": [], "value": None}
    question = delete_export_question(older)
    assert r"“old\.gguf”" in question
    assert "frees 2 MB" in question


def test_one_that_runs_is_followed_though_a_newer_one_is_done(tmp_path):
    done, running = export(tmp_path / "a.gguf"), export(tmp_path / "b.gguf", Progress())
    assert export_to_follow([done, running]) is running
    assert export_to_follow([done, done]) is done
    assert export_to_follow([]) is None


def test_a_run_that_was_deleted_elsewhere_ends_the_looking(tmp_path):
    page = build_app(Services.for_workspace(Settings(home_dir=tmp_path)))
    (show,) = {f.fn for f in page.fns.values() if f.name == "show_exports"}
    told = show("20260101-gone", "saved", "adapter", "F16", False, None)
    assert "was deleted meanwhile" in told[0]
    assert [one.active for one in told if isinstance(one, gr.Timer)] == [False]
    counts = {len(f.outputs) for f in page.fns.values() if f.name == "show_exports"}
    assert counts == {len(told)}


def uploaded(tmp_path, **changes):
    made = export(tmp_path / "upload-maria--juniper", **changes)
    result = made.result and replace(made.result, path="https://hub.example/maria/juniper")
    request = replace(made.request, repository="maria/juniper")
    return replace(made, request=request, result=result)


def test_an_upload_shows_its_address_and_takes_no_disk(tmp_path):
    text = exports_html([uploaded(tmp_path)], tmp_path)
    assert 'href="https://hub.example/maria/juniper" target="_blank" rel="noopener"' in text
    assert "On this computer" not in text
    assert export_choices([uploaded(tmp_path)]) == []
    stopped = progress_html(uploaded(tmp_path, progress=Progress("", state="stopped")))
    assert "maria/juniper: cancelled. Nothing was uploaded." in stopped


def test_the_question_says_what_goes_where_and_who_sees_it(services, tmp_path):
    run = make_run(services.runs, "# <b>*run*")
    request = make_request("gguf", tmp_path / "x", checkpoint=1200, gguf_type="Q8_0")
    text = upload_question(run, request, "https://hub.example/maria/juniper", 5e6)
    for words in ("GGUF file (Q8_0)", "of step 1,200", "5 MB", "maria/juniper", "**private**"):
        assert words in text, words
    assert "<b>" not in text
    assert "stay here" in text
    public = upload_question(run, replace(request, private=False), "https://x", 5e6)
    assert "**public**: everybody can see and download it" in public
