"""Where things live and how the page is served. The only reader of ``os.environ``."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from workbench.errors import WorkbenchError

PROJECT_DIR = Path(__file__).resolve().parent.parent
PRESETS_DIR = PROJECT_DIR / "presets"
SAMPLES_DIR = PROJECT_DIR / "data"

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
DEFAULT_PORT = 7860
FIRST_CARD = "0"
DEFAULT_UPLOAD_LIMIT_MB = 200
MOST_PROCESSES = 64
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
# Names the variable with an access token that was typed for this process and none after it.
FOR_ONE_CHILD = "WORKBENCH_FOR_ONE_CHILD"


@dataclass(frozen=True)
class Settings:
    """Everything that depends on the machine and the person, not on a run.

    Attributes:
        home_dir: The workspace: uploads, models and runs. Never inside the project.
        host: Address the page listens on.
        port: TCP port of the page.
        password: Needed to serve on anything but loopback; empty means none. Never written to disk.
        upload_limit_bytes: Larger uploads are refused.
        api_key: What programs must send to the chat server; empty for a new one each time. Never
            written to disk.
        judge_key: What a judge of answers wants to be sent; empty for nothing. Never written to disk.
        processes: How many train one run together.
    """

    home_dir: Path
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    password: str = field(default="", repr=False)
    upload_limit_bytes: int = DEFAULT_UPLOAD_LIMIT_MB * 1024 * 1024
    api_key: str = field(default="", repr=False)
    judge_key: str = field(default="", repr=False)
    processes: int = 1

    @property
    def runs_dir(self) -> Path:
        return self.home_dir / "runs"

    @property
    def models_dir(self) -> Path:
        return self.home_dir / "models"

    @property
    def local_models_dir(self) -> Path:
        """Where a person puts models of their own: folders, or GGUF files."""
        return self.home_dir / "local-models"

    @property
    def datasets_dir(self) -> Path:
        return self.home_dir / "datasets"

    @property
    def good_answers_path(self) -> Path:
        """The rows of the dataset that good answers become, to add the next one to."""
        return self.home_dir / "good-answers.jsonl"

    @property
    def exports_dir(self) -> Path:
        """Where the page puts what it exports; a browser may download these files, and no others.

        Resolved: it may be a symbolic link to a larger disk.
        """
        return (self.home_dir / "exports").resolve()

    @property
    def temporary_dir(self) -> Path:
        return self.home_dir / "tmp"

    @property
    def reports_dir(self) -> Path:
        """Pages of figures, made to be taken away; what they are of is elsewhere."""
        return self.temporary_dir / "reports"

    @property
    def logs_dir(self) -> Path:
        return self.home_dir / "logs"

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the variables that begin with ``WORKBENCH_``; the README has a table of them.

        Raises:
            WorkbenchError: A number is not a number, or out of range.
        """
        home = os.environ.get("WORKBENCH_HOME") or "~/finetune-workbench"
        return cls(
            home_dir=Path(home).expanduser().resolve(),
            host=os.environ.get("WORKBENCH_HOST") or "127.0.0.1",
            port=_whole_number("WORKBENCH_PORT", DEFAULT_PORT, 1, 65535),
            password=os.environ.get("WORKBENCH_PASSWORD", ""),
            api_key=os.environ.get("WORKBENCH_API_KEY", ""),
            judge_key=os.environ.get("WORKBENCH_JUDGE_KEY", ""),
            upload_limit_bytes=_whole_number(
                "WORKBENCH_UPLOAD_LIMIT_MB", DEFAULT_UPLOAD_LIMIT_MB, 1, 1024 * 1024
            )
            * 1024
            * 1024,
            processes=_whole_number("WORKBENCH_PROCESSES", 1, 1, MOST_PROCESSES),
        )

    def with_address(self, host: str | None, port: int | None) -> Settings:
        """Return a copy with the host and port given on the command line, where given."""
        return replace(self, host=host or self.host, port=self.port if port is None else port)

    def check_address_is_safe(self) -> None:
        """Refuse to listen beyond this machine without a password.

        Raises:
            WorkbenchError: The host is not loopback and there is no password.
        """
        if self.host in LOOPBACK_HOSTS or self.password:
            return
        raise WorkbenchError(
            f"Listening on {self.host} would let everyone on your network upload files, start "
            "training and read your data.",
            "Set a password first, for example WORKBENCH_PASSWORD=choose-one, or leave the host at "
            "127.0.0.1.",
        )


def ensure_dir(path: Path) -> Path:
    """Create ``path`` and its parents, and return it.

    Raises:
        WorkbenchError: The folder cannot be created; says why in words.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"Cannot create the folder {path}: {error.strerror or error}.",
            "Free some space, or set WORKBENCH_HOME to a folder you can write to.",
        ) from error
    return path


def prepare_page_environment(settings: Settings) -> None:
    """Tell gradio, before it is imported, to keep to itself and where uploads land."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(ensure_dir(settings.temporary_dir))
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def token_environment(name: str, token: str) -> dict[str, str]:
    """Return the environment in which one child process has an access token that was typed; it passes it on to none.

    Args:
        name: The variable the token has there.
        token: The token; empty for none.
    """
    token = token.strip()
    return {name: token, FOR_ONE_CHILD: name} if token else {}


def hub_token() -> str:
    """Return the access token in ``HF_TOKEN``, empty for none; what another program keeps on disk does not count."""
    return os.environ.get("HF_TOKEN", "").strip()


def modelscope_access() -> tuple[str, str]:
    """Return the address of ModelScope without a slash at its end, and the access token, empty for none."""
    endpoint = os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn"
    return endpoint.rstrip("/"), os.environ.get("MODELSCOPE_API_TOKEN", "")


def place_in_team() -> tuple[int, int, int]:
    """Return which of how many processes ``torchrun`` says this is, and which card is its own; 0, 1, 0 without it."""
    rank, size, local_rank = (os.environ.get(name) for name in TORCHRUN)
    return int(rank or 0), int(size or 1), int(local_rank or 0)


def cards_of_team(processes: int) -> dict[str, str]:
    """Return the environment in which each of several processes has a card; what the person chose counts."""
    cards = ",".join(map(str, range(processes)))
    return {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", cards)}


def visible_cards() -> list[str]:
    """Return the graphics cards that child processes see, by index or UUID, as CUDA is told of them."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES", FIRST_CARD)
    return [name.strip() for name in text.split(",") if name.strip()]


def child_environment() -> dict[str, str]:
    """Return the environment for a training or chat process: ours, without what is not for it."""
    keys = ("WORKBENCH_PASSWORD", "WORKBENCH_API_KEY", "WORKBENCH_JUDGE_KEY")
    ours = (*keys, *TORCHRUN, FOR_ONE_CHILD, os.environ.get(FOR_ONE_CHILD, ""))
    environment = {key: value for key, value in os.environ.items() if key not in ours}
    # OpenMP threads that wait for each other spin; when another program (the browser, say) has one of
    # two cores, training nearly stands still. Measured on 2 cores, two trainings at once: 146 tokens/s
    # each, against less than 35 with the default of 300,000; alone, 264 against 272.
    environment.setdefault("GOMP_SPINCOUNT", "3000")
    # One run uses one card; Trainer would spread a batch over all cards it sees.
    environment.setdefault("CUDA_VISIBLE_DEVICES", FIRST_CARD)
    environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the numbers that nvidia-smi has
    environment.update(
        # Model and adapter files are checked by us; the libraries need not ask the network again.
        TOKENIZERS_PARALLELISM="true",
        HF_HUB_DISABLE_TELEMETRY="1",
        DO_NOT_TRACK="1",
        PYTHONUNBUFFERED="1",
    )
    return environment


def _whole_number(name: str, default: int, low: int, high: int) -> int:
    text = os.environ.get(name, "").strip() or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        raise WorkbenchError(
            f"{name} is {text!r}, which is not a whole number from {low} to {high}.",
            f"Correct it, or leave it out to use {default}.",
        )
    return int(text)
