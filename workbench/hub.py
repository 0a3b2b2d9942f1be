"""What models and datasets share of the Hugging Face Hub: names of repositories, and failures in words.

``HF_ENDPOINT``, ``HF_TOKEN`` and the proxy variables are honoured by ``huggingface_hub`` itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from workbench.errors import WorkbenchError

RepositoryKind = Literal["model", "dataset"]

CONNECTION_HINT = "Check the network connection, then try again."
NAME_HINTS: dict[RepositoryKind, str] = {
    "model": "owner/name, as in HuggingFaceTB/SmolLM2-360M-Instruct",
    "dataset": "owner/name, as in HuggingFaceH4/no_robots",
}
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
# The Hub refuses these, so that a name can be a folder and a folder a name again.
_FORBIDDEN = re.compile(r"\.\.|--|\.git$")


def is_name(text: str) -> bool:
    """Say whether ``text`` can be one part of a repository's name; such a text is no path."""
    return bool(_NAME.fullmatch(text)) and not _FORBIDDEN.search(text)


def is_repository_name(text: str, kind: RepositoryKind) -> bool:
    """Say whether ``text`` can name a repository: ``owner/name``; a dataset may have no owner."""
    names = text.split("/")
    counts = (2,) if kind == "model" else (1, 2)
    return len(names) in counts and all(map(is_name, names))


@contextmanager
def explained(repository: str, kind: RepositoryKind) -> Iterator[None]:
    """Turn what ``huggingface_hub`` raises into sentences.

    Raises:
        WorkbenchError: No such repository, gated, token refused, offline, or no connection.
        OSError: What the disk says; the caller knows what was to be stored.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repository}"
        raise WorkbenchError(
            f"{repository} is gated: its owner wants you to accept the licence first.",
            f"Open {page}, accept, and make an access token in your account's settings there. "
            + (
                "Type it in under Models on this computer, or start the workbench with HF_TOKEN set to it."
                if kind == "model"
                else "Then start the workbench with HF_TOKEN set to it."
            ),
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise WorkbenchError(
            f"There is no {kind} {repository} on the Hugging Face Hub (or it is private).",
            f"Check the spelling: {NAME_HINTS[kind]}.",
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise WorkbenchError(
            f"{repository} is not on this computer, and HF_HUB_OFFLINE forbids downloading it.",
            "Unset HF_HUB_OFFLINE and try again.",
        ) from error
    except (httpx2.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if isinstance(error, errors.HfHubHTTPError) and error.response.status_code == 401:
            raise WorkbenchError(
                f"The Hugging Face Hub refused your access token when asked for {repository}.",
                "Correct it (HF_TOKEN, or what you typed in), or use none: most repositories need none.",
            ) from error
        raise WorkbenchError(
            f"{repository} could not be downloaded from the Hugging Face Hub.", CONNECTION_HINT
        ) from error
