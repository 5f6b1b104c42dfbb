"""Recurrent network: what comes next in a session, and what the user does next.

A state is carried from event to event; docs/models.md writes the gates out. `cell` chooses

    rnn   h' = tanh(W x + U h + b)                         Elman, "Finding Structure in Time", 1990
    gru   update and reset gate                            Cho et al., EMNLP 2014
    lstm  input, forget and output gate, and a cell state  Hochreiter & Schmidhuber, 1997

For sessions see Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks"
(GRU4Rec), ICLR 2016. Unlike theirs: learned at every position with a softmax over the catalogue,
and the newest event itself is added to the state. The same states also tell the next action (view,
favorite, cart, purchase, or leave: nothing more for a sitting's pause), calibrated on events that
nothing learned from.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shopkeeper.features.items import ItemTable
from shopkeeper.features.sequences import Floats, Sequences
from shopkeeper.models.calibration import expected_error
from shopkeeper.models.sequential import (
    EventSource,
    SequenceConfig,
    SequenceModel,
    SequenceNetwork,
    Tokens,
)
from shopkeeper.words import KIND_CODES, SITTING_MS

Cell = Literal["rnn", "gru", "lstm"]
CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
ACTIONS = ("view", "favorite", "cart", "purchase", "leave")
LEAVE = ACTIONS.index("leave")
OTHER = -100  # kinds that are none of these actions; cross_entropy passes over them
PAUSE = float(np.log1p(SITTING_MS / 1000.0))  # a longer gap ends a sitting


@dataclass(frozen=True)
class Config(SequenceConfig):
    cell: str = "gru"  # rnn, gru or lstm
    layers: int = 1
    hidden: int = 128  # width of the state
    actions: float = 0.1  # weight of the next action's loss beside the next item's; 0: not learned


class Network(SequenceNetwork):
    config: Config

    def __init__(self, config: Config, items: ItemTable) -> None:
        super().__init__(config, items)
        between = config.dropout if config.layers > 1 else 0.0
        self.cells = CELLS[config.cell](
            config.dim, config.hidden, config.layers, batch_first=True, dropout=between
        )
        self.out = nn.Linear(config.hidden, config.dim)
        self.action = nn.Linear(config.dim, len(ACTIONS))
        self.last_norm = nn.LayerNorm(config.dim)

    def forward(self, tokens: Tokens, table: Tensor) -> Tensor:
        x = self.inputs(tokens, table)  # (T, D)
        states = []
        with torch.autocast(x.device.type, enabled=False):
            for start, users, length in tokens.groups:  # one length at a time: no padding
                block = (
                    x[start : start + users * length].float().view(users, length, self.config.dim)
                )
                carried, _ = self.cells(block)  # (B, L, H)
                states.append(carried.reshape(users * length, self.config.hidden))
        return self.last_norm(x + self.drop(self.out(torch.cat(states))))  # type: ignore[no-any-return]

    def more_loss(self, states: Tensor, source: EventSource, following: Tensor) -> Tensor | float:
        if not self.config.actions:
            return 0.0
        next_action = _actions(source.kinds[following], source.exact_gaps[following])
        if not bool((next_action != OTHER).any()):
            return 0.0
        return self.config.actions * F.cross_entropy(
            self.action(states), next_action, ignore_index=OTHER
        )


class Rnn(SequenceModel):
    name: ClassVar[str] = "rnn"
    what: ClassVar[str] = "recurrent network over the events of a history, tied softmax"
    config_type: ClassVar[type[SequenceConfig]] = Config
    network_type: ClassVar[type[SequenceNetwork]] = Network

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)
        self.action_scale = 1.0
        self.action_bias = [0.0] * len(ACTIONS)

    def next_action(self, histories: Sequences) -> Floats:
        """(B, 5) float32, rows adding up to 1: how likely each of ACTIONS is what comes next.

        Without a history: as often as each was seen after the events learned from.
        """
        out = np.repeat(_softmax(np.asarray([self.action_bias])), len(histories), axis=0)
        states, rows = self.newest_states(histories)
        if len(rows):
            out[rows] = _softmax(self._action_logits(states) * self.action_scale + self.action_bias)
        return np.asarray(out, dtype=np.float32)

    @torch.inference_mode()
    def _action_logits(self, states: Tensor) -> npt.NDArray[np.float64]:
        assert isinstance(self.network, Network)
        return self.network.action(states).double().cpu().numpy()  # type: ignore[no-any-return]

    def after_learning(
        self, held_out: Sequences, whole: Sequences, users: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Calibrate the next action on the first half of `users`, measure it on the second."""
        if not self.config.actions:
            return {}
        last = whole.offsets[1:][users] - 1
        happened = _actions(
            torch.from_numpy(whole.kinds[last].astype(np.int64)),
            torch.from_numpy(whole.gaps[last]),
        ).numpy()
        states, rows = self.newest_states(held_out)
        known = happened[rows] != OTHER
        logits, happened = self._action_logits(states)[known], happened[rows][known]
        half = len(happened) // 2
        if half == 0:
            return {"next_action": {"examples": 0}}
        self.action_scale, self.action_bias = _calibrate(logits[:half], happened[:half])
        likely = _softmax(logits[half:] * self.action_scale + self.action_bias)
        truth = happened[half:]
        base = (np.bincount(happened[:half], minlength=len(ACTIONS)) + 1.0) / (half + len(ACTIONS))
        told = likely[np.arange(len(truth)), truth]
        seen = np.arange(len(ACTIONS))[None, :] == truth[:, None]
        return {
            "next_action": {
                "examples": len(truth),
                "log_loss": round(float(-np.log(told).mean()), 4),
                "log_loss_of_shares": round(float(-np.log(base[truth]).mean()), 4),
                "calibration_error": round(
                    expected_error(likely.ravel().astype(np.float32), seen.ravel()), 4
                ),
                "accuracy": round(float((likely.argmax(axis=1) == truth).mean()), 4),
            }
        }

    def more_about(self) -> dict[str, Any]:
        return {"action_scale": self.action_scale, "action_bias": list(self.action_bias)}

    def take_back(self, about: dict[str, Any]) -> None:
        self.action_scale = about["action_scale"]
        self.action_bias = about["action_bias"]


def _actions(kinds: Tensor, gaps: Tensor) -> Tensor:
    """(N,) int64 index into ACTIONS of events of `kinds` that came `gaps` (log1p seconds) later."""
    known = torch.full((len(KIND_CODES),), OTHER, dtype=torch.int64, device=kinds.device)
    for index, name in enumerate(ACTIONS[:LEAVE]):
        known[KIND_CODES[name]] = index
    return torch.where(gaps > PAUSE, LEAVE, known[kinds])


def _calibrate(
    logits: npt.NDArray[np.float64], happened: npt.NDArray[np.int64]
) -> tuple[float, list[float]]:
    """The (scale, bias per action) under which `happened` is most likely, a little held back.

    Temperature and bias scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    told, truth = torch.from_numpy(logits), torch.from_numpy(happened)
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)  # its logarithm
    bias = torch.zeros(len(ACTIONS), dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([scale, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        held_back = (scale**2 + (bias**2).sum()) / len(truth)
        value = F.cross_entropy(told * scale.exp() + bias, truth) + held_back
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return float(scale.detach().exp()), [float(b) for b in bias.detach()]


def _softmax(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
