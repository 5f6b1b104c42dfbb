"""The trial of a model, and the model that serves after it."""

from pathlib import Path

import numpy as np
import pytest

from shopkeeper.evaluation import trial
from shopkeeper.evaluation.leaderboard import validator
from shopkeeper.evaluation.splits import leave_one_out
from shopkeeper.features.items import bare
from shopkeeper.features.sequences import pack
from shopkeeper.models.protocol import TrainingData
from shopkeeper.models.transformer import Transformer


def test_the_refit_stops_where_the_trial_was_best_wherever_the_bound_was_given() -> None:
    bound = {"max_epochs": 60, "options": {"transformer": {"max_epochs": 50, "dim": 8}, "x": {}}}
    model = trial._for_epochs(bound, "transformer", 7)
    assert model["options"] == {"transformer": {"max_epochs": 7, "dim": 8}, "x": {}}
    assert trial._for_epochs({"max_epochs": 60}, "transformer", 7) == {"max_epochs": 7}
    assert trial._for_epochs(bound, "item_knn", None) is bound


@pytest.mark.slow
def test_two_workers_fit_the_model_that_one_fits(tmp_path: Path) -> None:
    walked = (np.arange(60)[:, None] + np.arange(5)) % 8
    split = leave_one_out(pack([f"u{n}" for n in range(60)], [5] * 60, walked.ravel()))
    own = {"dim": 16, "local": False, "max_epochs": 6, "batch_tokens": 40, "accumulate": 2}
    data = TrainingData(
        split.train,
        bare([str(n) for n in range(8)]),
        settings={"options": {"transformer": own}},
        validate=validator(split.validation, exclude_seen=True),
    )
    alone, both = Transformer(), Transformer()
    alone.fit(data)
    trial.fit_together(both, data, 2, "transformer", tmp_path)
    asked = split.test.histories
    # layers multiply in bfloat16, so a last bit that differs is carried on
    np.testing.assert_allclose(both.scores(asked), alone.scores(asked), atol=0.02)
    assert both.card["best_epoch"] == alone.card["best_epoch"]
