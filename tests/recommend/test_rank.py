"""Fusing several sources' candidates, against plain arithmetic."""

import numpy as np
import pytest

from shopkeeper.recommend.rank import choose_weights, fuse
from shopkeeper.recommend.retrieve import Candidates, best, by_popularity, popular


def candidates(source: str, *rows: int) -> Candidates:
    return Candidates(source, np.array(rows), np.arange(len(rows), 0, -1, dtype=np.float32))


def test_the_fused_score_is_the_weighted_sum_of_reciprocal_ranks() -> None:
    ranked = fuse([candidates("a", 7, 3), candidates("b", 3, 9)], {"a": 2.0, "b": 1.0}, 10.0)
    by_row = dict(zip(ranked.rows.tolist(), ranked.scores.tolist(), strict=True))
    assert by_row == pytest.approx({7: 2 / 11, 3: 2 / 12 + 1 / 11, 9: 1 / 12})
    assert ranked.rows.tolist() == [3, 7, 9]
    assert ranked.sources == ["a", "a", "b"]


def test_without_weights_all_sources_weigh_the_same_and_ties_go_to_the_lower_row() -> None:
    ranked = fuse([candidates("a", 5, 1), candidates("b", 1, 5)])
    assert ranked.rows.tolist() == [1, 5]
    assert ranked.scores[0] == ranked.scores[1]


def test_a_source_of_weight_zero_proposes_nothing() -> None:
    assert fuse([candidates("a", 1), candidates("b", 2)], {"a": 1.0}).rows.tolist() == [1]
    assert fuse([candidates("a", 1)], {}).rows.tolist() == []


def test_candidates_are_filtered_before_the_top_is_taken() -> None:
    scores = np.arange(100, dtype=np.float32)
    allowed = np.zeros(120, dtype=np.bool_)
    allowed[[3, 5, 110]] = True
    assert best("m", scores + 1, allowed, 10).rows.tolist() == [5, 3]


def test_what_a_counting_model_scores_zero_is_no_candidate() -> None:
    scores = np.array([0.0, 2.0, 0.0, 1.0], dtype=np.float32)
    assert best("m", scores, np.ones(4, np.bool_), 3).rows.tolist() == [1, 3]


def test_the_floor_proposes_every_allowed_item_even_the_never_seen() -> None:
    order = by_popularity(np.array([1.0, 5.0, 9.0, 5.0], np.float32))
    assert order.tolist() == [2, 1, 3, 0]
    found = popular(order, np.array([True, True, False, True, True]), 10)
    assert found.rows.tolist() == [1, 3, 0, 4]


def slow_ndcg(
    rankings: dict[str, np.ndarray], targets: np.ndarray, weights: dict[str, float], constant: float
) -> float:
    total = 0.0
    for example, target in enumerate(targets):
        scores: dict[int, float] = {}
        for source, weight in weights.items():
            for place, row in enumerate(rankings[source][example], 1):
                if row >= 0:
                    scores[row] = scores.get(row, 0.0) + weight / (constant + place)
        page = sorted(scores, key=lambda row: (-scores[row], row))[:10]
        if target in page:
            total += 1.0 / np.log2(page.index(target) + 2)
    return total / len(targets)


def test_chosen_weights_reach_what_they_claim_and_are_no_worse_than_any_single_source() -> None:
    draw = np.random.default_rng(2)
    targets = draw.integers(0, 60, 80)
    rankings = {}
    for name, hits in (("good", 0.6), ("fair", 0.4), ("random", 0.0)):
        lists = np.stack([draw.permutation(60)[:20] for _ in targets])
        for example, target in enumerate(targets):
            if draw.random() < hits and target not in lists[example]:
                lists[example][draw.integers(0, 8)] = target
        rankings[name] = lists.astype(np.int32)
    weights, constant, reached = choose_weights(rankings, targets.astype(np.int32))
    assert reached == pytest.approx(slow_ndcg(rankings, targets, weights, constant), abs=1e-6)
    for name in rankings:
        assert reached >= slow_ndcg(rankings, targets, {name: 1.0}, constant) - 1e-9
