"""Search quality on human ratings (protocol chorus_icecat), ours beside plain tantivy, in one run.

    python benchmarks/search_quality.py --data DIR [--cross-validate] [--chinese DIR]

DIR holds products.parquet and judgments.parquet of the form shopkeeper/search/benchmark.py names.
The baselines are what one gets from tantivy with its own English analyser and no more: all fields
summed; the best field of each word; and all words first, then any word fills the tail. With
--cross-validate the weights are chosen anew on four fifths of the queries and scored on the fifth
(five folds, three shuffles): what the choice of weights is worth on queries it did not see.
--chinese takes a folder with the items.parquet of ChineseEcomQA (github.com/OpenStellarTeam): pairs of
query and title, picked to be hard, and whether they fit; it prints the AUC of the search score.
"""

import argparse
import random
import re
import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import tantivy
from tantivy import Filter, Occur, Query, TextAnalyzerBuilder, Tokenizer

from shopkeeper.search import Searcher, build
from shopkeeper.search.benchmark import DEPTH, MODELS, Ratings, measure, read
from shopkeeper.search.index import attribute_text
from shopkeeper.search.searcher import Weights

PLAIN = {"title": 3.0, "model": 2.0, "brand": 2.0, "description": 1.0, "attributes": 0.5}
SHOWN = ("NDCG@10", "condensed_NDCG@10", "judged@10", "recall@100", "p50_ms", "p99_ms")


def baselines(products: pl.DataFrame) -> dict[str, Callable[[str], list[str]]]:
    """Plain tantivy: name -> (query -> item ids)."""
    analyser = (
        TextAnalyzerBuilder(Tokenizer.simple())
        .filter(Filter.remove_long(64))
        .filter(Filter.lowercase())
        .filter(Filter.ascii_fold())
        .filter(Filter.stemmer("english"))
        .build()
    )
    schema = tantivy.SchemaBuilder()
    schema.add_text_field("item_id", stored=True, tokenizer_name="raw")
    for name in PLAIN:
        schema.add_text_field(name, tokenizer_name="english")
    index = tantivy.Index(schema.build())
    index.register_tokenizer("english", analyser)
    writer = index.writer(64_000_000, 1)
    for row in products.iter_rows(named=True):
        attributes, models = attribute_text(row["attributes"])
        writer.add_document(
            tantivy.Document(
                item_id=row["item_id"],
                title=row["title"] or "",
                model=" ".join(models),
                brand=row["brand"] or "",
                description=row["description"] or "",
                attributes=attributes,
            )
        )
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()

    def run(query: Query) -> list[str]:
        return [searcher.doc(at)["item_id"][0] for _, at in searcher.search(query, DEPTH).hits]

    def words(text: str) -> list[str]:
        return re.findall(r"\w+", text.lower())

    def summed(text: str) -> list[str]:
        return run(index.parse_query(" ".join(words(text)), list(PLAIN)))

    def best_field(text: str, occur: Occur) -> list[str]:
        per_word = [
            Query.disjunction_max_query(
                [
                    Query.boost_query(index.parse_query(word, [name]), weight)
                    for name, weight in PLAIN.items()
                ],
                0.1,
            )
            for word in words(text)
        ]
        return run(Query.boolean_query([(occur, query) for query in per_word]))

    def cascade(text: str) -> list[str]:
        strict = best_field(text, Occur.Must)
        loose = best_field(text, Occur.Should) if len(strict) < DEPTH else []
        return list(dict.fromkeys(strict + loose))[:DEPTH]

    return {
        "tantivy, fields summed, any word": summed,
        "tantivy, best field per word, any word": lambda text: best_field(text, Occur.Should),
        "tantivy, all words then any word": cascade,
    }


GRID = {
    "title": (1.0, 1.25, 1.5, 2.0, 3.0),
    "description": (1.0, 1.25, 1.5, 2.0),
    "attributes": (0.5, 0.75, 1.0),
    "model": (0.5, 1.0, 1.5),
    "head": (0.0, 0.2, 0.3, 0.4, 0.5, 0.75),
    "head_word": (1.0, 1.15, 1.3, 1.5),
    "phrase": (0.0, 0.5, 2.0),
    "all_words": (5.0, 10.0, 20.0),
    "all_named": (0.0, 2.0, 4.0, 8.0),
}
ALIKE = Weights(
    title=1.0, description=1.0, model=1.0, attributes=1.0, head=0.0, head_word=1.0, phrase=0.0
)


def cross_validate(folder: Path, ratings: Ratings) -> dict[str, float]:
    """Mean metrics over queries that the weights were not chosen on; the start is all fields alike."""
    searchers: dict[Weights, dict[str, dict[str, float]]] = {}
    usable = [query for query, rated in sorted(ratings.items()) if any(rated.values())]

    def scores(weights: Weights) -> dict[str, dict[str, float]]:
        if weights not in searchers:
            searcher = Searcher.open(folder, weights=weights)
            searchers[weights] = {
                query: measure(
                    lambda text: [item for item, _ in searcher.search(text, DEPTH).hits],
                    {query: ratings[query]},
                )
                for query in usable
            }
        return searchers[weights]

    def worth(weights: Weights, queries: list[str]) -> float:
        found = scores(weights)
        return float(
            np.mean(
                [
                    found[q]["NDCG@10"] + found[q]["condensed_NDCG@10"] + found[q]["recall@100"] / 2
                    for q in queries
                ]
            )
        )

    def choose(queries: list[str]) -> Weights:
        best = ALIKE
        for _ in range(2):
            for name, values in GRID.items():
                tried = [replace(best, **{name: value}) for value in values]
                best = max([best, *tried], key=lambda weights: worth(weights, queries))
        return best

    unseen: list[dict[str, float]] = []
    for shuffle in range(3):
        order = random.Random(shuffle).sample(usable, len(usable))
        for fold in range(5):
            test = order[fold::5]
            chosen = choose([query for query in order if query not in test])
            unseen += [scores(chosen)[query] for query in test]
            kept = {f.name: getattr(chosen, f.name) for f in fields(chosen) if f.name in GRID}
            print(f"  shuffle {shuffle}, fold {fold}: {kept}", flush=True)
    return {name: float(np.mean([row[name] for row in unseen])) for name in SHOWN[:4]}


def chinese_relevance(data: Path) -> dict[str, float]:
    """AUC of our score over (query, title) pairs that fit or do not, and fitting pairs found at all."""
    pairs = (
        pl.read_parquet(data / "items.parquet")
        .filter(pl.col("task") == "relevance")
        .drop_nulls(["query", "item"])
        .with_row_index("item_id")
    )
    fits = (pairs["answer"] == "相关").to_numpy()
    scores = np.zeros(pairs.height)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "search"
        build(pairs.select(pl.col("item_id").cast(pl.String), title="item"), folder)
        searcher = Searcher.open(folder)
        for row, query in enumerate(pairs["query"]):
            found = searcher.search(query, pairs.height)
            if found.stage != "popular":
                scores[row] = dict(found.hits).get(str(row), 0.0)
    better = scores[fits][:, None] - scores[~fits][None]
    return {
        "pairs": float(pairs.height),
        "AUC": float((better > 0).mean() + (better == 0).mean() / 2),
        "fitting pairs found": float((scores[fits] > 0).mean()),
    }


def line(name: str, found: dict[str, float]) -> str:
    return f"{name:42s}" + "".join(
        f"{found[key]:12.3f}" if key in found else f"{'':12s}" for key in SHOWN
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cross-validate", action="store_true")
    parser.add_argument("--chinese", type=Path, help="folder of ChineseEcomQA")
    options = parser.parse_args()
    products, ratings = read(options.data)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "search"
        build(products, folder)
        print(f"{'':42s}" + "".join(f"{key.replace('condensed', 'cond'):>12s}" for key in SHOWN))
        for name, ranked in baselines(products).items():
            print(line(name, measure(ranked, ratings)))
        for model, weights in MODELS.items():
            searcher = Searcher.open(folder, weights=weights)
            found = measure(
                lambda text, s=searcher: [item for item, _ in s.search(text, DEPTH).hits], ratings
            )
            print(line(f"shopkeeper {model} (with facets)", found))
        if options.cross_validate:
            print(
                line("shopkeeper, weights chosen on other queries", cross_validate(folder, ratings))
            )
    if options.chinese:
        print("Chinese pairs:", chinese_relevance(options.chinese))


if __name__ == "__main__":
    main()
