import numpy as np

from shopkeeper.features.sequences import Sequences, pack
from shopkeeper.models import item_knn, neighbours
from shopkeeper.models.sequence_knn import Config


def _random(seed: int, users: int = 30, items: int = 12) -> Sequences:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 15, users)
    flat = rng.integers(0, items, lengths.sum())
    return pack([str(u) for u in range(users)], lengths, flat)


def test_similarity_is_the_rule_written_out() -> None:
    sequences, items, config = _random(3), 12, Config()
    slow = np.zeros((items, items))
    events = np.zeros(items)
    for user in range(len(sequences)):
        own = sequences.items[sequences.user(user)].tolist()
        for i, a in enumerate(own):
            events[a] += 1
            for d in range(1, config.window + 1):
                if i + d < len(own) and own[i + d] != a:
                    slow[a, own[i + d]] += 1 / d
                    slow[own[i + d], a] += config.backward / d
    slow /= np.sqrt(np.outer(events + 1, events + 1))
    fast = neighbours.similarity(sequences, items, config).toarray()
    np.testing.assert_allclose(fast, slow, rtol=1e-6)


def test_history_weights_are_the_rule_written_out() -> None:
    histories, config = _random(4), Config(recent=6)
    fast = neighbours.recent_weights(histories, 12, config).toarray()
    slow = np.zeros((len(histories), 12))
    for user in range(len(histories)):
        own = histories.items[histories.user(user)].tolist()
        for age, item in enumerate(reversed(own[-6:])):
            slow[user, item] += config.decay**age
    np.testing.assert_allclose(fast, slow, rtol=1e-6)


def test_item_knn_similarity_is_the_rule_written_out() -> None:
    sequences, items = _random(5), 12
    had = np.zeros((len(sequences), items))
    for user in range(len(sequences)):
        had[user, sequences.items[sequences.user(user)]] = 1
    slow = had.T @ had
    np.fill_diagonal(slow, 0)
    slow /= np.sqrt(np.outer(had.sum(0) + 1, had.sum(0) + 1))
    np.testing.assert_allclose(
        item_knn.similarity(sequences, items, 100).toarray(), slow, rtol=1e-6
    )


def test_fitting_leaves_the_sequences_as_they_were() -> None:
    sequences = _random(6)
    before = (sequences.offsets.copy(), sequences.items.copy())
    item_knn.similarity(sequences, 12, 100)
    neighbours.similarity(sequences, 12, Config())
    neighbours.recent_weights(sequences, 12, Config())
    assert (sequences.offsets == before[0]).all()
    assert (sequences.items == before[1]).all()
