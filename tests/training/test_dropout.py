import torch

from shopkeeper.training.dropout import Dropout


def test_the_share_asked_for_is_dropped_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    drop = Dropout(0.3)
    made = drop(torch.ones(1000, 1000))
    assert abs(float((made == 0).float().mean()) - 0.3) < 0.003
    assert abs(float(made.mean()) - 1.0) < 0.005


def test_outside_learning_nothing_is_dropped() -> None:
    drop = Dropout(0.5).eval()
    x = torch.randn(7, 3)
    assert drop(x) is x
