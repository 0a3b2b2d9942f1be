"""Take it home in a real browser: choose, see its size, make it, download it, and nothing else."""

from __future__ import annotations

import hashlib
import re

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import open_page, serve, train_counting
from tests.fake_hub_uploads import UploadHub

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def hub():
    with UploadHub().serve() as hub:
        yield hub


@pytest.fixture(scope="module")
def export_server(tmp_path_factory, tiny_model_dir, hub):
    """A server whose workspace has one finished run, and which takes ours for the Hub."""
    home = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.delenv("HF_TOKEN", raising=False)
        server = serve(home, tiny_model_dir)
    train_counting(home, "counting")
    yield server
    server.end()


@pytest.fixture
def page(browser, export_server):
    page = open_page(browser, export_server)
    page.get_by_role("tab", name="5. Evaluate").click()
    expect(page.locator("#export-note")).to_contain_text("are free on this disk")
    yield page
    page.close()


def make(page, kind):
    page.locator("#export-kind").get_by_label(kind).check()
    expect(page.locator("#export-make")).to_be_enabled()
    page.locator("#export-make").click()


def test_an_adapter_is_made_downloaded_and_deleted(page, export_server, screenshot):
    page.get_by_label("GGUF file").check()
    expect(page.locator("#export-type")).to_be_visible()
    expect(page.locator("#export-note")).to_contain_text(re.compile(r"About \d+ [kM]B"))
    make(page, "Adapter")
    made = page.locator("#export-made")
    expect(made.locator(".wb-download")).to_have_text("Download counting-adapter.zip")
    expect(made).to_contain_text("PeftModel.from_pretrained")
    screenshot(page, "export")
    with page.expect_download() as download:
        made.locator(".wb-download").click()
    assert download.value.suggested_filename == "counting-adapter.zip"
    data = download.value.path().read_bytes()
    made.get_by_text("Checksums").click()
    expect(made).to_contain_text(hashlib.sha256(data).hexdigest())
    # Straight from the folder of exports: no copy lies among the page's own files.
    assert not list((export_server.home_dir / "tmp").rglob("*.zip"))
    # Another visitor, another day, finds it again.
    page.reload()
    page.get_by_role("tab", name="5. Evaluate").click()
    expect(made).to_contain_text("counting-adapter.zip")
    page.locator("#export-delete").click()
    question = page.locator("#export-question")
    expect(question).to_contain_text("counting-adapter.zip")
    screenshot(page, "export-delete")
    page.locator("#export-keep").click()
    expect(question).to_be_hidden()
    expect(made).to_contain_text("counting-adapter.zip")
    page.locator("#export-delete").click()
    page.locator("#export-really").click()
    expect(made).not_to_contain_text("counting-adapter.zip")
    assert list((export_server.home_dir / "exports").iterdir()) == []


def test_a_model_shows_its_place_and_can_be_cancelled(page, export_server):
    make(page, "Merged model")
    page.locator("#export-cancel").click()
    expect(page.locator("#export-status")).to_contain_text("cancelled", timeout=60_000)
    expect(page.locator("#export-make")).to_be_enabled()
    assert list((export_server.home_dir / "exports").iterdir()) == []
    page.locator("#export-make").click()
    made = page.locator("#export-made")
    place = export_server.home_dir / "exports" / "counting-merged"
    expect(made).to_contain_text(str(place), timeout=60_000)
    expect(made).to_contain_text("pipeline(")
    expect(made.locator(".wb-download")).to_have_count(0)


def test_only_exports_can_be_downloaded(page, export_server):
    home = export_server.home_dir
    (home / "exports").mkdir(exist_ok=True)
    (home / "exports" / "link").symlink_to(home / "counting.json")
    run_dir = next(home.glob("runs/2*"))
    for path in (
        home / "counting.json",
        home / "exports" / ".." / "counting.json",
        home / "exports" / "link",
        run_dir / "config.yaml",
    ):
        address = f"{export_server.url}/gradio_api/file={path}"
        assert page.request.get(address).status == 403, path
    (home / "exports" / "link").unlink()


def test_an_upload_says_what_goes_where_and_waits_for_yes(page, hub, export_server, screenshot):
    page.get_by_role("button", name="Upload to the Hugging Face Hub").click()
    page.locator("#hub-repository input, #hub-repository textarea").first.fill("maria/counting")
    page.locator("#hub-ask").click()
    expect(page.get_by_test_id("toast-body")).to_contain_text("without an access token")
    page.locator("#hub-token input").fill("hf_writer")
    page.locator("#hub-ask").click()
    question = page.locator("#hub-question")
    expect(question).to_contain_text(f"{hub.endpoint}/maria/counting")
    expect(question).to_contain_text("private: only you")
    screenshot(page, "export-hub")
    page.locator("#hub-leave").click()
    expect(question).to_be_hidden()
    assert hub.received == []
    page.locator("#hub-ask").click()
    page.locator("#hub-visibility").get_by_label("Public").check()  # too late for this question
    page.locator("#hub-really").click()
    made = page.locator("#export-made")
    expect(made).to_contain_text(f"{hub.endpoint}/maria/counting", timeout=60_000)
    expect(made).to_contain_text("It is private")
    assert hub.private == {"maria/counting": True}
    assert "adapter_model.safetensors" in hub.repositories["maria/counting"]
    screenshot(page, "export-hub-done")
    files = (path for path in export_server.home_dir.rglob("*") if path.is_file())
    assert not [path for path in files if b"hf_writer" in path.read_bytes()]
