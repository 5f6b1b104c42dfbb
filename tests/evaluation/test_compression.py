from dataclasses import replace

import numpy as np
import pytest
import torch

from shopkeeper.evaluation.compression import narrower, smaller_settings, without_small
from shopkeeper.features.items import bare
from shopkeeper.features.sequences import Sequences, pack
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.transformer import Transformer

ITEMS, USERS = 8, 60


@pytest.fixture(scope="module")
def data() -> TrainingData:
    walked = (np.arange(USERS)[:, None] + np.arange(4)) % ITEMS
    sequences = pack([f"u{n}" for n in range(USERS)], [4] * USERS, walked.ravel())
    own = {"dim": 16, "local": False, "max_epochs": 8, "batch_tokens": 60, "learning_rate": 0.02}
    return TrainingData(
        sequences, bare([str(n) for n in range(ITEMS)]), settings={"options": {"transformer": own}}
    )


@pytest.fixture(scope="module")
def model(data: TrainingData) -> Transformer:
    made = Transformer()
    made.fit(data)
    return made


@pytest.fixture
def asked(data: TrainingData) -> Sequences:
    return data.sequences.take(np.arange(ITEMS))


def test_pruning_by_size_leaves_the_share_that_was_asked_for(
    model: Transformer, asked: Sequences
) -> None:
    before = model.scores(asked).tobytes()
    pruned = without_small(model, 0.5)
    assert pruned.network is not None
    weight = pruned.network.get_submodule("encoder.0.widen").weight
    assert isinstance(weight, torch.Tensor)
    assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert model.scores(asked).tobytes() == before


def test_units_that_say_nothing_are_the_ones_taken_out(
    model: Transformer, asked: Sequences
) -> None:
    silent = without_small(model, 0.0)
    assert silent.network is not None
    with torch.no_grad():
        for name, one in silent.network.named_modules():
            if name.endswith("narrow") and not name.startswith("head"):
                one.weight[:, ::2] = 0.0  # type: ignore[index,operator,union-attr]
    made = narrower(silent)
    assert made is not None
    assert made[0].config.wide == 2
    np.testing.assert_allclose(made[0].scores(asked), silent.scores(asked), atol=1e-5)


def test_a_small_network_learns_from_a_large_one(
    model: Transformer, data: TrainingData, asked: Sequences
) -> None:
    student = Transformer()
    student.fit(replace(data, settings=smaller_settings(model), teacher=model))
    assert student.config.dim == 8
    assert student.card["teacher"] == {"model": "transformer", "dim": 16}
    assert np.isfinite(student.scores(asked)).all()
