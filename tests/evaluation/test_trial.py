"""The trial of a model, and the model that serves after it."""

from shopkeeper.evaluation import trial


def test_the_refit_stops_where_the_trial_was_best_wherever_the_bound_was_given() -> None:
    bound = {"max_epochs": 60, "options": {"transformer": {"max_epochs": 50, "dim": 8}, "x": {}}}
    model = trial._for_epochs(bound, "transformer", 7)
    assert model["options"] == {"transformer": {"max_epochs": 7, "dim": 8}, "x": {}}
    assert trial._for_epochs({"max_epochs": 60}, "transformer", 7) == {"max_epochs": 7}
    assert trial._for_epochs(bound, "item_knn", None) is bound
