from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from shopkeeper.features.items import bare
from shopkeeper.features.sequences import Sequences, pack
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.rnn import ACTIONS, Network, Rnn
from shopkeeper.models.sequential import EventSource
from shopkeeper.training.batches import Group
from shopkeeper.words import KIND_CODES

Circle = Callable[..., TrainingData]
Ask = Callable[..., Sequences]


def _fit(data: TrainingData, **options: Any) -> Rnn:
    merged = {**data.settings["options"].get("rnn", {}), **options}
    model = Rnn()
    model.fit(replace(data, settings={**data.settings, "options": {"rnn": merged}}))
    return model


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_every_cell_learns_the_circle_by_itself(circle: Circle, ask: Ask, cell: str) -> None:
    model = _fit(circle(), cell=cell, local=False, hidden=16, max_epochs=40)
    assert model.scores(ask([0], [2, 3], [5])).argmax(axis=1).tolist() == [1, 4, 0]


def _by_hand(cells: torch.nn.Module, cell: str, x: torch.Tensor) -> torch.Tensor:
    """One event at a time, gate by gate, as docs/models.md writes them."""
    p = {k: v.detach() for k, v in cells.named_parameters()}
    w, u, b, c = (p[f"{k}_l0"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = torch.zeros(u.shape[1])
    memory = torch.zeros(u.shape[1])
    states = []
    for event in x:
        left, right = w @ event + b, u @ h + c
        if cell == "rnn":
            h = torch.tanh(left + right)
        elif cell == "gru":
            (r1, z1, n1), (r2, z2, n2) = left.chunk(3), right.chunk(3)
            reset, update = torch.sigmoid(r1 + r2), torch.sigmoid(z1 + z2)
            h = (1 - update) * torch.tanh(n1 + reset * n2) + update * h
        else:
            i, f, g, o = (left + right).chunk(4)
            memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(memory)
        states.append(h)
    return torch.stack(states)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_packed_states_equal_the_gates_written_out(circle: Circle, ask: Ask, cell: str) -> None:
    model = _fit(circle(), cell=cell, hidden=8, max_epochs=1)
    network = model.network
    assert isinstance(network, Network)
    histories = ask([1], [2], [0, 1, 2], [5, 4, 3])
    source = EventSource(histories, model.config, torch.device("cpu"))
    tokens = source.tokens(np.arange(8), [Group(0, 2, 1), Group(2, 2, 3)])
    with torch.inference_mode():
        table = network.table()
        packed = network(tokens, table)
        x = network.inputs(tokens, table)
        hand = torch.cat(
            [_by_hand(network.cells, cell, x[rows]) for rows in ([0], [1], [2, 3, 4], [5, 6, 7])]
        )
        wanted = network.last_norm(x + network.out(hand))
    torch.testing.assert_close(packed, wanted, atol=1e-5, rtol=1e-4)


def _shop(users: int, rng: np.random.Generator) -> Sequences:
    """Whoever put an item into the cart buys next (80%) or leaves; whoever viewed, views or carts."""
    kinds, times, lengths = [], [], []
    for _ in range(users):
        clock, kind = 1_700_000_000_000, "view"
        count = int(rng.integers(6, 12))
        for _ in range(count):
            kinds.append(KIND_CODES[kind])
            times.append(clock)
            dice = rng.random()
            clock += 60_000
            if kind == "cart":
                kind = "purchase" if dice < 0.8 else "view"
                clock += 0 if dice < 0.8 else 7_200_000
            elif kind == "purchase":
                kind = "view"
                clock += 7_200_000
            else:
                kind = "cart" if dice < 0.3 else "view"
        lengths.append(count)
    count = len(kinds)
    return pack(
        [f"u{n}" for n in range(users)], lengths, rng.integers(0, 6, count), kinds=kinds, times=times
    )  # fmt: skip


@pytest.mark.slow
def test_the_next_action_is_told_with_probabilities_that_hold() -> None:
    rng = np.random.default_rng(3)
    data = TrainingData(
        sequences=_shop(1500, rng),
        items=bare([f"i{n}" for n in range(6)]),
        threads=1,
        settings={
            "dim": 16,
            "max_epochs": 6,
            "learning_rate": 0.005,
            "options": {"rnn": {"hidden": 16, "actions": 1.0, "local": False, "batch_tokens": 500}},
        },
    )
    model = Rnn()
    model.fit(data)
    minute = 1_700_000_000_000 + 60_000 * np.arange(3)
    view, cart, buy = (KIND_CODES[k] for k in ("view", "cart", "purchase"))
    asked = pack(
        ["carted", "bought", "viewed", "new"], [3, 3, 3, 0], [0, 1, 2] * 3,
        kinds=[view, view, cart, view, cart, buy, view, view, view], times=np.tile(minute, 3),
    )  # fmt: skip
    carted, bought, viewed, new = model.next_action(asked)
    np.testing.assert_allclose(model.next_action(asked).sum(axis=1), 1.0, atol=1e-5)
    assert abs(carted[ACTIONS.index("purchase")] - 0.8) < 0.08
    assert abs(carted[ACTIONS.index("leave")] - 0.2) < 0.08
    assert bought[ACTIONS.index("leave")] > 0.9
    assert abs(viewed[ACTIONS.index("cart")] - 0.3) < 0.08
    assert new.min() > 0
    told = model.card["next_action"]
    assert told["log_loss"] < 0.8 * told["log_loss_of_shares"]
    assert told["calibration_error"] < 0.05


def test_the_next_action_survives_saving(circle: Circle, ask: Ask, tmp_path: Any) -> None:
    model = _fit(circle(), max_epochs=2)
    model.save(tmp_path)
    again = Rnn.load(tmp_path)
    histories = ask([0, 1], [])
    assert again.next_action(histories).tobytes() == model.next_action(histories).tobytes()
