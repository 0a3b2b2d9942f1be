"""The Data tab as a person meets it: wrong files, strange columns, repairs, and nothing that runs."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from tests.data.sample_files import ALPACA, FILES, as_json, as_table
from tests.fake_hub import Hub

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

NASTY = '<img src="x" onerror="document.title=1"><b>bold</b> ![pic](http://localhost:1/p.png)'


def upload(page, path, content=None):
    if content is not None:
        path.write_bytes(content)
    page.locator("#data-upload input[type=file]").set_input_files(path)


def summary(page):
    return page.locator("#data-summary")


@pytest.mark.parametrize("name", ["alpaca.xlsx", "openai.jsonl", "labels.csv.gz", "utf16.json"])
def test_other_kinds_of_files_are_read(page, tmp_path, name):
    upload(page, tmp_path / name, FILES[name])
    expect(summary(page)).to_contain_text(f"{name}: ")
    expect(summary(page).locator("[data-usable=true]")).to_be_visible()
    expect(page.locator("#data-table")).to_contain_text("1")


def test_a_messy_file_is_explained_repaired_and_kept_beside(page, tmp_path, screenshot):
    rows = [*ALPACA, {"instruction": "Q"}, ALPACA[0], {"instruction": "Q2", "output": 3}]
    upload(page, tmp_path / "messy.json", as_json(rows, indent=1))
    expect(summary(page)).to_contain_text("messy.json: not ready yet, 26 of 28 rows can be used")
    expect(summary(page)).to_contain_text("Row 26 (line 127): no answer.")
    screenshot(page, "1-data-messy")
    page.get_by_role("tab", name="3. Train").click()
    page.locator("#train-start").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("1 row without an answer")
    page.get_by_role("tab", name="1. Data").click()
    page.locator("#data-repair-button").click()
    expect(summary(page)).to_contain_text("messy (repaired).json: 26 examples, all in order")
    expect(page.locator("#data-repair")).to_be_hidden()
    page.wait_for_timeout(4000)  # the browser writes down which one is chosen
    page.reload()
    expect(summary(page)).to_contain_text("messy (repaired).json")
    page.locator("#data-choice input").click()
    expect(page.get_by_role("option", name="messy.json (needs repair)")).to_be_visible()


def test_unknown_columns_are_asked_for(page, tmp_path, screenshot):
    rows = [{"frage": f"Was ist {n}?", "antwort": f"Es ist {n}."} for n in range(30)]
    upload(page, tmp_path / "fragen.csv", as_table(rows))
    expect(summary(page)).to_contain_text("fragen.csv: which column is what?")
    screenshot(page, "1-data-columns")
    for label, column in (("Question or instruction", "frage"), ("Answer to learn", "antwort")):
        page.get_by_label(label, exact=True).click()
        page.get_by_role("option", name=column, exact=True).first.click()
        page.keyboard.press("Escape")
    page.locator("#data-apply").click()
    expect(summary(page)).to_contain_text("fragen.csv: 30 examples, all in order")
    expect(page.locator("#data-conversation")).to_contain_text("Es ist 0.")


def test_html_and_markdown_in_the_data_stay_text(page, tmp_path):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    rows = [{"instruction": NASTY, "output": NASTY, NASTY: NASTY}] * 2
    upload(page, tmp_path / "nasty <b>.json", json.dumps(rows).encode())
    expect(summary(page)).to_contain_text("2 examples")
    expect(page.locator("#data-conversation")).to_contain_text("<b>bold</b>")
    expect(page.locator("#data-table")).to_contain_text("<b>bold</b>")
    page.get_by_text("What the model sees").click()
    expect(page.locator("#data-pieces")).to_contain_text("<|im_start|>", timeout=30_000)
    page.get_by_text("Rename, download, delete").click()
    page.get_by_text("Mix datasets, choose what to check with").click()
    assert page.locator("img[src=x], #data-table b, #data-pieces b, #data-choice b").count() == 0
    assert page.title() != "1"
    assert not any(":1/p.png" in url for url in asked)


def test_many_rows_have_pages_and_can_be_searched(page, tmp_path):
    rows = [{"instruction": f"number {n}", "output": f"answer {n}"} for n in range(1, 3001)]
    upload(page, tmp_path / "many.jsonl", b"".join(as_json(row) + b"\n" for row in rows))
    table = page.locator("#data-table")
    expect(table).to_contain_text("1 to 50 of 3,000")
    page.locator("#data-page input").fill("60")
    page.locator("#data-page input").press("Enter")
    expect(table).to_contain_text("2,951 to 3,000 of 3,000")
    page.locator("#data-search textarea, #data-search input").first.fill("ANSWER 1777")
    page.keyboard.press("Enter")
    expect(table).to_contain_text("1 to 1 of 1 with these words")
    expect(page.locator("#data-conversation")).to_contain_text("answer 1777")


def test_a_dataset_can_be_renamed_and_deleted(page, tmp_path):
    upload(page, tmp_path / "mine.json", as_json(ALPACA))
    expect(summary(page)).to_contain_text("mine.json")
    page.get_by_text("Rename, download, delete").click()
    name = page.locator("#data-name textarea, #data-name input").first
    name.fill("French numbers")
    page.get_by_role("button", name="Rename", exact=True).click()
    expect(summary(page)).to_contain_text("French numbers: 25 examples")
    with page.expect_download() as download:
        page.locator("#data-download").click()
    assert download.value.suggested_filename == "mine.json"
    page.locator("#data-delete").click()
    page.locator("#data-delete-sure").click()
    expect(summary(page)).to_contain_text("identity.json")


def click_until(target, check):
    """Click, as a person does, once more where the page moved under the mouse: charts grow while they are drawn."""
    for _ in range(2):
        target.click()
        try:
            return check(8)
        except AssertionError:
            pass
    target.click()
    check(20)


def test_what_the_model_sees(page, tmp_path, screenshot):
    rows = [{"instruction": f"{'long ' * n}question", "output": f"answer {n}"} for n in range(60)]
    upload(page, tmp_path / "long.json", as_json(rows))
    expect(summary(page)).to_contain_text("60 examples")
    page.get_by_role("tab", name="2. Configure").click()
    page.get_by_text("Advanced", exact=True).click()
    limit = page.locator("#configure-max-length textarea, #configure-max-length input").first
    limit.fill("200")
    limit.press("Tab")
    plan = page.locator("#configure-plan")
    expect(plan).to_contain_text("longer than 200 tokens and left out", timeout=30_000)
    page.get_by_role("tab", name="1. Data").click()
    page.get_by_text("What the model sees").click()
    lengths = page.locator("#data-lengths")
    expect(lengths).to_contain_text("longer than 200 tokens", timeout=30_000)
    expect(page.locator("#data-histogram .js-plotly-plot")).to_be_visible()
    expect(page.locator("#data-fate")).to_contain_text("Row 1 is", timeout=30_000)
    expect(page.locator("#data-pieces")).to_contain_text("<|im_start|>")
    click_until(
        page.locator("#data-table").get_by_text("answer 7", exact=True),
        lambda seconds: expect(page.locator("#data-fate")).to_contain_text(
            "Row 8 is", timeout=1000 * seconds
        ),
    )
    screenshot(page, "1-data-tokens")


def test_datasets_are_mixed_with_weights(page):
    page.get_by_text("Mix datasets, choose what to check with").click()
    page.locator("#data-more input").click()
    page.locator("#data-more").get_by_role("option").first.click()
    page.keyboard.press("Escape")
    weights = page.locator("#data-weights")
    expect(weights).to_contain_text("reviews.json")
    page.get_by_role("tab", name="2. Configure").click()
    expect(page.locator("#configure-plan")).to_contain_text("475 examples to learn from")
    page.get_by_role("tab", name="1. Data").click()
    page.wait_for_timeout(1_000)  # the tab writes the weights again
    weights.get_by_text("1", exact=True).last.dblclick()
    page.keyboard.press("Control+a")
    page.keyboard.type("0.5")
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="2. Configure").click()
    expect(page.locator("#configure-plan")).to_contain_text("323 examples to learn from")


def test_a_dataset_of_the_hub_is_added_like_a_file(monkeypatch, request):
    hub = Hub()
    hub.datasets["someone/french"] = {
        "data/train.jsonl": as_json(ALPACA[0]) + b"\n",
        "a.arrow": b"",
    }
    with hub.serve():
        hub.use(monkeypatch)
        page = request.getfixturevalue("own_page")
        page.get_by_text("From the Hugging Face Hub").click()
        name = page.locator("#data-hub-name textarea, #data-hub-name input").first
        name.fill("someone/nothing")
        page.locator("#data-hub-find").click()
        expect(page.get_by_test_id("toast-body")).to_contain_text("no dataset someone/nothing")
        name.fill("someone/french")
        page.locator("#data-hub-find").click()
        expect(page.locator("#data-hub-note")).to_contain_text("1 file that can be read")
        page.locator("#data-hub-add").click()
        expect(summary(page)).to_contain_text("french train.jsonl: 1 example", timeout=20_000)
