"""What graph models share, and attention and paths on stores where the truth was planted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse as sp
import torch

from shopkeeper.errors import InputError
from shopkeeper.evaluation.inductive import measure_newcomers, newcomers
from shopkeeper.features.items import ItemTable, bare
from shopkeeper.features.sequences import Sequences, Vocabulary, pack
from shopkeeper.features.ties import tie
from shopkeeper.models import gat, gcn, graph, graph_filter, gtn, registry
from shopkeeper.models.protocol import TrainingData, rank
from shopkeeper.words import KIND_CODES

VIEW, CART, BUY = (KIND_CODES[kind] for kind in ("view", "cart", "purchase"))
GROUPS, OF_GROUP = 4, 12  # planted: users and items of one group find each other
KINDS = [gcn.Gcn, gat.Gat, gtn.Gtn]
SMALL = {"dim": 16, "batch_users": 32, "learning_rate": 0.03, "max_epochs": 12, "local": False}


def _taste(users: int, length: int, seed: int = 0) -> Sequences:
    """User u takes `length` different items of group u % GROUPS."""
    rng = np.random.default_rng(seed)
    flat = [
        (u % GROUPS) * OF_GROUP + i
        for u in range(users)
        for i in rng.choice(OF_GROUP, length, replace=False)
    ]
    return pack([f"u{u}" for u in range(users)], [length] * users, flat)


def _items(count: int = GROUPS * OF_GROUP, tags: bool = False) -> ItemTable:
    plain = bare([f"i{n}" for n in range(count)])
    if not tags:
        return plain
    return replace(
        plain,
        tag_offsets=np.arange(count + 1, dtype=np.int64),
        tags=np.asarray([n // OF_GROUP % GROUPS for n in range(count)], dtype=np.int32),
        tag_names=[f"brand={n}" for n in range(GROUPS)],
    )


def _fitted(kind: type[Any], data: TrainingData, **options: Any) -> Any:
    model = kind()
    model.fit(replace(data, threads=1, settings={"options": {kind.name: SMALL | options}}))
    return model


def _own_group(model: Any, histories: Sequences, groups: list[int], k: int = 3) -> float:
    """Share of the best k, history left out, that is of the user's own group."""
    seen = [histories.items[histories.user(row)] for row in range(len(histories))]
    best, _ = rank(model, histories, k, exclude=seen)
    return float((best // OF_GROUP % GROUPS == np.asarray(groups)[:, None]).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_users_who_joined_after_training_are_embedded_from_their_items(kind: type[Any]) -> None:
    model = _fitted(kind, TrainingData(_taste(120, 5), _items()))
    new = pack(["new a", "new b"], [2, 1], [1, 2, 2 * OF_GROUP])
    assert _own_group(model, new, [0, 2]) == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_users_without_a_history_are_embedded_from_those_they_follow(kind: type[Any]) -> None:
    sequences = _taste(120, 5)
    pairs = [(f"u{u}", f"u{(u + GROUPS) % 120}") for u in range(120)]
    pairs += [("quiet", "u1"), ("quiet", "u5"), ("silent", "u3"), ("lonely", "nobody")]
    model = _fitted(kind, TrainingData(sequences, _items(), ties=tie(pairs)))
    nothing = pack(["quiet", "silent"], [0, 0], [])
    assert _own_group(model, nothing, [1, 3]) == 1.0
    scores = model.scores(pack(["lonely", "stranger"], [0, 0], []))
    np.testing.assert_array_equal(scores, np.log(model.shares)[None].repeat(2, axis=0))


def test_whom_users_follow_is_kept_without_their_ids(tmp_path: Path) -> None:
    pairs = [(f"u{u}", f"u{u + 4}") for u in range(100)]
    model = _fitted(gcn.Gcn, TrainingData(_taste(120, 5), _items(), ties=tie(pairs)), max_epochs=1)
    registry.save(model, tmp_path)
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"u17" not in kept
    again = registry.load(tmp_path)
    nothing = pack(["u17", "u18"], [0, 0], [])
    assert again.scores(nothing).tobytes() == model.scores(nothing).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_items_that_joined_after_training_are_recommended_from_their_neighbours(
    kind: type[Any],
) -> None:
    sequences = _taste(120, 5)
    model = _fitted(kind, TrainingData(sequences, _items(tags=True)), item_dropout=0.1)
    table = _items(GROUPS * OF_GROUP + 2, tags=True)  # two more, of the brands of groups 0 and 0
    table = replace(table, tags=np.append(table.tags[:-2], [0, 3]).astype(np.int32))
    grown = model.grown(sequences, table)
    mine = pack(["a", "b"], [3, 3], [0, 1, 2, 36, 37, 38])
    scores = grown.scores(mine)[:, -2:]
    assert scores[0, 0] > scores[0, 1]  # by its brand alone: nobody has taken it yet
    assert scores[1, 1] > scores[1, 0]
    assert _own_group(grown, mine, [0, 3]) > 0.6
    with pytest.raises(InputError, match="48 were learned"):
        model.grown(sequences, _items(3))


def test_a_graph_that_did_not_grow_answers_the_same() -> None:
    sequences = _taste(80, 5)
    model = _fitted(gcn.Gcn, TrainingData(sequences, _items()), max_epochs=2)
    again = model.grown(sequences, _items())
    mine = pack(["a"], [2], [0, 1])
    # what calibration had held out has come into the graph
    assert np.corrcoef(again.scores(mine)[0], model.scores(mine)[0])[0, 1] > 0.95


def test_newcomers_are_measured_without_learning_and_after_it() -> None:
    cut = newcomers(_taste(300, 8), _items())
    assert set(cut.users.histories.users).isdisjoint(cut.learned.users)
    assert cut.learned.items.max() < len(cut.known)
    assert cut.new_items.target_items.min() >= len(cut.known)
    found = measure_newcomers(gcn.Gcn, cut, settings={"options": {"gcn": SMALL}}, k=10)
    for part in ("new users", "new items"):
        key = f"recall@10, {part}"
        assert found["grown"][key] > 0.9 * found["learned again"][key]
    assert found["grown"]["recall@10, new users"] > 2 * found["popularity"]["recall@10, new users"]


def test_newcomers_need_users_and_items_with_events() -> None:
    with pytest.raises(InputError, match="wanted at least 20"):
        newcomers(_taste(8, 5), _items())


def _shopping(users: int = 160) -> Sequences:
    """Carts and purchases follow the user's group; what is viewed besides is anything."""
    rng = np.random.default_rng(3)
    items, kinds = [], []
    for u in range(users):
        own = (u % GROUPS) * OF_GROUP + rng.choice(OF_GROUP, 5, replace=False)
        noise = rng.choice(GROUPS * OF_GROUP, 8, replace=False)
        items += [*noise, *own[:3], *own[3:]]
        kinds += [VIEW] * 8 + [CART] * 3 + [BUY] * 2
    return pack([f"u{u}" for u in range(users)], [13] * users, items, kinds=kinds)


def test_the_graph_transformer_finds_the_paths_that_matter() -> None:
    model = _fitted(
        gtn.Gtn, TrainingData(_shopping(), _items()), asked="purchase", layers=1, max_epochs=15
    )
    paths = {one["path"]: one["weight"] for one in model.card["learned"]["paths"]}
    assert paths["cart->purchase"] > paths["view->view"]
    weights = model.card["learned"]["weight_of_kind"]
    assert weights["cart"] > weights["view"]


@pytest.mark.parametrize("kind", KINDS)
def test_items_of_the_history_are_named_again_where_people_do_so(kind: type[Any]) -> None:
    rng = np.random.default_rng(5)
    items = [
        i
        for _ in range(200)
        for own in [rng.choice(40, 6, replace=False)]
        for i in [*own, *own[:3]]
    ]
    kinds = ([VIEW] * 6 + [BUY] * 3) * 200  # what is bought was viewed
    data = TrainingData(
        pack([f"u{n}" for n in range(200)], [9] * 200, items, kinds=kinds), _items(40)
    )
    model = _fitted(kind, data, asked="purchase")
    best, _ = rank(model, pack(["a"], [3], [7, 11, 30], kinds=[VIEW] * 3), 3)
    assert set(best[0].tolist()) == {7, 11, 30}


def test_an_asked_kind_that_nobody_did_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"asked = 'cart'.*there are: view"):
        _fitted(gcn.Gcn, TrainingData(_taste(20, 3), _items()), asked="cart")


@pytest.mark.parametrize(("kind", "options"), [(gcn.Gcn, {"form": "deep"}), (gcn.Gcn, {"start": "x"}), (gat.Gat, {"heads": 5}), (gtn.Gtn, {"channels": 3}), (gtn.Gtn, {"next": "maybe"})])  # fmt: skip
def test_a_setting_that_makes_no_sense_is_an_input_error(
    kind: type[Any], options: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        _fitted(kind, TrainingData(_taste(20, 3), _items()), **options)


def test_what_is_asked_for_is_not_in_the_graph_that_answers() -> None:
    built = graph.build(_taste(10, 4), _items())
    hidden = np.asarray([0, 7])
    view = graph.View(built, hidden)
    for edge in range(len(built.owner)):
        there = view.taken.matrix[[built.owner[edge]], [built.item[edge]]]
        assert (there == 0) == (edge in hidden)
    assert len(view.drawn[0]) == len(built.owner) - 2


def test_convolution_through_a_draw_of_users_is_right_on_average() -> None:
    built = graph.build(_taste(60, 5), _items())
    x = torch.randn(48, 4, generator=torch.Generator().manual_seed(1))
    whole = built.taken.back(built.taken.forward(x))
    rng = np.random.default_rng(2)
    total = torch.zeros_like(x)
    for _ in range(400):
        edges = graph.View(built, None, np.sort(rng.choice(60, 20, replace=False))).taken
        total += edges.back(edges.forward(x)) / 400
    torch.testing.assert_close(total, whole, atol=0.15, rtol=0.1)


def test_learning_through_a_draw_of_users_learns_the_groups() -> None:
    model = _fitted(gcn.Gcn, TrainingData(_taste(120, 5), _items()), learning_users=30)
    assert _own_group(model, pack(["a"], [2], [1, 2]), [0]) == 1.0


def test_sparse_products_have_the_gradients_of_dense_ones() -> None:
    matrix = sp.random_array((7, 5), density=0.4, rng=np.random.default_rng(0), dtype=np.float32)
    edges = graph.Edges.of(sp.csr_array(matrix)).kept(
        np.linspace(0, 1, matrix.nnz, dtype=np.float32)
    )
    dense = torch.from_numpy(edges.matrix.toarray())
    np.testing.assert_array_equal(edges.turned.toarray(), edges.matrix.toarray().T)
    x = torch.randn(5, 3, requires_grad=True)
    ours, theirs = (edges.back(edges.forward(x)) ** 2).sum(), ((dense.T @ (dense @ x)) ** 2).sum()
    torch.testing.assert_close(*(torch.autograd.grad(each, x)[0] for each in (ours, theirs)))


def test_attention_that_has_learned_nothing_is_light_convolution() -> None:
    built = graph.build(_taste(30, 5), _items())
    torch.manual_seed(0)
    light = gcn.Network(gcn.Config(dim=8, layers=2), 48, 1).eval()
    soft = gat.Network(gat.Config(dim=8, layers=2, heads=2), 48, 1).eval()
    with torch.no_grad():
        for part in soft.modules():
            if isinstance(part, gat.Attention):
                part.heard.zero_()
                part.hearing.zero_()
        soft.items.weight.copy_(light.items.weight)
        view = graph.View(built)
        torch.testing.assert_close(soft.table(view), light.table(view), atol=1e-5, rtol=1e-4)


def test_attention_is_the_formula_node_by_node() -> None:
    torch.manual_seed(1)
    config = gat.Config(dim=6, heads=2)
    layer = gat.Attention(config, 2)
    with torch.no_grad():
        for part in layer.parameters():
            part.normal_()
    rows, columns, kinds = np.array([0, 0, 0, 2]), np.array([1, 3, 0, 2]), np.array([0, 1, 0, 1])
    towards = gat.Towards.of(rows, columns, kinds, (3, 4))
    x, y, prior = torch.randn(4, 6, requires_grad=True), torch.randn(3, 6), torch.randn(4)
    ours = layer(x, y, prior, towards)
    values, asked = layer.turn(x).view(4, 2, 3), layer.turn(y).view(3, 2, 3)
    expected = torch.zeros(3, 2, 3)
    for node in (0, 2):
        for head in range(2):
            near = np.flatnonzero(rows == node)
            e = torch.stack([
                torch.nn.functional.leaky_relu(
                    values[columns[n], head] @ layer.heard[head]
                    + asked[node, head] @ layer.hearing[head]
                    + layer.kinds[kinds[n], head], 0.2) + prior[columns[n]]
                for n in near
            ])  # fmt: skip
            mixed = (e.softmax(0)[:, None] * values[columns[near], head]).sum(dim=0)
            expected[node, head] = expected[node, head] + mixed
    torch.testing.assert_close(ours, expected.view(3, 6))
    named = [x, *layer.parameters()]
    for mine, theirs in zip(
        torch.autograd.grad((ours**2).sum(), named, retain_graph=True),
        torch.autograd.grad((expected**2).sum(), named),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_hard_attention_hears_the_best_neighbours_alone() -> None:
    logits = torch.tensor([[0.1, 5.0], [0.3, 1.0], [0.2, 2.0], [-4.0, -4.0]])
    kept = gat.best(logits, torch.tensor([0, 0, 0, 1]), np.array([0, 3, 4]), top=2)
    assert torch.isinf(kept).tolist() == [
        [True, False],
        [False, True],
        [False, False],
        [False, False],
    ]
    model = _fitted(gat.Gat, TrainingData(_taste(120, 5), _items()), top=3)
    assert _own_group(model, pack(["a"], [2], [1, 2]), [0]) == 1.0


def test_the_linear_filter_is_the_matrix_formula() -> None:
    built = graph.build(_taste(40, 5), _items())
    taken = built.taken.matrix
    vectors, values = graph_filter.singular(taken, 40, seed=0)
    made = graph_filter.build(taken, built.degrees, vectors, values, low=0.3, sharpen=0.7, most=48)
    dense = taken.toarray().astype(np.float64)
    p = dense.T @ dense
    fade = scipy.linalg.expm(-0.7 * p)
    root = np.sqrt(np.maximum(built.degrees, 1.0))[:, None]
    ideal = (vectors / root) @ (vectors * root).T
    given = sp.csr_array(np.eye(48, dtype=np.float32)[:5])
    expected = ((p + 0.3 * ideal) @ fade)[:5]
    np.testing.assert_allclose(made.scores(given), expected, atol=5e-3)


def test_singular_vectors_are_those_of_the_whole_decomposition() -> None:
    taken = graph.build(_taste(60, 5), _items()).taken.matrix
    vectors, values = graph_filter.singular(taken, 5, seed=0)
    _, exact, right = np.linalg.svd(taken.toarray())
    np.testing.assert_allclose(values, exact[:5], atol=1e-4)
    own = (
        vectors[:, :4] @ vectors[:, :4].T
    )  # the first four are of one size: a basis of their space
    np.testing.assert_allclose(own, right[:4].T @ right[:4], atol=1e-2)


def test_vocabulary_of_grown_items_begins_with_the_known_ones() -> None:
    cut = newcomers(_taste(300, 8), _items(tags=True))
    assert cut.items.vocabulary.ids[: len(cut.known)] == cut.known.vocabulary.ids
    assert isinstance(cut.known.vocabulary, Vocabulary)
    by_name = {f"i{n}": n // OF_GROUP for n in range(GROUPS * OF_GROUP)}
    assert [by_name[item] for item in cut.items.vocabulary.ids] == cut.items.tags.tolist()
