"""The one schema: every training setting's name, type, bounds, default, label, help and unit.

The form, the validation, the presets, the command line, the table in the README and the tests are
derived from ``TrainingConfig``. To add an option, add a field here and read it in ``training/``.

A setting whose value is ``None`` is *automatic*: ``plan.make_plan`` chooses it from the data and the
model, and says why. A run's ``config.yaml`` holds the values chosen. (``max_steps`` alone stays
``None``: no limit.)
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from workbench.errors import WorkbenchError

AUTOMATIC_WORDS = frozenset({"", "auto", "none", "null"})

STARTER_MODEL = "smollm2-135m-instruct"

# Enough to see what kind of answer it is; every check waits for them.
WATCHED_ANSWER_TOKENS = 48
# The longest answer of a chat and of a served model, unless another length is asked for.
ANSWER_TOKENS = 256

Method = Literal[
    "lora",
    "qlora",
    "lora-8bit",
    "full",
    "freeze",
    "dora",
    "rslora",
    "loraplus",
    "pissa",
    "adalora",
    "oft",
    "ia3",
    "adapter",
    "prefix",
    "ptuning",
    "prompt",
    "galore",
    "apollo",
]
NAMES_PATTERN = r"^[A-Za-z0-9_.\-]+(\s*,\s*[A-Za-z0-9_.\-]+)*$"
ALL_LINEAR = "all-linear"
# Which share of the layers each value of ``activation_checkpointing`` computes twice.
RECOMPUTED_SHARES = {"off": 0.0, "1/4": 0.25, "1/2": 0.5, "3/4": 0.75, "on": 1.0}
LORA = ("lora", "qlora", "lora-8bit", "dora", "rslora", "loraplus", "pissa", "adalora")


def option(
    default: Any,
    *,
    label: str,
    help: str,
    group: Literal["basic", "advanced"],
    unit: str = "",
    methods: tuple[str, ...] = (),
    takes: str = "",
    **bounds: Any,
) -> Any:
    """Declare one setting.

    Args:
        default: The value, or ``None`` for automatic.
        label: The field's usual name, as shown on the page.
        help: One sentence for a beginner.
        group: ``basic`` is always visible, ``advanced`` is folded away.
        unit: What the number counts, for example ``steps``.
        methods: Ids of the methods that use it; empty means all.
        takes: What values a text takes, in words.
        **bounds: ``gt``, ``ge``, ``lt``, ``le``, ``pattern`` … as in ``pydantic.Field``.
    """
    extra: dict[str, Any] = {"group": group, "unit": unit, "methods": list(methods), "takes": takes}
    return Field(default, title=label, description=help, json_schema_extra=extra, **bounds)


class TrainingConfig(BaseModel):
    """How one run trains. Immutable; unknown names are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    model: str = option(
        STARTER_MODEL,
        label="Model",
        help="The model to start from.",
        group="basic",
        min_length=1,
        max_length=400,
    )
    method: Method = option(
        "lora", label="Method", help="How the model's weights are changed.", group="basic"
    )
    epochs: float | None = option(
        None,
        label="Epochs",
        help="How many times the model sees every example; more teaches harder and forgets more.",
        group="basic",
        gt=0,
        le=1000,
    )
    learning_rate: float | None = option(
        None,
        label="Learning rate",
        help="The size of each correction; too high breaks the model, too low teaches nothing.",
        group="basic",
        gt=0,
        le=0.1,
    )
    batch_size: int | None = option(
        None,
        label="Batch size",
        help="How many examples the model looks at before each correction.",
        group="basic",
        unit="examples per step",
        ge=1,
        le=1024,
    )
    keep_general: bool = option(
        True,
        label="Keep general skills",
        help="Mixes in a few general examples and holds the model to what it would have said to them.",
        group="basic",
    )
    general_share: float = option(
        0.25,
        label="General examples",
        help="How many general examples go with each of yours, to keep general skills.",
        group="advanced",
        unit="per example",
        gt=0,
        le=4,
    )
    general_data: str = option(
        "sample-general",
        label="General examples from",
        help="The dataset they come from: the workbench's own, or one of yours.",
        group="advanced",
        pattern=r"^[a-z0-9][a-z0-9-]{0,80}$",
    )
    max_length: int | None = option(
        None,
        label="Maximum length",
        help="Longer conversations are left out or cut; 1 token is about 4 English letters.",
        group="advanced",
        unit="tokens",
        ge=16,
        le=131072,
    )
    too_long: Literal["drop", "cut"] = option(
        "drop",
        label="Longer conversations",
        help="drop leaves them out; cut keeps the beginning of question and answer, and their end marks.",
        group="advanced",
    )
    max_steps: int | None = option(
        None,
        label="Step limit",
        help="Make exactly this many corrections, whatever the epochs say; empty for no limit.",
        group="advanced",
        unit="steps",
        ge=1,
        le=10_000_000,
    )
    lr_scheduler: Literal["linear", "cosine", "constant"] = option(
        "cosine",
        label="Learning-rate schedule",
        help="How the learning rate changes after the warm-up; linear and cosine fall to zero.",
        group="advanced",
    )
    warmup_ratio: float | None = option(
        None,
        label="Warm-up",
        help="The share of the run during which the learning rate rises to its full value.",
        group="advanced",
        unit="share of steps",
        ge=0,
        lt=1,
    )
    lora_rank: int = option(
        16,
        label="LoRA rank",
        help="How much room the adapter has to learn; 16 is plenty for most datasets.",
        group="advanced",
        methods=LORA,
        ge=1,
        le=1024,
    )
    lora_alpha: float = option(
        32,
        label="LoRA alpha",
        help="How strongly the adapter acts on the model; twice the rank is usual.",
        group="advanced",
        methods=LORA,
        gt=0,
        le=4096,
    )
    lora_dropout: float = option(
        0.0,
        label="LoRA dropout",
        help="Randomly ignores this share of the adapter's input, against learning by heart.",
        group="advanced",
        unit="share",
        methods=LORA,
        ge=0,
        lt=1,
    )
    target_modules: str = option(
        ALL_LINEAR,
        label="Target modules",
        help="Which layers get an adapter: all-linear, or names such as q_proj,v_proj.",
        group="advanced",
        methods=(*LORA, "oft"),
        takes="all-linear, or names of layers separated by commas, such as q_proj,v_proj",
        pattern=NAMES_PATTERN,
    )
    loraplus_ratio: float = option(
        16,
        label="LoRA+ ratio",
        help="How many times faster the second half of the adapter learns than the first.",
        group="advanced",
        methods=("loraplus",),
        ge=1,
        le=1000,
    )
    oft_block_size: int = option(
        32,
        label="OFT block size",
        help="How large the rotated blocks are; larger ones can learn more.",
        group="advanced",
        methods=("oft",),
        ge=2,
        le=1024,
    )
    virtual_tokens: int | None = option(
        None,
        label="Virtual tokens",
        help="How many made-up words in front of every text are learned.",
        group="advanced",
        unit="tokens",
        methods=("adapter", "prefix", "ptuning", "prompt"),
        ge=1,
        le=1024,
    )
    trained_layers: int | None = option(
        None,
        label="Trained layers",
        help="How many of the last layers learn; the others stay as they are.",
        group="advanced",
        unit="layers",
        methods=("freeze",),
        ge=1,
        le=1024,
    )
    trained_parts: str = option(
        "layers",
        label="Trained parts",
        help="layers means the last layers; or name the parts that learn, such as mlp,norm.",
        group="advanced",
        methods=("freeze",),
        takes="layers, or names of parts separated by commas, such as mlp,norm",
        pattern=NAMES_PATTERN,
    )
    projection_rank: int | None = option(
        None,
        label="Projection rank",
        help="How finely the optimizer keeps the gradient; lower saves memory.",
        group="advanced",
        methods=("galore", "apollo"),
        ge=1,
        le=8192,
    )
    optimizer: Literal["adamw", "adamw-8bit"] = option(
        "adamw",
        label="Optimizer",
        help="adamw-8bit keeps its notes in a quarter of the memory; about as good.",
        group="advanced",
        methods=("full", "freeze"),
    )
    layer_lr_decay: float = option(
        1.0,
        label="Layer-wise learning-rate decay",
        help="Each layer learns this much slower than the one above it; 1 means all the same.",
        group="advanced",
        methods=("full", "freeze"),
        gt=0,
        le=1,
    )
    neftune_alpha: float = option(
        0.0,
        label="NEFTune noise",
        help="Adds a little noise to the words while training, against learning by heart; 5 is usual.",
        group="advanced",
        ge=0,
        le=100,
    )
    label_smoothing: float = option(
        0.0,
        label="Label smoothing",
        help="Keeps the model from becoming too sure of itself; 0.1 is usual.",
        group="advanced",
        unit="share",
        ge=0,
        lt=1,
    )
    weight_decay: float = option(
        0.0,
        label="Weight decay",
        help="Pulls the trained weights towards zero a little at every step.",
        group="advanced",
        ge=0,
        le=1,
    )
    max_grad_norm: float = option(
        1.0,
        label="Gradient clipping",
        help="No single step may change the model by more than this gradient norm.",
        group="advanced",
        gt=0,
        le=1000,
    )
    validation_share: float | None = option(
        None,
        label="Validation share",
        help="The share of rows held back to check that the model learns more than the rows.",
        group="advanced",
        unit="share of rows",
        ge=0,
        le=0.5,
    )
    eval_steps: int | None = option(
        None,
        label="Check every",
        help="How often the validation loss is measured.",
        group="advanced",
        unit="steps",
        ge=1,
        le=10_000_000,
    )
    save_steps: int | None = option(
        None,
        label="Checkpoint every",
        help="How often the state of training is saved, so that it can go on from there.",
        group="advanced",
        unit="steps",
        ge=1,
        le=10_000_000,
    )
    checkpoints_kept: int = option(
        1,
        label="Checkpoints kept",
        help="How many of the newest checkpoints stay on the disk, besides the best one.",
        group="advanced",
        ge=1,
        le=1_000,
    )
    final_model: Literal["last", "best"] = option(
        "last",
        label="Model at the end",
        help="last is what all steps taught; best is the best checkpoint.",
        group="advanced",
    )
    best_by: Literal["loss", "accuracy"] = option(
        "loss",
        label="Best means",
        help="loss: the lowest validation loss; accuracy: the most tokens of the held-back answers guessed right.",
        group="advanced",
    )
    early_stopping: int = option(
        0,
        label="Stop early after",
        help="Ends the run when it was no better at so many checks in a row; 0 for never.",
        group="advanced",
        unit="checks",
        ge=0,
        le=1_000,
    )
    early_stopping_gain: float = option(
        0.0,
        label="Smallest gain",
        help="A check counts as better when the validation loss fell, or the accuracy rose, by more than this.",
        group="advanced",
        ge=0,
        le=10,
    )
    watched_rows: int = option(
        2,
        label="Questions to watch",
        help="So many of the rows held back are asked at every check, to see the answers change.",
        group="advanced",
        ge=0,
        le=8,
    )
    watched_questions: str = option(
        "",
        label="Your own questions to watch",
        help="Asked at every check, too; separate several with |.",
        group="advanced",
        takes="text",
        max_length=2_000,
    )
    evaluate_after: int = option(
        100,
        label="Evaluate afterwards",
        help="After training, the model before and after it is asked so many of the rows held back, in the "
        "background; 0 for never.",
        group="advanced",
        unit="rows",
        ge=0,
        le=100_000,
    )
    report_to: Literal["none", "tensorboard", "wandb", "mlflow", "trackio"] = option(
        "none",
        label="Report to",
        help="Sends losses and settings to another program too; it must be installed. Some of them are on the internet.",
        group="advanced",
    )
    seed: int = option(
        42,
        label="Seed",
        help="The same seed, data and settings give the same run again.",
        group="advanced",
        ge=0,
        le=2**32 - 1,
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto",
        label="Precision",
        help="The number format for computing; auto measures which one is faster here.",
        group="advanced",
    )
    activation_checkpointing: Literal["off", "1/4", "1/2", "3/4", "on"] | None = option(
        None,
        label="Activation checkpointing",
        help="Saves memory by computing this share of the layers twice; on is all of them, which takes a third longer.",
        group="advanced",
    )
    compile: bool = option(
        False,
        label="Compile",
        help="Builds a program for this computer out of parts of the model: steps are a few percent faster, the start "
        "takes up to a minute more; needs a C++ compiler.",
        group="advanced",
    )
    micro_batch_tokens: int | None = option(
        None,
        label="Micro-batch size",
        help="A step is computed in pieces of this size; lower it when memory runs out, the result "
        "stays the same.",
        group="advanced",
        unit="tokens",
        ge=16,
        le=1_048_576,
    )

    def uses(self, name: str) -> bool:
        """Say whether the chosen method reads the setting ``name``."""
        methods = field_extra(name)["methods"]
        return not methods or self.method in methods

    @property
    def token_budget(self) -> int:
        """Tokens in one forward pass, once that is chosen."""
        assert self.micro_batch_tokens is not None
        return self.micro_batch_tokens

    @property
    def recomputed_share(self) -> float:
        """The share of the layers that are computed twice, from 0 to 1, once it is chosen."""
        assert self.activation_checkpointing is not None
        return RECOMPUTED_SHARES[self.activation_checkpointing]

    @property
    def limit_tokens(self) -> int:
        """The maximum length, once it is chosen."""
        assert self.max_length is not None
        return self.max_length

    def general_rows_per_step(self, train_rows: int) -> int:
        """Return how many general examples go with a step; 0 when general skills are not kept."""
        assert self.batch_size is not None
        rows = max(1, round(self.general_share * min(self.batch_size, train_rows)))
        return rows if self.keep_general else 0

    def total_steps(self, train_rows: int) -> int:
        """Return the number of optimizer steps; needs epochs and batch size to be chosen."""
        if self.max_steps is not None:
            return self.max_steps
        assert self.epochs is not None
        assert self.batch_size is not None
        return max(1, math.ceil(math.ceil(train_rows / self.batch_size) * self.epochs))

    @property
    def target_module_names(self) -> str | list[str]:
        """``"all-linear"``, or the module names as a list, as PEFT wants them."""
        if self.target_modules == ALL_LINEAR:
            return ALL_LINEAR
        return split_names(self.target_modules)


def split_names(text: str) -> list[str]:
    """Return the names in a text such as ``q_proj, v_proj``."""
    return [name.strip() for name in text.split(",")]


def setting_fields(group: str | None = None) -> dict[str, FieldInfo]:
    """Return the settings a person may set, in the order of the schema, of one group or of all."""
    return {
        name: field
        for name, field in TrainingConfig.model_fields.items()
        if isinstance(field.json_schema_extra, dict)
        and group in (None, field.json_schema_extra["group"])
    }


def chosen_settings(config: TrainingConfig, automatic: Container[str]) -> dict[str, Any]:
    """Return the settings a person chose: not the default, and not among the ``automatic`` ones."""
    return {
        name: getattr(config, name)
        for name, field in setting_fields().items()
        if name not in automatic and getattr(config, name) not in (None, field.default)
    }


def field_extra(name: str) -> dict[str, Any]:
    """Return ``group``, ``unit``, ``methods`` and ``takes`` of one setting; empty ones for internal fields."""
    extra = TrainingConfig.model_fields[name].json_schema_extra
    return (
        dict(extra)
        if isinstance(extra, dict)
        else {"group": "", "unit": "", "methods": [], "takes": ""}
    )


def choices(name: str) -> list[str]:
    """Return the values a setting can have, or an empty list where it is free."""
    schema = TrainingConfig.model_json_schema()["properties"][name]
    kinds = [schema, *schema.get("anyOf", [])]  # a choice that may be automatic is one of two kinds
    return [choice for kind in kinds for choice in kind.get("enum", [])]


def is_automatic_allowed(name: str) -> bool:
    """Say whether ``None`` is allowed, which means: chosen from the data and the model."""
    return TrainingConfig.model_fields[name].default is None


def build_config(*layers: Mapping[str, Any]) -> TrainingConfig:
    """Merge layers of settings, later ones win, and validate.

    Texts such as ``"auto"`` or ``""`` mean automatic where that is allowed.

    Raises:
        WorkbenchError: One sentence for each setting that is wrong.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer)
    for name, value in merged.items():
        if isinstance(value, str) and value.strip().lower() in AUTOMATIC_WORDS:
            known = name in TrainingConfig.model_fields
            merged[name] = None if known and is_automatic_allowed(name) else value
    try:
        return TrainingConfig.model_validate(merged)
    except ValidationError as error:
        problems = {problem["loc"][0]: _describe_problem(problem) for problem in error.errors()}
        raise WorkbenchError(" ".join(problems.values())) from error


def _describe_problem(problem: Mapping[str, Any]) -> str:
    name = str(problem["loc"][0])
    got = problem["input"]
    if problem["type"] == "extra_forbidden":
        return f"There is no setting called {name!r}. Settings: {', '.join(setting_fields())}."
    bounds = describe_bounds(name)
    expected = f" It must be {bounds}." if bounds else ""
    return f"{TrainingConfig.model_fields[name].title} cannot be {got!r}.{expected}"


def describe_bounds(name: str) -> str:
    """Say in words what values a setting takes, for example ``a number from 0 to 0.5``."""
    if takes := field_extra(name)["takes"]:
        return str(takes)
    options = choices(name)
    if options:
        return "one of " + ", ".join(options)
    field = TrainingConfig.model_fields[name]
    annotation = str(field.annotation)
    if "int" in annotation or "float" in annotation:
        kind = "a whole number" if "int" in annotation else "a number"
        return " ".join([kind, *_bound_words(field.metadata)]) + _automatic_words(name)
    return "true or false" if "bool" in annotation else "a name"


def _automatic_words(name: str) -> str:
    if name == "max_steps":
        return ", or none for no limit"
    return ", or auto" if is_automatic_allowed(name) else ""


def _bound_words(metadata: Iterable[Any]) -> list[str]:
    words = {"ge": "from {}", "gt": "above {}", "le": "up to {}", "lt": "below {}"}
    return [
        words[key].format(f"{getattr(bound, key):,}")
        for bound in metadata
        for key in words
        if hasattr(bound, key)
    ]
