"""The playground in a real browser: compare, repeat, edit, look inside, and come back from a crash."""

from __future__ import annotations

import json
import re
import shutil
import time

import psutil
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import open_page, serve
from workbench.deleting import delete_run
from workbench.services import Services
from workbench.settings import Settings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

NASTY = (
    '<img src="http://evil.example/a.png" onerror="boom()"> ![x](http://evil.example/b.png) '
    "<script>boom()</script> **bold** `a<b>c`"
)


@pytest.fixture(scope="module")
def playground_server(tmp_path_factory, tiny_model_dir):
    """A server whose workspace has one run with a checkpoint before its end."""
    home = tmp_path_factory.mktemp("playground")
    server = serve(home, tiny_model_dir)
    data = home / "counting.json"
    rows = [
        {"instruction": f"What comes after {n}?", "output": f"{n + 1} comes next."}
        for n in range(40)
    ]
    data.write_text(json.dumps(rows), encoding="utf-8")
    services = Services.for_workspace(Settings(home_dir=home))
    values = {"model": "tests/tiny", "max_steps": 150, "learning_rate": 1e-2, "save_steps": 50}
    values |= {"checkpoints_kept": 3, "keep_general": False, "evaluate_after": 0}
    config = services.configure(None, values)
    chosen = services.choose_data({services.datasets.add(data, data.name).id: 1})
    run = services.start(services.plan(config, chosen), chosen, "counting")
    deadline = time.monotonic() + 150
    while services.supervisor.summary(run).is_active:  # the server may have started it
        assert time.monotonic() < deadline
        time.sleep(0.5)
    yield server
    server.end()


@pytest.fixture
def playground(browser, playground_server):
    page = open_page(browser, playground_server)
    page.get_by_role("tab", name="4. Playground").click()
    expect(page.locator("#playground-run input")).to_have_value(re.compile("counting"))
    expect(page.locator("#playground-examples")).to_contain_text("comes next.")
    yield page
    page.close()


def ask(page, text):
    box = page.locator("#playground-question textarea")
    box.fill(text)
    box.press("Enter")
    settle(page)


def settle(page):
    expect(page.locator("#playground-question textarea")).to_have_value("", timeout=60_000)
    expect(page.locator("#playground-note")).not_to_contain_text("…", timeout=120_000)


def choose(page, selector, text):
    page.locator(f"{selector} input").click()
    page.get_by_role("option").filter(has_text=text).first.click()


def open_advanced(page):
    page.get_by_text("Advanced", exact=True).last.click()
    expect(page.locator("#playground-keep-strength")).to_be_visible()
    page.wait_for_timeout(1_000)  # what was changed while it was folded is drawn again


def clear(page):
    page.locator("#playground-clear").click()
    expect(page.locator("#playground-question textarea")).to_have_value("")
    expect(said(page, "tuned")).to_have_count(0)
    page.wait_for_timeout(1_000)  # the field is drawn again


def said(page, side, who="bot"):
    return page.locator(f"#playground-{side} .{who}.message")


def whole_answer(page, side):
    """Return the only answer there, once nothing was added to it for a while; the page draws late."""
    expect(said(page, side)).to_have_count(1)
    text = ""
    while not text or text != said(page, side).inner_text():
        text = said(page, side).inner_text()
        page.wait_for_timeout(2_000)
    return text


def test_ask_compare_repeat_edit_and_look_inside(playground, screenshot):
    page = playground
    page.locator("#playground-examples").get_by_text("What comes after").first.click()
    box = page.locator("#playground-question textarea")
    expect(box).to_have_value(re.compile("What comes after"))
    question = box.input_value()
    ask(page, question)
    expect(said(page, "tuned")).to_contain_text("comes next")
    expect(said(page, "base")).to_have_count(1)
    number = int(re.search(r"\d+", question)[0])
    expect(page.locator("#playground-expected")).to_contain_text(f"{number + 1} comes next")
    screenshot(page, "4-playground-asked")

    first = whole_answer(page, "base")
    retry = page.locator("#playground-tuned").get_by_role("button", name="Retry")
    retry.click()
    expect(page.locator("#playground-note")).to_contain_text("…")
    settle(page)
    expect(said(page, "base")).to_have_count(1)
    expect(said(page, "base")).to_have_text(first)  # nothing varies without a temperature

    page.locator("#playground-tuned").get_by_role("button", name="Edit").first.click()
    page.locator("#playground-tuned textarea").fill("What comes after 30?")
    page.locator("#playground-tuned").get_by_role("button", name="Submit").click()
    expect(said(page, "base", "user")).to_contain_text("What comes after 30?", timeout=60_000)
    settle(page)
    expect(said(page, "tuned")).to_have_count(1)
    expect(page.locator("#playground-pair")).to_be_visible()  # the last thing that is drawn

    ask(page, "And then?")
    expect(said(page, "tuned")).to_have_count(2)
    open_advanced(page)
    page.locator("#playground-show-prompt").click()
    prompt = page.locator("#playground-prompt textarea")
    expect(prompt).to_have_value(re.compile(r"<\|im_start\|>user\nAnd then\?<\|im_end\|>"))
    assert prompt.input_value().startswith("<|im_start|>user\nWhat comes after 30?")
    screenshot(page, "4-playground-advanced")
    with page.expect_download() as download:
        page.locator("#playground-save").click()
    saved = json.loads(download.value.path().read_text())
    assert [side["model"] for side in saved["conversations"]] == ["tuned", "base"]
    assert len(saved["conversations"][0]["messages"]) == 4

    choose(page, "#playground-right", "Checkpoint of step")
    expect(said(page, "tuned")).to_have_count(0)
    ask(page, "What comes after 3?")
    expect(page.locator("#playground-base")).to_contain_text("Checkpoint of step")
    expect(said(page, "base")).to_have_count(1)
    choose(page, "#playground-right", "Nothing")
    expect(page.locator("#playground-base")).to_be_hidden()
    ask(page, "What comes after 3?")
    expect(said(page, "tuned")).to_have_count(1)


def test_strength_nothing_answers_as_before_training(playground):
    page = playground
    open_advanced(page)
    field = page.locator("#playground-strength input[type=number]")
    field.fill("0")
    field.press("Tab")
    ask(page, "What comes after 3?")
    expect(said(page, "tuned")).to_have_text(whole_answer(page, "base"))


def test_a_strength_is_kept_for_chat_evaluation_and_export(
    playground, playground_server, screenshot
):
    page = playground
    open_advanced(page)
    kept = page.locator("#playground-kept-strength")
    expect(kept).to_contain_text("Kept with this run: 1, as trained.")
    field = page.locator("#playground-strength input[type=number]")
    field.fill("0.5")
    field.press("Tab")
    page.get_by_role("button", name="Keep this strength").click()
    expect(kept).to_contain_text("Kept with this run: 0.5.")
    screenshot(page, "4-playground-strength")
    page.reload()
    page.get_by_role("tab", name="4. Playground").click()
    open_advanced(page)
    expect(field).to_have_value("0.5")
    words = "Strength of the training: 0.5 (0 is the model before training, 1 as trained)."
    page.get_by_role("tab", name="5. Evaluate").click()
    expect(page.locator("#evaluate-status textarea")).to_have_value(words)
    expect(page.locator("#export-note")).to_contain_text(words)
    screenshot(page, "5-evaluate-strength")
    page.get_by_role("tab", name="4. Playground").click()
    field.fill("1")
    field.press("Tab")
    page.get_by_role("button", name="Keep this strength").click()
    expect(kept).to_contain_text("Kept with this run: 1, as trained.")
    (path,) = playground_server.home_dir.glob("runs/*/strength.json")
    assert json.loads(path.read_text()) == {"strength": 1.0}


def test_differences_a_vote_and_a_conversation_that_survives(
    playground, playground_server, screenshot
):
    page = playground
    expect(page.locator("#playground-pair")).to_be_hidden()
    ask(page, "What comes after 17?")
    page.get_by_text("Where the two answers differ").click()
    expect(page.locator("#playground-differences mark").first).to_be_visible()
    count = page.locator("#playground-count")
    expect(count).to_contain_text("Which answer is better?")
    page.get_by_role("button", name="Left is better").click()
    votes = "Votes so far: Tuned model 1, before training 0, same 0."
    expect(count).to_contain_text(f"You said: tuned model is better. {votes}")
    screenshot(page, "4-playground-voted")

    page.reload()
    page.get_by_role("tab", name="4. Playground").click()
    choose(page, "#playground-earlier", "What comes after 17?")
    expect(said(page, "base")).to_have_count(1)
    expect(count).to_contain_text(f"You said: tuned model is better. {votes}")
    ask(page, "And then?")
    expect(said(page, "tuned")).to_have_count(2)
    expect(count).not_to_contain_text("You said")  # it is kept then
    files = playground_server.home_dir.glob("runs/*/conversations/*.json")
    (kept,) = [text for text in (path.read_text() for path in files) if "after 17?" in text]
    assert "And then?" in kept

    page.locator("#playground-delete").click()
    expect(page.locator("#playground-delete-question")).to_contain_text("What comes after 17?")
    screenshot(page, "4-playground-delete")
    page.locator("#playground-really").click()
    expect(said(page, "base")).to_have_count(0)
    expect(page.locator("#playground-pair")).to_be_hidden()
    assert "after 17?" not in "".join(
        path.read_text() for path in playground_server.home_dir.glob("runs/*/conversations/*.json")
    )


def test_few_things_are_to_be_decided(playground):
    controls = playground.locator("[id^=playground-]:visible").locator(
        "input:visible, textarea:visible, button:visible:not([aria-label])"
    )
    assert controls.count() <= 10


def test_what_is_said_is_markdown_but_never_html_and_nobody_else_is_asked(playground):
    page = playground
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    ask(page, NASTY)
    shown = said(page, "tuned", "user")
    expect(shown.locator("strong")).to_have_text("bold")
    expect(shown.locator("code")).to_have_text("a<b>c")
    expect(shown).to_contain_text('<img src="http://evil.example/a.png"')
    assert shown.locator("img, script").count() == 0
    assert [url for url in asked if "evil.example" in url] == []
    # Even if HTML slipped through, the page would load nothing from elsewhere.
    blocked = page.evaluate(
        """() => new Promise(resolve => {
            document.addEventListener('securitypolicyviolation', event => resolve(event.blockedURI));
            document.body.append(Object.assign(new Image(), {src: 'http://evil.example/c'}));
        })"""
    )
    assert blocked == "http://evil.example/c"


def chat_processes(server):
    children = psutil.Process(server._process.pid).children()
    return [child for child in children if "workbench.inference" in child.cmdline()]


def test_the_page_recovers_when_the_chat_process_is_killed(playground, playground_server):
    page = playground
    ask(page, "What comes after 3?")
    expect(said(page, "base")).to_have_count(1)
    (child,) = chat_processes(playground_server)
    child.kill()
    expect(page.locator("#playground-note")).to_contain_text("The next question loads them again")
    ask(page, "What comes after 4?")
    expect(said(page, "base")).to_have_count(2)


def test_stop_and_again_twenty_times_leaves_a_page_that_answers(playground, playground_server):
    page = playground
    ask(page, "What comes after 3?")
    wanted = whole_answer(page, "tuned")
    (child,) = chat_processes(playground_server)
    for _ in range(20):
        page.locator("#playground-tuned").get_by_role("button", name="Retry").click()
        page.wait_for_timeout(50)
        page.locator("#playground-stop").click()
    clear(page)
    expect(said(page, "tuned")).to_have_count(0)
    ask(page, "What comes after 3?")
    expect(said(page, "tuned")).to_have_text(wanted)
    expect(said(page, "base")).to_have_count(1)
    assert chat_processes(playground_server) == [child]


def test_a_question_that_is_too_long_is_a_sentence_and_the_next_is_answered(playground):
    page = playground
    page.locator("#playground-question textarea").fill("word " * 2_500)  # a letter is a token here
    page.locator("#playground-send").click()
    expect(page.get_by_text("longer than the 512 this model can read")).to_be_visible()
    clear(page)
    ask(page, "What comes after 3?")
    expect(said(page, "base")).to_have_count(1)


def test_a_run_deleted_while_it_is_loaded_leaves_a_page_that_answers(
    browser, playground, playground_server
):
    runs = playground_server.home_dir / "runs"
    (run_dir,) = runs.glob("[0-9]*")
    gone_dir = shutil.copytree(run_dir, runs / f"{run_dir.name[:15]}-gone")
    record = json.loads((gone_dir / "run.json").read_text())
    (gone_dir / "run.json").write_text(json.dumps(record | {"name": "gone soon"}))
    page = open_page(browser, playground_server)
    page.get_by_role("tab", name="4. Playground").click()
    choose(page, "#playground-run", "gone soon")
    ask(page, "What comes after 3?")
    expect(said(page, "base")).to_have_count(1)
    (child,) = chat_processes(playground_server)
    other = Services.for_workspace(Settings(home_dir=playground_server.home_dir))
    delete_run(other, other.runs.get(gone_dir.name))  # as in the terminal
    expect(page.get_by_text("The run was deleted")).to_be_visible()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    expect(page.locator("#playground-run input")).to_have_value(re.compile("counting"))
    ask(page, "What comes after 4?")
    expect(said(page, "base")).to_have_count(1)
    page.close()


def test_two_pages_chat_at_once_and_each_gets_its_own_answer(
    browser, playground, playground_server
):
    other = open_page(browser, playground_server)
    other.get_by_role("tab", name="4. Playground").click()
    expect(other.locator("#playground-examples")).to_contain_text("comes next.")
    asked = {playground: "What comes after 3?", other: "What comes after 25?"}
    alone = {}
    for page, text in asked.items():
        ask(page, text)
        alone[page] = whole_answer(page, "tuned")
        clear(page)
        page.locator("#playground-question textarea").fill(text)
    assert alone[playground] != alone[other]
    for page in asked:
        page.locator("#playground-question textarea").press("Enter")
    for page, text in asked.items():
        settle(page)
        for side in ("tuned", "base"):
            expect(said(page, side, "user")).to_have_text([text])
            expect(said(page, side)).to_have_count(1)
        assert whole_answer(page, "tuned") == alone[page]
    other.close()


def test_a_file_of_questions_is_answered_as_a_table_and_as_a_file(playground, tmp_path, screenshot):
    page = playground
    page.get_by_text("Ask many questions from a file").click()
    go = page.locator("#playground-batch-go")
    upload = page.locator("#playground-batch-file input[type=file]")
    uploaded = page.locator("#playground-batch-file").get_by_role("button", name="Clear")
    empty, questions = tmp_path / "empty.txt", tmp_path / "questions.txt"
    empty.write_text(" \n")
    questions.write_text(f"What comes after 3?\n{NASTY}\nWhat comes after 7?\n")
    upload.set_input_files(empty)
    expect(uploaded).to_be_visible()
    go.click()
    expect(page.get_by_text("empty.txt is empty.")).to_be_visible()
    uploaded.click()
    upload.set_input_files(questions)
    expect(uploaded).to_be_visible()
    page.locator("#playground-batch-base input").check()
    field = page.locator("#playground-batch-tokens input[type=number]")
    field.fill("16")
    field.press("Tab")
    go.click()
    status = page.locator("#playground-batch-status textarea")
    expect(status).to_have_value(
        re.compile("questions.txt: 3 of 3 questions answered"), timeout=90_000
    )
    rows = page.locator("#playground-batch-rows")
    expect(rows).to_contain_text("comes next.")
    expect(rows).to_contain_text('<img src="http://evil.example/a.png"')
    assert rows.locator("img").count() == 0
    screenshot(page, "4-playground-batch")
    with page.expect_download() as download:
        page.locator("#playground-batch-csv").click()
    assert download.value.suggested_filename.endswith(".csv")
    header, first = download.value.path().read_text(encoding="utf-8-sig").splitlines()[:2]
    assert header == "row,question,base,base_ended,tuned,tuned_ended"
    assert first.startswith("1,What comes after 3?,")
