from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from shopkeeper.features.sequences import Sequences
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.sequence_cnn import Convolution, SequenceCnn
from shopkeeper.models.sequential import EventSource
from shopkeeper.training.batches import Group

Circle = Callable[..., TrainingData]
Ask = Callable[..., Sequences]


def _fit(data: TrainingData, **options: Any) -> SequenceCnn:
    merged = {**data.settings["options"].get("sequence_cnn", {}), **options}
    model = SequenceCnn()
    model.fit(replace(data, settings={**data.settings, "options": {"sequence_cnn": merged}}))
    return model


def test_convolution_alone_learns_the_circle(circle: Circle, ask: Ask) -> None:
    model = _fit(circle(), local=False, max_epochs=40)
    assert model.scores(ask([0], [2, 3], [5])).argmax(axis=1).tolist() == [1, 4, 0]


def test_packed_convolution_equals_torch_s_user_by_user() -> None:
    torch.manual_seed(0)
    ours = Convolution(8, 3, apart=2)
    lengths = [1, 1, 4, 7]
    x = torch.randn(sum(lengths), 8)
    place = torch.cat([torch.arange(length) for length in lengths])
    theirs = torch.nn.Conv1d(8, 8, 3, groups=8, dilation=2)
    with torch.no_grad():  # torch's filter begins with the oldest event
        theirs.weight.copy_(ours.filters.flip(0).T[:, None, :])
        theirs.bias.copy_(ours.bias)  # type: ignore[union-attr]
        packed = ours(x, place)
        alone = [theirs(torch.nn.functional.pad(part.T, (4, 0))).T for part in x.split(lengths)]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_a_position_sees_only_what_came_before_it_of_its_own_user(circle: Circle, ask: Ask) -> None:
    model = _fit(circle(), max_epochs=2)
    network = model.network
    assert network is not None
    histories = ask([0, 1, 2, 3, 4], [5, 5, 2, 2, 1])
    source = EventSource(histories, model.config, torch.device("cpu"))
    with torch.inference_mode():
        both = network(source.tokens(np.arange(10), [Group(0, 2, 5)]), network.table())
        for start in (0, 5):
            for length in range(1, 6):
                rows = np.arange(start, start + length)
                alone = network(source.tokens(rows, [Group(0, 1, length)]), network.table())
                torch.testing.assert_close(
                    both[start : start + length], alone, atol=1e-5, rtol=1e-5
                )
