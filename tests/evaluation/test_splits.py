import numpy as np
import pytest

from shopkeeper.errors import InputError
from shopkeeper.evaluation.splits import leave_one_out, sample, take, time_split
from shopkeeper.features.sequences import NO_TIME, Examples, Sequences, pack


def shop(users: dict[str, list[tuple[int, int]]]) -> Sequences:
    """Users with (time, item) pairs."""
    return pack(
        list(users),
        [len(events) for events in users.values()],
        [item for events in users.values() for _, item in events],
        times=[time for events in users.values() for time, _ in events],
    )


def targets(examples: Examples) -> dict[str, list[int]]:
    return {
        user: examples.target_items[
            examples.target_offsets[row] : examples.target_offsets[row + 1]
        ].tolist()
        for row, user in enumerate(examples.histories.users)
    }


def histories(sequences: Sequences) -> dict[str, list[int]]:
    return {
        user: sequences.items[sequences.user(row)].tolist()
        for row, user in enumerate(sequences.users)
    }


# ten events: the newest fifth (80, 90) is the test, the newest quarter of the eight before (60, 70)
# the validation
TEN = {
    "a": [(0, 1), (10, 2), (60, 3), (80, 1)],
    "b": [(20, 4), (30, 5), (40, 4), (50, 6)],
    "c": [(70, 7), (90, 8)],
}


def test_one_instant_cuts_all_users() -> None:
    split = time_split(shop(TEN), 0.2, 0.25)
    assert (split.validation_from, split.test_from) == (60, 80)
    assert histories(split.train) == {"a": [1, 2], "b": [4, 5, 4, 6]}
    assert histories(split.validation.histories) == {"a": [1, 2], "c": []}
    assert targets(split.validation) == {"a": [3], "c": [7]}
    assert histories(split.test.histories) == {"a": [1, 2, 3], "c": [7]}
    assert targets(split.test) == {"a": [1], "c": [8]}


def test_a_user_without_events_before_the_cut_is_new_and_has_an_empty_history() -> None:
    split = time_split(shop({**TEN, "d": [(95, 2), (96, 2), (97, 9)]}), 0.2, 0.25)
    assert histories(split.test.histories)["d"] == []
    assert targets(split.test)["d"] == [2, 9]  # distinct, in order of first appearance
    assert split.card()["test_new_users"] == 1
    assert "d" not in split.train.users


def test_repeats_can_be_left_out() -> None:
    split = time_split(shop(TEN), 0.2, 0.25, repeats=False)
    assert targets(split.test) == {"c": [8]}  # user a's only target was known


def test_nothing_learned_from_is_newer_than_anything_asked() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        users = {
            f"u{row}": sorted(
                (int(t), int(i)) for t, i in rng.integers(0, 60, (rng.integers(1, 9), 2))
            )
            for row in range(30)
        }
        everything = shop(users)
        split = time_split(everything, 0.2, 0.2)
        assert split.validation_from is not None
        assert split.test_from is not None
        assert split.train.times.max() < split.validation_from < split.test_from
        assert split.validation.histories.times.max() < split.validation_from
        assert split.test.histories.times.max() < split.test_from
        assert (everything.times >= split.test_from).mean() >= 0.2
        for row, user in enumerate(split.test.histories.users):
            events = users[user]
            known = [item for time, item in events if time < split.test_from]
            came = list(dict.fromkeys(item for time, item in events if time >= split.test_from))
            assert histories(split.test.histories)[user] == known, row
            assert targets(split.test)[user] == came


def test_events_of_one_instant_stay_together() -> None:
    together = {f"u{row}": [(row, 0), (50, 1)] for row in range(10)}  # half of the events at 50
    split = time_split(shop(together), 0.1, 0.2)
    assert split.test_from == 50
    assert len(split.test) == 10


def test_the_oldest_instant_is_kept_for_training() -> None:
    bulk = {f"u{row}": [(0, row)] for row in range(50)} | {"late": [(1, 1), (2, 2), (3, 3)]}
    split = time_split(shop(bulk), 0.4, 0.4)
    assert (split.validation_from, split.test_from) == (1, 2)
    assert len(split.train) == 50


def test_events_without_times_are_refused_with_the_reason_and_the_way_out() -> None:
    unknown = pack(["a"], [3], [1, 2, 3])
    with pytest.raises(InputError, match="no event has a time") as caught:
        time_split(unknown)
    assert "leave_one_out" in caught.value.next
    some = pack(["a"], [3], [1, 2, 3], times=[NO_TIME, 5, 6])
    with pytest.raises(InputError, match="1 events of 3 have no time"):
        time_split(some)


@pytest.mark.parametrize(
    ("users", "text"),
    [
        ({}, "no events to split"),
        ({"a": [(5, 1), (5, 2)]}, "2 events stand at 1 instants; wanted at least 3"),
        ({"a": [(0, 1)], "b": [(9, 1), (5, 2), (12, 3)]}, "user 'b': events are not oldest first"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(users, text) -> None:
    with pytest.raises(InputError, match=text):
        time_split(shop(users))


def test_a_share_outside_0_and_1_is_refused() -> None:
    with pytest.raises(InputError, match="test_share = 1"):
        time_split(shop(TEN), 1, 0.5)


def test_leave_one_out_asks_for_the_last_event_of_users_with_three() -> None:
    split = leave_one_out(pack(["a", "b", "c"], [4, 2, 3], [1, 2, 3, 4, 8, 9, 5, 6, 7]))
    assert histories(split.train) == {"a": [1, 2], "b": [8, 9], "c": [5]}
    assert histories(split.validation.histories) == {"a": [1, 2], "c": [5]}
    assert targets(split.validation) == {"a": [3], "c": [6]}
    assert histories(split.test.histories) == {"a": [1, 2, 3], "c": [5, 6]}
    assert targets(split.test) == {"a": [4], "c": [7]}
    assert split.test_from is None


def test_leave_one_out_without_long_enough_users_is_refused() -> None:
    with pytest.raises(InputError, match="no user has 3 events"):
        leave_one_out(pack(["a"], [2], [1, 2]))


def test_a_sample_is_the_same_each_time_and_keeps_histories_with_their_targets() -> None:
    split = time_split(
        shop({f"u{row}": [(row, row), (1000 + row, row + 1)] for row in range(50)}), 0.45, 0.1
    )
    some = sample(split.test, 7, seed=1)
    assert len(some) == 7
    again = sample(split.test, 7, seed=1)
    assert some.histories.users == again.histories.users
    assert all(targets(split.test)[user] == found for user, found in targets(some).items())
    assert sample(split.test, 10_000, seed=1) is split.test
    back = take(split.test, np.arange(len(split.test))[::-1])
    assert targets(back) == targets(split.test)
