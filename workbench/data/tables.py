"""Rows out of tables: CSV and its relatives, Excel workbooks, Parquet. A cell is text, never a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from workbench.data.source import UNPACKED_LIMIT_BYTES, Source, UnreadableFile

DELIMITERS = {",": "csv", "\t": "tsv", ";": "csv", "|": "csv"}
HEADER_CHARACTERS = 100_000
CELL_CHARACTERS = 64_000_000
COLUMN_LIMIT = 1_000
# A sheet may claim two billion empty rows between two full ones.
EMPTY_ROWS_IN_A_SHEET = 10_000
PARQUET_ROW_LIMIT = 20_000_000
PARQUET_BATCH_ROWS = 256


@dataclass(frozen=True)
class TableRow:
    """One line of a table as a dict, or why it is none; ``line`` as an editor or Excel counts it."""

    line: int
    value: dict[str, Any] | None
    broken: str = ""


def iterate_delimited(source: Source, name: str) -> tuple[str, Iterator[TableRow]]:
    """Start reading CSV, TSV, or columns separated by ``;`` or ``|``; the first line names them.

    Returns:
        ``csv`` or ``tsv``, and the rows.

    Raises:
        UnreadableFile: There are no columns, so it is no table.
    """
    with source.open_text() as file:
        head = file.read(HEADER_CHARACTERS)
    delimiter = max(DELIMITERS, key=lambda character: len(_first_record(head, character)))
    header = _first_record(head, delimiter)
    if len(header) < 2:
        raise UnreadableFile(
            f"{name} is not a JSON list, and not a table either: it starts with "
            f"{head.strip()[:20]!r}.",
            'Write it as [{"instruction": "…", "output": "…"}, …], or as a table whose first line names '
            "the columns.",
        )
    column_names(header, name)
    return DELIMITERS[delimiter], _delimited_rows(source, name, delimiter)


def _first_record(text: str, delimiter: str) -> list[str]:
    try:
        return next(
            filter(None, csv.reader(text.splitlines(keepends=True), delimiter=delimiter)), []
        )
    except csv.Error:
        return []


def _delimited_rows(source: Source, name: str, delimiter: str) -> Iterator[TableRow]:
    csv.field_size_limit(CELL_CHARACTERS)
    with source.open_text() as file:
        reader = csv.reader(file, delimiter=delimiter)
        names = column_names(next(filter(None, reader)), name)
        line = reader.line_num + 1
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield TableRow(line, None, str(error))
                return
            if cells is None:
                return
            if cells:
                yield _table_row(line, names, cells)
            line = reader.line_num + 1


def _table_row(line: int, names: list[str], cells: list[str]) -> TableRow:
    if len(cells) != len(names):
        return TableRow(line, None, f"{len(cells)} cells, but there are {len(names)} columns")
    return TableRow(line, dict(zip(names, cells, strict=True)))


def column_names(header: list[Any], file_name: str) -> list[str]:
    """Return a name for every column; where there is none, or it is taken: ``column 3``.

    Raises:
        UnreadableFile: More columns than any table for training has.
    """
    if len(header) > COLUMN_LIMIT:
        raise UnreadableFile(
            f"{file_name} has more than {COLUMN_LIMIT:,} columns.", "Keep those you need."
        )
    names: list[str] = []
    for position, cell in enumerate(header, start=1):
        name = "" if cell is None else str(cell).strip()
        names.append(name if name and name not in names else f"column {position}")
    return names


def iterate_workbook(path: Path, name: str) -> tuple[Iterator[TableRow], tuple[str, ...]]:
    """Start reading the first sheet of an Excel workbook; values as last calculated, no formulas.

    Returns:
        The rows, and a note when there are other sheets.
    """
    try:
        file = path.open("rb")  # by its name openpyxl would judge it
        sheet, titles = _first_sheet(file)
    except Exception as error:  # a damaged one can make openpyxl raise anything
        raise _damaged(name, "Excel", error) from error
    notes: tuple[str, ...] = ()
    if len(titles) > 1:
        notes = (f"Only the first sheet is read, “{titles[0]}”; there are {len(titles)}.",)
    return _sheet_rows(file, sheet, name), notes


def _first_sheet(file: IO[bytes]) -> tuple[Any, list[str]]:
    """Return the first sheet and the titles of all."""
    import openpyxl  # with defusedxml installed it parses defensively

    book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
    sheet = book.worksheets[0]
    sheet.reset_dimensions()  # what the file claims its size is
    return sheet, [other.title for other in book.worksheets]


def _sheet_rows(file: IO[bytes], sheet: Any, name: str) -> Iterator[TableRow]:
    names: list[str] = []
    with file:
        try:
            for line, cells in _filled_rows(sheet):
                if not names:
                    names = column_names(cells, name)
                elif any(cells[len(names) :]):
                    yield TableRow(line, None, f"text beyond the {len(names)} named columns")
                else:
                    padded = [*cells, *[""] * (len(names) - len(cells))][: len(names)]
                    yield TableRow(line, dict(zip(names, padded, strict=True)))
        except UnreadableFile:
            raise
        except Exception as error:
            raise _damaged(name, "Excel", error) from error


def _filled_rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    empty = 0
    for line, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        texts = [_cell_text(cell) for cell in cells]
        empty = 0 if any(texts) else empty + 1
        if empty > EMPTY_ROWS_IN_A_SHEET:
            return
        if not empty:
            yield line, texts


def _cell_text(cell: Any) -> str:
    return "" if cell is None else str(cell)


def iterate_parquet(path: Path, name: str) -> Iterator[TableRow]:
    """Read a Parquet file in small batches; its rows have no lines, so the row number stands in.

    Raises:
        UnreadableFile: Damaged, or it unpacks to too much.
    """
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        size_bytes = sum(group.total_byte_size for group in groups)
        if size_bytes > UNPACKED_LIMIT_BYTES or file.metadata.num_rows > PARQUET_ROW_LIMIT:
            raise UnreadableFile(f"{name} unpacks to too much.", "Use fewer rows.")
        number = 0
        for batch in file.iter_batches(batch_size=PARQUET_BATCH_ROWS):
            for row in batch.to_pylist():
                number += 1
                yield TableRow(number, row)
    except (OSError, ValueError, TypeError, OverflowError, NotImplementedError) as error:
        # ArrowException is a ValueError, an OSError or a NotImplementedError
        raise _damaged(name, "Parquet", error) from error


def _damaged(name: str, kind: str, error: Exception) -> UnreadableFile:
    reason = (str(error) or type(error).__name__).splitlines()[0][:120]
    return UnreadableFile(
        f"{name} is a damaged {kind} file ({reason}).", "Save, copy or download it again."
    )
