"""Every method trains two steps for real, is saved, and is the same model in another process."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from tests.training.reload_models import PROMPT
from workbench.asking.loading import standard_attention
from workbench.compute import Compute
from workbench.config import TrainingConfig, build_config
from workbench.evaluation.answering import Asker, Question
from workbench.evaluation.models import Models
from workbench.models.rendering import load_tokenizer
from workbench.presets import methods
from workbench.runs.events import GeneralEvent, StepEvent
from workbench.services import Services
from workbench.settings import PROJECT_DIR, Settings
from workbench.training.assembly import assemble
from workbench.training.data import prepare_data
from workbench.training.loading import parameter_counts
from workbench.training.reporter import Reporter
from workbench.training.saving import save_model

QUICK = {
    "max_steps": 2,
    "batch_size": 4,
    "lora_rank": 4,
    "max_length": 256,
    "validation_share": 0.1,
    "watched_rows": 0,  # they are asked in test_resume.py
}
# The first test waits for all methods; a busy computer needs minutes.
pytestmark = pytest.mark.timeout(1200)
EXTRAS = {  # settings of their own, so that these are trained with once, too
    "freeze": {"trained_layers": 1, "layer_lr_decay": 0.5},
    "full": {"optimizer": "adamw-8bit", "label_smoothing": 0.1},
    "lora": {"neftune_alpha": 5.0, "lora_dropout": 0.1},
    "galore": {"projection_rank": 8},
    "apollo": {"projection_rank": 8},
}


class Trained:
    """What one method left: its run, events, and logits before and after."""

    def __init__(self, services, base_dir, method):
        values = QUICK | {"method": method, "model": str(base_dir)} | EXTRAS.get(method, {})
        data = services.choose_data({"sample-identity": 1.0})
        plan = services.plan(build_config(values), data)
        self.run = services.create_run(plan, data, method)
        self.events = []
        tokenizer = load_tokenizer(base_dir)
        prepared = prepare_data(self.run, tokenizer, base_dir, self.events.append)
        reporter = Reporter(self.events.append, lambda: False)
        torch.manual_seed(0)
        assembly = assemble(self.run, prepared, tokenizer, base_dir, reporter, self.events.append)
        self.model = assembly.model
        self.trained_parameters = parameter_counts(self.model)[1]
        before = {name: weight.detach().clone() for name, weight in self.learning()}
        assembly.trainer.train()
        self.changed = [name for name, w in self.learning() if not torch.equal(w, before[name])]
        self.model.eval()
        self.model.config.use_cache = True
        base = getattr(self.model, "get_base_model", lambda: self.model)()
        base.set_attn_implementation(standard_attention(base))
        ids = torch.tensor([PROMPT])
        with torch.no_grad():
            logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        self.logits = logits[0, -len(PROMPT) :].float()
        save_model(self.model, tokenizer, self.run, base_dir, assembly.saving)

    def learning(self):
        return [(n, w) for n, w in self.model.named_parameters() if w.requires_grad]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model_dir):
    """All methods, trained here and reloaded in one other process."""
    folder = tmp_path_factory.mktemp("methods")
    services = Services.for_workspace(Settings(home_dir=folder / "home"))
    found, lines = {}, []
    for method in methods():
        try:
            found[method] = Trained(services, tiny_model_dir, method)
        except Exception as error:  # noqa: BLE001  # the other methods are tested nevertheless
            found[method] = error
            continue
        lines.append(f"{found[method].run.directory}\t{tiny_model_dir}\t{folder / method}\n")
    command = [sys.executable, "-m", "tests.training.reload_models"]
    subprocess.run(command, input="".join(lines), text=True, check=True, cwd=PROJECT_DIR)
    return found, folder


@pytest.mark.parametrize(
    "method", TrainingConfig.model_json_schema()["properties"]["method"]["enum"]
)
def test_a_method_learns_and_is_the_same_in_another_process(trained, tiny_model_dir, method):
    found, folder = trained
    result = found[method]
    if isinstance(result, Exception):
        raise result
    losses = [event.loss for event in result.events if isinstance(event, StepEvent)]
    assert len(losses) == 2
    assert all(loss is not None and 0 < loss < 20 for loss in losses)
    assert result.trained_parameters > 0
    assert result.changed
    assert len([event for event in result.events if isinstance(event, GeneralEvent)]) == 1
    files = {path.name for path in result.run.model_dir.iterdir()}
    kind = methods()[method].saves
    assert ("model.safetensors" if kind == "model" else "adapter_model.safetensors") in files
    if kind == "model":  # the head is the embeddings, and no layer of its own
        with safe_open(result.run.model_dir / "model.safetensors", "pt") as weights:
            assert "lm_head.weight" not in weights.keys()  # noqa: SIM118 - no mapping
    error = (folder / method).with_suffix(".error")
    assert not error.exists(), error.read_text()
    again = torch.load(folder / method)
    # A CPU with AVX512-BF16 multiplies 4-bit weights in bf16 where no gradient is wanted.
    off = 5e-3 if methods()[method].base == "nf4" else 1e-3
    torch.testing.assert_close(again["tuned"], result.logits, rtol=off, atol=off)
    assert not torch.allclose(again["tuned"], again["base"], atol=1e-5)
    steps = [name for name in again if name not in ("tuned", "base")]
    assert steps == ([] if methods()[method].changes_the_base else ["step-2"])
    for name in steps:
        torch.testing.assert_close(again[name], again["tuned"], rtol=off, atol=off)


@pytest.mark.parametrize("method", [name for name, m in methods().items() if m.base == "plain"])
def test_without_the_adapter_it_is_the_base_model(trained, tiny_model_dir, method):
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    with torch.no_grad():
        expected = base(input_ids=torch.tensor([PROMPT])).logits[0]
    found = torch.load(trained[1] / method)["base"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", list(methods()))
def test_what_is_evaluated_is_what_was_trained(trained, tiny_model_dir, method):
    result = trained[0][method]
    compute = Compute("cpu", "fp32")
    models = Models(tiny_model_dir, methods()[method], compute)
    models.base()
    ids = torch.tensor([PROMPT])
    with torch.no_grad():
        tuned = models.tuned(result.run.model_dir, 1.0)
        logits = tuned(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    off = 5e-3 if methods()[method].base == "nf4" else 1e-3
    torch.testing.assert_close(logits[-len(PROMPT) :].float(), result.logits, rtol=off, atol=off)
    asker = Asker(tuned, load_tokenizer(tiny_model_dir), compute, lambda: False)
    assert len(list(asker.answers([Question(0, PROMPT)], 3))) == 1
