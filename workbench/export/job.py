"""One export, from top to bottom: write it under a temporary name, measure it, give it its name.

Imports torch only where a whole model is wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.child_progress import ProgressWriter
from workbench.errors import StopRequested, WorkbenchError
from workbench.export import adapter
from workbench.export.bundle import Scrubber, check_data, train_words, write_bundle
from workbench.export.card import base_name, model_card, stopped_words
from workbench.export.hub import HubUpload
from workbench.export.ollama import GGUF_NAME, modelfile
from workbench.export.process import UPLOADING, ExportResult
from workbench.export.request import (
    GGUF_EMBEDDING_TYPES,
    ExportRequest,
    check_request,
    sums_path,
)
from workbench.export.sums import NAME, ExportedFile, measure, measure_folder, sums_text
from workbench.export.usage import hub_gguf_lines, usage_lines
from workbench.models.sources import ModelSource, source_of
from workbench.models.store import ModelStore
from workbench.runs.record import read_record
from workbench.runs.store import Run
from workbench.runs.strength import strength_words
from workbench.settings import Settings, hub_token

UNSQUEEZED = (
    "The base model came as a squeezed GGUF file and was trained as unpacked from it, not as its original release. "
    "On the original release this adapter works, and answers may differ a little."
)
ROUNDED = (
    "{gguf_type} is coarse: of {of} answers to questions of your data, {same} begin with the merged model's words. Ask it what "
    "matters to you; Q8_0 stays closer."
)
PRIVATE = "It is private: loading it needs an access token of your account, in HF_TOKEN."
# What transformers may call the files of a whole model and its tokenizer.
MODEL_FILES = ("model*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
PUBLIC = "It is public: everybody can see and download it."


class Export:
    """One export.

    Args:
        run: The run.
        request: What to export.
        settings: Where the workspace is.
        progress: Told what is done.
        stop_requested: Asked often; true ends it.
    """

    def __init__(
        self,
        run: Run,
        request: ExportRequest,
        settings: Settings,
        progress: ProgressWriter,
        stop_requested: Callable[[], bool],
    ) -> None:
        self._run, self._request, self._settings = run, request, settings
        self._progress, self._stop_requested = progress, stop_requested
        self._source: ModelSource = source_of(run.config)
        self._record = read_record(run.events_path)

    def work(self, keep: Callable[[ExportResult], None] = lambda result: None) -> ExportResult:
        """Do it, and return what was written; it has its name, or is on the Hub, when this returns.

        Args:
            keep: Writes down what there will be, before it has its name.

        Raises:
            StopRequested: The person stopped; nothing is left.
            WorkbenchError: Something the person can act on; nothing is left.
        """
        check_request(self._request, self._run)
        request, upload = self._request, self._upload()
        checks, notes = self._write()
        notes = [*notes, *self._said()]
        files = self._measure()
        usage = self._usage(request.out, here=True)
        if upload:
            self._send(upload, files)
            notes = [*notes, PRIVATE if request.private else PUBLIC]
        out = upload.address if upload else request.out
        result = ExportResult(
            request.kind, out, tuple(files), tuple(usage), checks, tuple(notes), request.strength
        )
        keep(result)
        if not upload:
            self._name(files)
        return result

    def _upload(self) -> HubUpload | None:
        """Return what will upload it, once the Hub has said that it may."""
        if not self._request.repository:
            return None
        self._enter("Asking the Hugging Face Hub")
        upload = HubUpload(self._request.repository, self._request.private, hub_token())
        upload.check(self._names())
        return upload

    def _names(self) -> tuple[str, ...]:
        """Return patterns of what the files of an upload may be called."""
        if self._request.kind == "adapter":
            return (adapter.CONFIG, *adapter.WANTED)
        return (self._gguf_name(),) if self._request.kind == "gguf" else MODEL_FILES

    def _gguf_name(self) -> str:
        return f"{self._request.repository.split('/')[1]}-{self._request.gguf_type}.gguf"

    def _send(self, upload: HubUpload, files: list[ExportedFile]) -> None:
        self._enter(UPLOADING, sum(file.size_bytes for file in files))
        message = f"{self._request.kind} of a run of the Finetune Workbench"
        upload.send(self._request.partial_path, files, message, self._advance)

    def _write(self) -> tuple[dict[str, Any], list[str]]:
        partial = self._request.partial_path
        match self._request.kind:
            case "card":
                partial.write_text(self._card(), encoding="utf-8")
            case "bundle":
                self._write_bundle(partial)
            case "adapter":
                return {}, self._write_adapter(partial)
            case "merged":
                checks = self._whole().write_model(partial)
                (partial / "README.md").write_text(self._card(), encoding="utf-8")
                return checks, []
            case "gguf" if self._request.repository:
                return self._with_rounding(self._write_gguf_folder(partial))
            case "gguf":
                return self._with_rounding(self._whole().write_gguf(partial, self._gguf_text()))
            case "ollama":
                return self._write_ollama(partial)
        return {}, []

    def _write_adapter(self, partial: Path) -> list[str]:
        directory = self._request.source_dir(self._run)
        files = adapter.adapter_files(directory)
        config = (directory / adapter.CONFIG).read_text(encoding="utf-8")
        notes = [UNSQUEEZED] if self._source.kind == "starter" or self._source.file else []
        texts = {
            adapter.CONFIG: adapter.public_config(
                config, base_name(self._source), self._request.strength
            ),
            "README.md": self._card(notes=notes),
        }
        self._enter("Copying the adapter", sum(path.stat().st_size for path in files))
        write = adapter.write_zip if self._request.is_zip else adapter.write_folder
        write(partial, files, texts, self._advance)
        return notes

    def _write_bundle(self, partial: Path) -> None:
        with_data = self._request.with_data
        if with_data:
            check_data(self._run)
        self._enter("Packing the run")
        write_bundle(
            partial,
            self._run,
            self._source,
            Scrubber.of(self._run, self._source, self._settings.home_dir),
            self._card(),
            with_data,
            self._advance,
        )

    def _write_ollama(self, partial: Path) -> tuple[dict[str, Any], list[str]]:
        whole = self._whole()
        # A chat template that cannot be written is told before the work.
        text = modelfile(whole.tokenizer, whole.vocabulary.template_space)
        partial.mkdir()
        checks = whole.write_gguf(partial / GGUF_NAME, self._gguf_text())
        (partial / "Modelfile").write_text(text, encoding="utf-8", newline="\n")
        (partial / "README.md").write_text(self._card(), encoding="utf-8")
        return self._with_rounding(checks)

    def _with_rounding(self, checks: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return what was checked of a GGUF file, and a note of what its few bits did to answers."""
        gguf_type, found = self._request.gguf_type, checks["gguf"]
        if gguf_type not in GGUF_EMBEDDING_TYPES:
            return checks, []
        note = ROUNDED.format(
            gguf_type=gguf_type, same=found["same_answers"] or "none", of=found["prompts"]
        )
        return checks, [note]

    def _write_gguf_folder(self, partial: Path) -> dict[str, Any]:
        partial.mkdir()
        checks: dict[str, Any] = self._whole().write_gguf(
            partial / self._gguf_name(), self._gguf_text()
        )
        (partial / "README.md").write_text(self._card(), encoding="utf-8")
        return checks

    def _whole(self) -> Any:
        self._enter("Getting ready")
        from workbench.export.whole import WholeExport  # torch: takes seconds

        base_dir = ModelStore(self._settings).ensure(self._source, self._on_download)
        return WholeExport(self._run, self._request, base_dir, self._progress, self._stop_requested)

    def _gguf_text(self) -> Any:
        from workbench.export.gguf_file import GgufText

        licence = self._source.entry.licence if self._source.entry else ""
        return GgufText(self._run.name, licence)

    def _measure(self) -> list[ExportedFile]:
        self._enter("Computing checksums")
        partial = self._request.partial_path
        if partial.is_dir():
            return measure_folder(partial)
        return [measure(partial, self._request.out_path.name)]

    def _name(self, files: list[ExportedFile]) -> None:
        """Write the sums, and give the result its name as the very last thing."""
        partial, out = self._request.partial_path, self._request.out_path
        if self._stop_requested():
            raise StopRequested
        if out.exists() or out.is_symlink():
            raise WorkbenchError(f"{out} came to be meanwhile.", "Choose another path.")
        if partial.is_dir():
            (partial / NAME).write_text(sums_text(files), encoding="utf-8", newline="\n")
            partial.rename(out)
            return
        try:
            if self._request.kind != "card":
                sums_path(out).write_text(sums_text(files), encoding="utf-8", newline="\n")
            partial.rename(out)
        except OSError:
            sums_path(out).unlink(missing_ok=True)
            raise

    def _card(self, notes: list[str] | None = None) -> str:
        kind = self._request.kind
        usage = self._usage(self._request.out_path.name)
        notes = [*(notes or []), *self._said()]
        return model_card(
            self._run, self._record, self._source, kind, usage, notes, self._measured()
        )

    def _measured(self) -> str:
        if not (self._run.directory / "evaluations").is_dir():
            return ""
        from workbench.export.measured import measured_text  # its libraries take seconds

        return measured_text(self._run, self._request.checkpoint, self._request.strength)

    def _said(self) -> list[str]:
        """Return what to know of any kind of export: its strength, and whether the training was cut short."""
        words = [strength_words(self._request.strength)]
        if self._request.checkpoint is None:
            words.append(stopped_words(self._record))
        return [text for text in words if text]

    def _usage(self, where: str, *, here: bool = False) -> list[str]:
        """Return how to use it; ``here`` with the base model's folder, elsewhere with its name."""
        request = self._request
        if request.kind == "card":
            return []
        if request.repository and request.kind == "gguf":
            return hub_gguf_lines(request.repository, request.gguf_type)
        where = request.repository or where
        is_folder = here and self._source.kind == "folder"
        base = self._source.location if is_folder else base_name(self._source)
        rank = 0
        if request.kind == "adapter":
            rank = adapter.rank_for_vllm(request.source_dir(self._run) / adapter.CONFIG)
        return usage_lines(request.kind, where, base, train_words(self._run), rank)

    def _on_download(self, progress: Any) -> None:
        if self._stop_requested():
            raise StopRequested

    def _enter(self, words: str, total: int = 0) -> None:
        if self._stop_requested():
            raise StopRequested
        self._progress.enter(words, total)

    def _advance(self, count: int) -> None:
        if self._stop_requested():
            raise StopRequested
        if count:
            self._progress.advance(count)
