"""A run's log, as a person may see it: without keys and tokens."""

from __future__ import annotations

from workbench.data.problems import mask_secrets
from workbench.runs.store import Run


def read_log(run: Run, longest_bytes: int | None = None, offset: int = 0) -> tuple[str, int]:
    """Return what a run's processes and libraries have printed, and where to read on.

    Args:
        run: The run.
        longest_bytes: Only so much of its end, from the beginning of a line on; ``None`` for all.
        offset: Where to begin, in bytes.
    """
    if not run.log_path.exists():
        return "", 0
    with run.log_path.open("rb") as file:
        size = file.seek(0, 2)
        begin = max(offset, 0 if longest_bytes is None else size - longest_bytes)
        file.seek(begin)
        read = file.read()
        if begin > offset:  # half a key is not known as one
            read = read.partition(b"\n")[2]
        text = read.decode("utf-8", errors="replace")
        return mask_secrets(text.replace("\r\n", "\n").replace("\r", "\n")), file.tell()
