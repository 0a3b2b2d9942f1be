"""Upload an export to the Hugging Face Hub: in one commit, made when every file has arrived. No torch.

Files go as plain Git LFS, which the Hub takes from every client
(https://huggingface.co/docs/hub/xet/legacy-git-lfs): it is what ``huggingface_hub`` does with open files. For paths it
takes Xet, which does not say how far a file is and cannot be stopped within one; and only the Hub itself has it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from workbench.errors import StopRequested, WorkbenchError
from workbench.export.sums import ExportedFile
from workbench.hub import CONNECTION_HINT, is_repository_name

OWN_FILES = {".gitattributes", "README.md"}  # what the Hub or its page puts into a new repository
LOOK_SECONDS = 20
TELL_BYTES = 1 << 20
SERVER_CHARACTERS = 200
WRITE_HINT = (
    "Make one with the right to write in your account's settings on the Hub (Access Tokens), and type it in, or set "
    "HF_TOKEN to it."
)
# It becomes a header: anything else would be quoted, token and all, in the error.
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")


def check_repository(repository: str, token: str) -> None:
    """Refuse a name or a token that cannot be right, without asking the Hub.

    Raises:
        WorkbenchError: The name is not allowed, or there is no token.
    """
    if not is_repository_name(repository, "model"):
        raise WorkbenchError(
            f"{repository or 'An empty name'} is no name of a repository.",
            "It is owner/name, as in maria/juniper: the owner is your account or an organization; letters, digits "
            "and . _ - are allowed, no spaces, and not -- or .. within it.",
        )
    if not token:
        raise WorkbenchError("Nothing can be uploaded without an access token.", WRITE_HINT)
    if not _TOKEN.fullmatch(token):
        raise WorkbenchError("The access token has signs that no token has.", "Copy it again.")


def hub_address(repository: str) -> str:
    """Return where a repository is; ``HF_ENDPOINT`` may name another Hub."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{repository}"


class HubUpload:
    """One upload.

    Args:
        repository: ``owner/name``.
        private: Only its owner may see it.
        token: Access token with the right to write; goes to the Hub and nowhere else.

    Raises:
        WorkbenchError: As of ``check_repository``.
    """

    def __init__(self, repository: str, private: bool, token: str) -> None:
        from huggingface_hub import HfApi

        check_repository(repository, token)
        self._repository, self._private = repository, private
        self._api = HfApi(token=token)

    @property
    def address(self) -> str:
        """Where it will be."""
        return hub_address(self._repository)

    def check(self, names: Sequence[str]) -> None:
        """Ask the Hub whether it would take it, before the work; nothing is changed there.

        Args:
            names: What the files may be called, as patterns: which there will be is known after the work only.

        Raises:
            WorkbenchError: The token is refused or may only read, or the repository is not as wanted.
        """
        with explained(self._repository):
            account = self._api.whoami()
        if _role(account) == "read":
            raise WorkbenchError("This access token may read, but not write.", WRITE_HINT)
        there = self._look()
        if there is None:
            self._check_owner(account)
        self._check_files(there or [], names)

    def send(
        self,
        folder: Path,
        files: Sequence[ExportedFile],
        message: str,
        advance: Callable[[int], None],
    ) -> None:
        """Upload files; the repository is made if need be.

        Args:
            folder: Where they are.
            files: Which.
            message: Of the commit.
            advance: Told how many bytes were sent; may raise to end it.

        Raises:
            StopRequested: ``advance`` raised it; there may be a new, empty repository.
            WorkbenchError: The Hub refused it, or cannot be reached.
        """
        there = self._look()
        self._check_files(there or [], [file.name for file in files])
        with explained(self._repository), ExitStack() as stack:
            if there is None:
                self._api.create_repo(self._repository, private=self._private)
            opened = [stack.enter_context(_Sent(folder / file.name, advance)) for file in files]
            self._commit(files, opened, message)

    def _commit(self, files: Sequence[ExportedFile], opened: Sequence[_Sent], message: str) -> None:
        from huggingface_hub import CommitOperationAdd

        operations = [
            CommitOperationAdd(file.name, source)
            for file, source in zip(files, opened, strict=True)
        ]
        for source in opened:  # now they were read once, for their hash
            source.is_counted = True
        try:
            self._api.create_commit(
                self._repository, operations, commit_message=message, num_threads=1
            )
        except RuntimeError as error:  # what ended a file's upload is behind it
            raise error.__cause__ or error from None

    def _look(self) -> list[str] | None:
        """Return the files that the repository has, ``None`` where there is no repository yet.

        Raises:
            WorkbenchError: It is private and should be public, or the other way round.
        """
        from huggingface_hub import errors

        with explained(self._repository):
            try:
                info = self._api.model_info(self._repository, timeout=LOOK_SECONDS)
            except errors.RepositoryNotFoundError:
                return None
        if bool(info.private) != self._private:
            now, wanted = ("private", "public") if info.private else ("public", "private")
            raise WorkbenchError(
                f"{self._repository} exists already and is {now}, not {wanted}.",
                f"Choose another name, upload it as {now}, or change that on its page on the Hub.",
            )
        return [item.rfilename for item in info.siblings or []]

    def _check_files(self, there: Sequence[str], names: Sequence[str]) -> None:
        expected = [*OWN_FILES, *names]
        others = sorted(
            name for name in there if not any(fnmatchcase(name, pattern) for pattern in expected)
        )
        if others:
            raise WorkbenchError(
                f"{self._repository} has other files already ({', '.join(others[:3])}"
                f"{', …' if len(others) > 3 else ''}), and together with these they would make no sense.",
                "Choose another name. The same kind of export can be uploaded again: its history keeps the old one.",
            )

    def _check_owner(self, account: dict[str, Any]) -> None:
        """Tell a wrong owner before a long merge; of finer tokens only the Hub knows what they may."""
        owner = self._repository.split("/")[0]
        owners = [account.get("name"), *(each.get("name") for each in account.get("orgs", []))]
        if _role(account) == "write" and owner not in owners:
            raise WorkbenchError(
                f"This access token may not write to {owner}.",
                f"It belongs to the account {account.get('name')}: write {account.get('name')}/"
                f"{self._repository.split('/')[1]}, or the name of one of its organizations.",
            )


class _Sent(io.BufferedReader):
    """An open file that tells how much of it was read, once ``is_counted``.

    A part that is read again after the connection broke counts once.
    """

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self._advance, self._told_bytes = advance, 0
        self._size_bytes = path.stat().st_size
        self.is_counted = False

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        more = self.tell() - self._told_bytes if self.is_counted else 0
        at_end = self.tell() == self._size_bytes
        if more >= TELL_BYTES or (more > 0 and at_end):
            self._told_bytes += more
            self._advance(more)
        else:
            self._advance(0)  # the person may have pressed Cancel
        return data


@contextmanager
def explained(repository: str) -> Iterator[None]:
    """Turn what ``huggingface_hub`` raises while it uploads into sentences.

    Raises:
        WorkbenchError: Refused, offline, or no connection.
        OSError: What the disk says.
    """
    import httpx2
    from huggingface_hub import errors

    try:
        yield
    except (WorkbenchError, StopRequested):
        raise
    except errors.OfflineModeIsEnabled as error:
        raise WorkbenchError(
            "HF_HUB_OFFLINE forbids asking the Hugging Face Hub.", "Unset it and try again."
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(repository, error) from error
    except (httpx2.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise WorkbenchError(
            "The Hugging Face Hub could not be reached; nothing of this upload is shown there.",
            f"{CONNECTION_HINT} What has arrived already is not sent again.",
        ) from error


def _refused(repository: str, error: Any) -> WorkbenchError:
    status = error.response.status_code
    said = " ".join((error.server_message or "").split())[:SERVER_CHARACTERS]
    words = f" It says: {said}" if said else ""
    if status == 401:
        return WorkbenchError(
            "The Hugging Face Hub does not know this access token.",
            "Copy it again, or make a new one.",
        )
    if status == 403:
        return WorkbenchError(
            f"This access token may not write to {repository}.{words}", WRITE_HINT
        )
    if status == 409:
        return WorkbenchError(
            f"The name {repository} is taken on the Hub, and not by a model that this token may see.{words}",
            "Choose another name.",
        )
    if status in (400, 422):
        return WorkbenchError(
            f"The Hugging Face Hub does not take {repository}.{words}", "Choose another name."
        )
    return WorkbenchError(
        f"The Hugging Face Hub answered {status} when asked for {repository}.{words}",
        "Try again later.",
    )


def _role(account: dict[str, Any]) -> str:
    token = (account.get("auth") or {}).get("accessToken") or {}
    return str(token.get("role", ""))
