from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shopkeeper.errors import InputError
from shopkeeper.features.sequences import Sequences
from shopkeeper.models import registry
from shopkeeper.models.ease import Ease
from shopkeeper.models.export import Runner, to_onnx
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.sequential import SequenceModel

pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")

Circle = Callable[..., TrainingData]
Ask = Callable[..., Sequences]
HISTORIES: list[list[int]] = [[0], [2, 3], [], [5, 0, 1, 2], [4], [1, 2, 3, 4, 5, 0], [3, 3]]


def _fitted(name: str, circle: Circle) -> SequenceModel:
    data = circle()
    model = registry.resolve(name)()
    assert isinstance(model, SequenceModel)
    model.fit(replace(data, settings={**data.settings, "max_epochs": 5}))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["transformer", "rnn", "sequence_cnn", "fusion"])
def test_onnx_runtime_gives_the_scores_of_pytorch(name: str, circle: Circle, ask: Ask) -> None:
    model, histories = _fitted(name, circle), ask(*HISTORIES)
    wanted = model.scores(histories)
    model.runner = Runner(to_onnx(model))
    np.testing.assert_allclose(model.scores(histories), wanted, atol=2e-5)
    one_by_one = [model.scores(ask(history)) for history in HISTORIES]
    np.testing.assert_allclose(np.concatenate(one_by_one), wanted, atol=2e-5)


@pytest.mark.slow
def test_eight_bits_rank_as_floats_do(circle: Circle, ask: Ask) -> None:
    model, histories = _fitted("transformer", circle), ask(*HISTORIES)
    wanted = model.scores(histories)
    model.runner = Runner(to_onnx(model, "dynamic"))
    found = model.scores(histories)
    assert np.array_equal(found.argmax(axis=1), wanted.argmax(axis=1))
    np.testing.assert_allclose(found, wanted, atol=0.2)


def test_a_rule_is_told_to_be_not_exportable() -> None:
    with pytest.raises(InputError, match="Ease cannot be exported"):
        to_onnx(Ease())
