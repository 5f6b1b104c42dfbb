from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shopkeeper.features.items import bare
from shopkeeper.features.sequences import Sequences, pack
from shopkeeper.models import calibration
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.transformer import Attention, Config, Transformer
from shopkeeper.training.batches import Group

Circle = Callable[..., TrainingData]
Ask = Callable[..., Sequences]


def _fit(data: TrainingData, **options: Any) -> Transformer:
    merged = {**data.settings["options"]["transformer"], **options}
    settings = {**data.settings, "options": {"transformer": merged}}
    model = Transformer()
    model.fit(replace(data, settings=settings))
    return model


@pytest.fixture(scope="module")
def fitted(circle: Circle) -> Transformer:
    return _fit(circle(), max_epochs=3)


def _plain_attention(attention: Attention, asking: Tensor, asked: Tensor) -> Tensor:
    """One user, one position and one head at a time, as the formula is written."""
    length, dim = asking.shape
    width = dim // attention.heads
    query = attention.queries(asking)
    keys, values = attention.memory(asked)[:, :dim], attention.memory(asked)[:, dim:]
    rows = []
    for i in range(length):
        heads = []
        for head in range(attention.heads):
            at = slice(head * width, (head + 1) * width)
            logits = torch.stack(
                [
                    query[i, at] @ keys[j, at] / width**0.5 + attention.apart[head, i - j]
                    for j in range(i + 1)
                ]
            )
            heads.append(torch.softmax(logits, dim=0) @ values[: i + 1, at])
        rows.append(torch.cat(heads))
    result: Tensor = attention.out(torch.stack(rows))
    return result


def test_packed_attention_equals_the_formula_user_by_user() -> None:
    torch.manual_seed(0)
    attention = Attention(Config(dim=8, heads=2, max_length=10))
    torch.nn.init.normal_(attention.apart)
    groups = [Group(0, 2, 1), Group(2, 3, 4), Group(14, 1, 7)]
    asking, asked = torch.randn(21, 8), torch.randn(21, 8)
    packed = attention(asking, asked, groups)
    for start, users, length in groups:
        for user in range(users):
            rows = slice(start + user * length, start + (user + 1) * length)
            plain = _plain_attention(attention, asking[rows], asked[rows])
            torch.testing.assert_close(packed[rows], plain, atol=1e-6, rtol=1e-5)


def test_a_position_sees_only_what_came_before_it(fitted: Transformer, ask: Ask) -> None:
    network = fitted.network
    assert network is not None
    from shopkeeper.models.sequential import EventSource

    def states(history: list[int]) -> Tensor:
        source = EventSource(ask(history), fitted.config, torch.device("cpu"))
        rows = np.arange(len(history))
        with torch.inference_mode():
            tokens = source.tokens(rows, [Group(0, 1, len(history))])
            made: Tensor = network(tokens, network.table())
        return made

    whole = states([0, 1, 2, 3, 4])
    for length in range(1, 5):
        prefix = states([0, 1, 2, 3, 4][:length])
        torch.testing.assert_close(whole[:length], prefix, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(whole[2], states([5, 5, 2])[2], atol=1e-3)


def test_only_the_newest_events_are_read(circle: Circle, ask: Ask) -> None:
    model = _fit(circle(), max_length=3, max_epochs=2)
    long, short = ask([5, 5, 4, 0, 1, 2]), ask([0, 1, 2])
    np.testing.assert_array_equal(model.scores(long), model.scores(short))


def test_users_longer_than_the_window_are_learned_from_whole(circle: Circle, ask: Ask) -> None:
    model = _fit(circle(users=12, length=14), max_length=4, max_epochs=12)
    assert model.scores(ask([3], [5]))[:, :].argmax(axis=1).tolist() == [4, 0]


def test_a_sampled_softmax_finds_the_obvious_answer_too(circle: Circle, ask: Ask) -> None:
    model = _fit(circle(), full_items=2, negatives=4, max_epochs=30, local=False)
    assert model.card["loss"] == "softmax over 4 sampled items"
    assert model.scores(ask([0], [2, 3], [5])).argmax(axis=1).tolist() == [1, 4, 0]


def test_without_a_decoder_and_without_the_local_rule_it_still_learns(
    circle: Circle, ask: Ask
) -> None:
    model = _fit(circle(), decoder_layers=0, local=False, max_epochs=30)
    assert model.scores(ask([0], [2, 3], [5])).argmax(axis=1).tolist() == [1, 4, 0]
    assert model.card["local"] == {}


@pytest.mark.parametrize("name", ["kinds", "dwell", "gaps"])
def test_an_input_of_events_can_be_switched_off(circle: Circle, name: str) -> None:
    flat = np.array([0, 1, 2], dtype=np.int32)
    plain = pack(["u"], [3], flat, times=[0, 1000, 2000], dwell_ms=[1e3, 1e3, 1e3])
    other = {
        "kinds": pack(["u"], [3], flat, kinds=[5, 5, 5], times=[0, 1000, 2000], dwell_ms=[1e3] * 3),
        "dwell": pack(["u"], [3], flat, times=[0, 1000, 2000], dwell_ms=[9e5] * 3),
        "gaps": pack(["u"], [3], flat, times=[0, 10**9, 10**11], dwell_ms=[1e3] * 3),
    }[name]
    on, off = _fit(circle(), max_epochs=2), _fit(circle(), max_epochs=2, **{name: False})
    assert not np.array_equal(on.scores(plain), on.scores(other))
    np.testing.assert_array_equal(off.scores(plain), off.scores(other))


@pytest.mark.parametrize("name", ["tags", "numbers"])
def test_an_input_of_items_can_be_switched_off(circle: Circle, name: str, ask: Ask) -> None:
    data = circle()
    items = data.items
    changed = {
        "tags": replace(items, tags=items.tags[::-1].copy()),
        "numbers": replace(items, numbers=items.numbers[::-1].copy()),
    }[name]
    history = ask([0, 1])
    on = [_fit(replace(data, items=i), max_epochs=2).scores(history) for i in (items, changed)]
    off = [
        _fit(replace(data, items=i), max_epochs=2, **{name: False}).scores(history)
        for i in (items, changed)
    ]
    assert not np.array_equal(on[0], on[1])
    np.testing.assert_array_equal(off[0], off[1])


def test_inputs_that_say_nothing_are_switched_off_with_the_reason(circle: Circle) -> None:
    data = circle()
    walk = data.sequences
    silent = pack(walk.users, walk.lengths, walk.items)
    model = _fit(
        replace(data, sequences=silent, items=bare(data.items.vocabulary.ids)), max_epochs=1
    )
    assert model.card["switched_off"] == {
        "kinds": "all events are of one kind",
        "dwell": "no event has a dwell time",
        "gaps": "no event has a time",
        "tags": "no item has a category, brand or attribute",
        "numbers": "no item has a numeric attribute",
    }


def test_the_card_has_the_curve_the_cost_and_the_choice(circle: Circle) -> None:
    seen: list[float] = []

    def validate(model: Any) -> dict[str, float]:
        seen.append(float(len(seen)))
        return {"NDCG@10": [0.1, 0.3, 0.2, 0.4, 0.5][len(seen) - 1] if len(seen) < 6 else 0.0}

    model = _fit(replace(circle(), validate=validate), max_epochs=2, local_weights=(0.0, 1.0, 2.0))
    card = model.card
    assert [row["NDCG@10"] for row in card["curve"]] == [0.1, 0.3]
    assert card["best_epoch"] == 2
    assert card["local"]["weight"] == 2.0
    assert card["local"]["tried"] == {"0.0": 0.2, "1.0": 0.4, "2.0": 0.5}
    assert {"cpu_seconds", "seconds", "peak_rss_mb", "parameters", "seed", "stopped"} <= set(card)


class Killed(Exception):
    pass


def test_a_killed_fit_resumes_to_the_same_answers(circle: Circle, ask: Ask, tmp_path: Path) -> None:
    def kill(done: float, total: float, text: str) -> None:
        if done >= 3:
            raise Killed

    whole = _fit(circle(), max_epochs=5)
    folder = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        _fit(replace(circle(), checkpoint=folder, progress=kill), max_epochs=5)
    resumed = _fit(replace(circle(), checkpoint=folder), max_epochs=5)
    histories = ask([0], [1, 2], [])
    assert resumed.scores(histories).tobytes() == whole.scores(histories).tobytes()


def test_the_path_over_a_large_catalogue_uses_popular_negatives_as_well() -> None:
    rng = np.random.default_rng(0)
    items = 50_001
    starts = rng.integers(0, 40, 30)
    flat = (starts[:, None] + np.arange(5)).ravel()
    data = TrainingData(
        sequences=pack([str(u) for u in range(30)], np.full(30, 5), flat),
        items=bare([str(i) for i in range(items)]),
        threads=1,
        settings={"dim": 8, "max_epochs": 1, "options": {"transformer": {"negatives": 64}}},
    )
    model = Transformer()
    model.fit(data)
    assert np.isfinite(model.card["curve"][0]["loss"])


@pytest.mark.slow
def test_predictions_are_calibrated_on_events_that_were_held_out() -> None:
    rng = np.random.default_rng(0)
    items, users, length = 12, 900, 8
    chance = rng.dirichlet(np.full(items, 0.3), size=items)  # what follows each item
    walks = np.zeros((users, length + 1), dtype=np.int64)
    walks[:, 0] = rng.integers(0, items, users)
    for step in range(length):
        walks[:, step + 1] = [rng.choice(items, p=chance[a]) for a in walks[:, step]]
    names = [str(u) for u in range(users)]
    model = Transformer()
    model.fit(
        TrainingData(
            sequences=pack(names, np.full(users, length), walks[:, :-1].ravel()),
            items=bare([str(i) for i in range(items)]),
            threads=1,
            settings={
                "dim": 16,
                "dropout": 0.1,
                "max_epochs": 8,
                "learning_rate": 0.005,
                "options": {"transformer": {"batch_tokens": 500}},
            },
        )
    )
    histories = pack(
        [str(i) for i in range(users * items)],
        np.full(users * items, length),
        np.repeat(walks[:, :-1], items, axis=0).ravel(),
    )
    asked = np.tile(np.arange(items, dtype=np.int32), users)
    said = model.predict(histories, asked)
    happened = asked == np.repeat(walks[:, -1], items)
    assert calibration.expected_error(said, happened) < 0.025
    true = chance[np.repeat(walks[:, -2], items), asked]  # what could be known at best
    shares = np.bincount(walks[:, -1], minlength=items)[asked] / users
    errors = [((guess - happened) ** 2).mean() for guess in (said, true, shares)]
    assert errors[0] - errors[1] < 0.15 * (errors[2] - errors[1])  # most of what can be known is
