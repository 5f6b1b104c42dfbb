"""A small real shop: two tastes (lamps, teas), models fitted on it, one release."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shopkeeper import search
from shopkeeper.config import Settings
from shopkeeper.features.items import bare
from shopkeeper.features.sequences import pack
from shopkeeper.models import registry
from shopkeeper.models.protocol import TrainingData
from shopkeeper.serving import Service, releases

START = datetime(2026, 1, 1, tzinfo=UTC)
LAMPS = [f"lamp{n}" for n in range(12)]
TEAS = [f"tea{n}" for n in range(12)]
ITEMS = [*LAMPS, *TEAS]


def catalogue() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": ITEMS,
            "title": [f"{i[:-1] if i[-2:].isalpha() else i} number {i}" for i in ITEMS],
            "category": ["lamp"] * 12 + ["tea"] * 12,
            "brand": [("Acme", "Bolt")[n % 2] for n in range(24)],
            "shop_id": [("s1", "s2", "s3")[n % 3] for n in range(24)],
            "price_minor": [1000 + 100 * n for n in range(24)],
            "stock": [None if n == 5 else 3 for n in range(24)],
            "attributes": ['{"colour": "red"}'] * 24,
        },
        schema_overrides={"stock": pl.Int64},
    )


def made_behaviour() -> pl.DataFrame:
    """40 users of each taste, each looking at six items of it; every tenth buys."""
    draw = np.random.default_rng(1)
    rows = []
    for user in range(80):
        taste = LAMPS if user < 40 else TEAS
        for step, item in enumerate(draw.choice(taste, size=6, replace=False).tolist()):
            at = START + timedelta(hours=user, minutes=step)
            kind = "purchase" if step == 5 and user % 10 == 0 else "view"
            rows.append((f"u{user:02}", item, kind, at, 5000, 1200, 1))
    return pl.DataFrame(
        rows,
        schema={
            "user_id": pl.String,
            "item_id": pl.String,
            "kind": pl.String,
            "ts": pl.Datetime("us", "UTC"),
            "dwell_ms": pl.Int64,
            "price_minor": pl.Int64,
            "quantity": pl.Int64,
        },
        orient="row",
    )


@pytest.fixture(scope="session")
def behaviour() -> pl.DataFrame:
    """40 users of each taste, each looking at six items of it; every tenth buys."""
    return made_behaviour()


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of models fitted on `behaviour`, and of a search index."""
    events = made_behaviour()
    index = {item: row for row, item in enumerate(ITEMS)}
    users = events["user_id"].unique(maintain_order=True).to_list()
    sequences = pack(users, [6] * len(users), [index[i] for i in events["item_id"]])
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for name in ("popularity", "item_knn", "sequence_knn"):
        model = registry.MODELS[name]()
        model.fit(TrainingData(sequences, bare(ITEMS)))
        (folder / name).mkdir()
        registry.save(model, folder / name)
        made[name] = folder / name
    search.build(catalogue(), folder / "search")
    return made | {"search": folder / "search"}


@pytest.fixture
def release(fitted: dict[str, Path]) -> Callable[..., str]:
    """Build a release in a workspace: release(workspace, models=…, …) -> id."""

    def make(
        workspace: Path, models: tuple[str, ...] = ("item_knn", "popularity"), **more: object
    ) -> str:
        return releases.build(
            workspace / "store" / "releases",
            models={name: fitted[name] for name in models},
            item_table=bare(ITEMS),
            items=catalogue(),
            events=made_behaviour(),
            search=fitted["search"],
            versions={"models.item_knn": "v1", "clean.events": "v1"},
            **more,  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
def settings() -> Settings:
    """As a shop has them; exploration off, so that pages can be compared, and time enough."""
    return Settings.model_validate({"serving": {"exploration": 0.0, "deadline_ms": 10_000}})


@pytest.fixture
def service(tmp_path: Path, release: Callable[..., str], settings: Settings) -> Iterator[Service]:
    """Open on a release of item_knn and popularity."""
    store = tmp_path / "store" / "releases"
    releases.swap(store, release(tmp_path), reason="test")
    opened = Service.open(tmp_path, settings)
    yield opened
    opened.close()
