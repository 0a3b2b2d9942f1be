"""Several processes that train one model together, as ``torchrun`` starts them, each with a GPU or cores of its own.

Every process reads every step, takes its part of the examples, and adds its gradient to that of the others
before the optimizer moves. So steps, order and gradient are those of one process. The first one speaks and saves.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from workbench.models.rendering import TokenizedExample
from workbench.settings import place_in_team

# The others wait while the first downloads a model. When a process dies, torchrun ends the others at once.
LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Team:
    """The processes of one run.

    Attributes:
        rank: Which of them this is, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls) -> Team:
        """Return the team that ``torchrun`` names in the environment, connected; or a team of one."""
        rank, size, card = place_in_team()
        if size == 1:
            return cls()
        if torch.cuda.is_available():
            torch.cuda.set_device(card)
        distributed.init_process_group(backends(), timeout=LONGEST_WAIT)
        return cls(rank, size)

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and saves for all."""
        return self.rank == 0

    def part(self, examples: Sequence[TokenizedExample]) -> Sequence[TokenizedExample]:
        """Return this process's part of the examples; all parts are about as much work."""
        if self.size == 1:
            return examples
        by_length = sorted(examples, key=lambda example: len(example.input_ids))
        return by_length[self.rank :: self.size]

    def sums(self, *numbers: float | torch.Tensor) -> list[float]:
        """Return the sum of each number over all processes."""
        own = [float(number) for number in numbers]
        if self.size == 1:
            return own
        together = torch.tensor(own, dtype=torch.float64)
        distributed.all_reduce(together)
        return together.tolist()

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Let every process have the sum of all gradients; what has none anywhere stays without."""
        if self.size == 1:
            return
        learning = [parameter for parameter in parameters if parameter.requires_grad]
        have_one = self.sums(*(parameter.grad is not None for parameter in learning))
        for parameter, processes in zip(learning, have_one, strict=True):
            if processes and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if processes:
                distributed.all_reduce(parameter.grad)

    def agree(self, answer: bool) -> bool:
        """Return the first process's answer in every process."""
        return self.sums(answer and self.is_first)[0] > 0

    def wait(self) -> None:
        """Wait until every process is here."""
        self.sums(0)


def backends() -> str:
    """Return what carries tensors from process to process: numbers lie on the CPU, gradients where they are computed."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"


ALONE = Team()
