import numpy as np

from shopkeeper.training import batches


def test_every_user_with_events_is_in_exactly_one_batch() -> None:
    lengths = np.random.default_rng(0).integers(0, 40, 500)
    seen = np.concatenate(list(batches.epoch(lengths, 300, np.random.default_rng(1))))
    assert sorted(seen) == np.flatnonzero(lengths > 0).tolist()


def test_batches_are_of_about_the_size_asked_and_of_few_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 40, 5000)
    made = list(batches.epoch(lengths, 1000, np.random.default_rng(1)))
    sizes = np.array([lengths[users].sum() for users in made])
    assert sizes.max() <= 1000 + 40
    assert np.median(sizes) > 900
    assert np.median([len(np.unique(lengths[users])) for users in made]) <= 5


def test_a_layout_puts_users_of_one_length_side_by_side_without_padding() -> None:
    starts, lengths = np.array([0, 3, 4, 7]), np.array([3, 1, 3, 2])
    made = batches.layout(starts, lengths, np.array([0, 1, 2, 3]))
    assert made.users.tolist() == [1, 3, 0, 2]
    assert made.tokens.tolist() == [3, 7, 8, 0, 1, 2, 4, 5, 6]
    assert [tuple(group) for group in made.groups] == [(0, 1, 1), (1, 1, 2), (3, 2, 3)]
    assert made.ends.tolist() == [0, 2, 5, 8]


def test_in_windows_every_event_but_a_users_first_is_a_target_once() -> None:
    lengths = np.array([0, 1, 2, 7, 50, 51, 52, 240])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    starts, sizes = batches.windows(offsets, 51)
    assert sizes.max() <= 51
    targets = np.concatenate([np.arange(s + 1, s + n) for s, n in zip(starts, sizes, strict=True)])
    firsts = set(offsets[:-1][lengths > 0].tolist())
    assert sorted(targets) == [row for row in range(offsets[-1]) if row not in firsts]


def test_order_noise_swaps_only_near_places_within_a_piece() -> None:
    starts, lengths = np.array([5, 100]), np.array([40, 30])
    rng = np.random.default_rng(0)
    still = batches.order_noise(starts, lengths, 1.0, rng)
    assert still.tolist() == [*range(5, 45), *range(100, 130)]
    moved = batches.order_noise(starts, lengths, 2.0, rng)
    assert sorted(moved[:40]) == list(range(5, 45))
    assert sorted(moved[40:]) == list(range(100, 130))
    assert 0 < np.abs(moved - still).max() <= 2
    assert (moved != still).any()


def test_turning_reverses_the_chosen_pieces_only() -> None:
    rows = np.arange(9)
    which = np.array([True, False, True])
    made = batches.turn(rows, np.array([0, 3, 5]), np.array([3, 2, 4]), which)
    assert made.tolist() == [2, 1, 0, 3, 4, 8, 7, 6, 5]
