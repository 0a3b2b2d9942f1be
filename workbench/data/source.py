"""What kind of file is this? Decided by its bytes, never by its name: packed, table or text, and which encoding.

Everything a stranger's file could do to us by its size is bounded here.
"""

from __future__ import annotations

import codecs
import gzip
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TextIO

from workbench.errors import WorkbenchError

# What a packed file may unpack to: a bomb of a few kB would otherwise fill memory and disk.
UNPACKED_LIMIT_BYTES = 2_000_000_000
CHUNK_BYTES = 1 << 20
SAMPLE_BYTES = 1 << 16

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What people drop by mistake, by its first bytes.
OTHER_KINDS = {
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Office file (such as .xls or .doc)",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"GGUF": "a model, not data",
    b"7z\xbc\xaf": "a 7-Zip archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"(\xb5/\xfd": "a Zstandard archive",
}
TABLE_HINT = (
    "Put the examples into a table with questions and answers, and save it as .xlsx or .csv."
)
ENCODING_NAMES = {"utf-8-sig": "utf-8", "utf-16-le": "utf-16", "utf-16-be": "utf-16"}


class UnreadableFile(WorkbenchError):
    """The file as a whole cannot be read; the message continues with what to do."""


@dataclass(frozen=True)
class Source:
    """An unpacked file that is known to be readable as what it is.

    Attributes:
        path: The bytes, unpacked.
        kind: ``text``, ``parquet`` or ``xlsx``.
        encoding: Python's name of the text encoding; empty for the others.
    """

    path: Path
    kind: Literal["text", "parquet", "xlsx"]
    encoding: str

    @property
    def encoding_name(self) -> str:
        """The encoding as people call it, for example ``utf-8``."""
        return ENCODING_NAMES.get(self.encoding, self.encoding)

    def open_text(self) -> TextIO:
        """Open the text; line ends arrive as they are written."""
        return self.path.open(encoding=self.encoding, newline="")


@contextmanager
def open_source(path: Path, name: str) -> Iterator[Source]:
    """Find out what a file is, unpacking gzip into a temporary file for as long as it is open.

    Args:
        path: The file.
        name: What the person calls it; used in messages only.

    Raises:
        UnreadableFile: Empty, packed in a way we do not unpack, too large unpacked, or no text.
    """
    try:
        if path.stat().st_size == 0:
            raise UnreadableFile(f"{name} is empty.", "Choose the file that holds your rows.")
        if _begins_with(path, b"\x1f\x8b"):
            with _unpacked(path, name) as plain_path:
                yield _identify(plain_path, name)
        else:
            yield _identify(path, name)
    except OSError as error:
        raise UnreadableFile(
            f"Cannot read {name}: {error.strerror or error}.", "Check the file's name and rights."
        ) from error


@contextmanager
def _unpacked(path: Path, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="workbench-") as directory:
        plain_path = Path(directory) / "unpacked"
        with plain_path.open("wb") as plain:
            try:
                with gzip.open(path) as packed:
                    _copy_bounded(packed, plain, name)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise UnreadableFile(
                    f"{name} is a damaged gzip file ({error}).", "Copy or download it again."
                ) from error
        yield plain_path


def _copy_bounded(packed: gzip.GzipFile, plain: IO[bytes], name: str) -> None:
    total = 0
    while chunk := packed.read(CHUNK_BYTES):
        total += len(chunk)
        if total > UNPACKED_LIMIT_BYTES:
            raise UnreadableFile(
                f"{name} unpacks to more than {UNPACKED_LIMIT_BYTES / 1e9:.0f} GB.",
                "Use fewer rows.",
            )
        plain.write(chunk)


def _identify(path: Path, name: str) -> Source:
    if path.stat().st_size == 0 or _begins_with(path, b"\x1f\x8b"):
        raise UnreadableFile(f"{name} holds nothing but a packed file.", "Unpack it first.")
    for magic, words in OTHER_KINDS.items():
        if _begins_with(path, magic):
            raise UnreadableFile(f"{name} is {words}.", TABLE_HINT)
    if _begins_with(path, b"PAR1"):
        return Source(path, "parquet", "")
    if _begins_with(path, b"PK\x03\x04"):
        _check_workbook(path, name)
        return Source(path, "xlsx", "")
    return Source(path, "text", find_encoding(path, name))


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _check_workbook(path: Path, name: str) -> None:
    """Refuse archives that are no Excel workbook, and such that unpack to too much."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UnreadableFile(
            f"{name} is a damaged Excel or ZIP file ({error}).", "Copy or download it again."
        ) from error
    names = {member.filename for member in members}
    if "word/document.xml" in names:
        raise UnreadableFile(f"{name} is a Word document.", TABLE_HINT)
    if "xl/workbook.xml" not in names:
        raise UnreadableFile(
            f"{name} is a ZIP archive.", "Unpack it and choose the file with your rows."
        )
    # zipfile stops reading a member at the size it declares, so the sum holds.
    if sum(member.file_size for member in members) > UNPACKED_LIMIT_BYTES:
        raise UnreadableFile(
            f"{name} unpacks to more than {UNPACKED_LIMIT_BYTES / 1e9:.0f} GB.", "Use fewer rows."
        )


def find_encoding(path: Path, name: str) -> str:
    """Return the encoding in which the whole file can be decoded: UTF-8, UTF-16, or an older one.

    Raises:
        UnreadableFile: It is in none we know; says where it stops being UTF-8.
    """
    with path.open("rb") as file:
        head = file.read(4)
    marked = next((encoding for mark, encoding in BYTE_ORDER_MARKS if head.startswith(mark)), None)
    if marked is None and len(head) >= 2 and (head[0] == 0) != (head[1] == 0):
        marked = "utf-16-le" if head[1] == 0 else "utf-16-be"  # an ASCII character and a zero
    encoding = marked or "utf-8"
    offset = _first_undecodable(path, encoding)
    if offset is None:
        return encoding
    older = None if marked else _older_encoding(path, offset)
    if older is None or _first_undecodable(path, older) is not None:
        raise _no_text(path, name, encoding, offset)
    return older


def _first_undecodable(path: Path, encoding: str) -> int | None:
    """Return the position of the first byte that is not in the encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    position = 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return position - pending + error.start
            if not chunk:
                return None
            position += len(chunk)


def _older_encoding(path: Path, offset: int) -> str | None:
    """Ask charset-normalizer which of the two encodings from before UTF-8 that we know is likelier."""
    from charset_normalizer import from_bytes

    with path.open("rb") as file:
        file.seek(max(0, offset - SAMPLE_BYTES // 2))
        sample = file.read(SAMPLE_BYTES)
    if b"\x00" in sample:  # pictures, programs and the like
        return None
    # From a line's start to a line's end: a character cut in half would mislead it.
    if offset > SAMPLE_BYTES // 2:
        sample = sample.split(b"\n", 1)[-1]
    whole_lines = sample.rpartition(b"\n")[0] or sample
    best = from_bytes(whole_lines, cp_isolation=["gb18030", "cp1252"]).best()
    return None if best is None else best.encoding


def _no_text(path: Path, name: str, encoding: str, offset: int) -> UnreadableFile:
    with path.open("rb") as file:
        before = file.read(offset)
        byte = file.read(1)
    line = before.count(b"\n") + 1
    return UnreadableFile(
        f"{name}, line {line:,}: this is not {ENCODING_NAMES.get(encoding, encoding).upper()} text"
        f"{f' (byte 0x{byte.hex()})' if byte else ' (it ends in the middle of a character)'}.",
        'If it is text, open it in an editor and save it again with the encoding "UTF-8".',
    )
