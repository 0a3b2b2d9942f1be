"""The same few rows as bytes of every kind of file we read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile

import openpyxl
import pyarrow
import pyarrow.parquet

ALPACA = [
    {"instruction": f"Say {n} in French", "input": "Please", "output": f"{n} — “n° {n}”"}
    for n in range(1, 26)
]
SHAREGPT = [
    {
        "conversations": [
            {"from": "human", "value": row["instruction"]},
            {"from": "gpt", "value": row["output"]},
        ]
    }
    for row in ALPACA
]
OPENAI = [
    {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": row["instruction"]},
            {"role": "assistant", "content": [{"type": "text", "text": row["output"]}]},
        ]
    }
    for row in ALPACA
]
LABELS = [{"text": f"film {n}", "label": "good" if n % 2 else "bad"} for n in range(30)]


def as_json(rows, **options):
    return json.dumps(rows, ensure_ascii=False, **options).encode()


def as_lines(rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_table(rows, delimiter=","):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_workbook(rows, more_sheets=0):
    book = openpyxl.Workbook()
    book.active.append(list(rows[0]))
    for row in rows:
        book.active.append(list(row.values()))
    for number in range(more_sheets):
        book.create_sheet(f"Other {number}")
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def as_parquet(rows):
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return file.getvalue()


def as_zip(name):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x")
    return file.getvalue()


FILES = {
    "alpaca.json": as_json(ALPACA, indent=1),
    "alpaca-one-line.json": as_json(ALPACA),
    "alpaca.jsonl": as_lines(ALPACA),
    "wrapped.json": as_json({"version": 1, "data": ALPACA, "more": {}}, indent=2),
    "objects.json": b"\n".join(as_json(row, indent=1) for row in ALPACA),
    "bom.json": b"\xef\xbb\xbf" + as_json(ALPACA),
    "utf16.json": as_json(ALPACA).decode().encode("utf-16"),
    "utf16-be.json": as_json(ALPACA).decode().encode("utf-16-be"),
    "sharegpt.json": as_json(SHAREGPT),
    "openai.jsonl": as_lines(OPENAI),
    "alpaca.csv": as_table(ALPACA),
    "alpaca.tsv": as_table(ALPACA, "\t"),
    "semicolons.csv": as_table(ALPACA, ";"),
    "labels.csv": as_table(LABELS),
    "alpaca.xlsx": as_workbook(ALPACA),
    "alpaca.parquet": as_parquet(ALPACA),
    "openai.parquet": as_parquet(SHAREGPT),
    "alpaca.jsonl.gz": gzip.compress(as_lines(ALPACA)),
    "labels.csv.gz": gzip.compress(as_table(LABELS)),
}
