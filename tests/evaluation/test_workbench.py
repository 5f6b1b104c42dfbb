"""What is done with trained models, through a small shop that has learned."""

import json
import random
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shopkeeper.cli import app
from shopkeeper.errors import InputError, NotFound
from shopkeeper.evaluation.cards import as_markdown
from shopkeeper.shop import Shop

TOML = """
models = ["ensemble", "popularity", "sequence_knn", "rnn"]
buckets = 2
[training]
max_epochs = 2
dim = 16
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    dice = random.Random(5)
    lines = ["user_id,item_id,timestamp"]
    for user in range(120):
        at = dice.randrange(40)
        for step in range(8):
            lines.append(f"u{user},i{(at + step) % 40},{1_700_000_000 + 4000 * step + 10 * user}")
    (folder / "user_behavior.csv").write_text("\n".join(lines) + "\n")
    items = ["item_id,category", *(f"i{n},c{n % 4}" for n in range(40))]
    (folder / "item_data.csv").write_text("\n".join(items) + "\n")
    (folder / "shop.toml").write_text(TOML)
    with Shop.open(folder) as opened:
        opened.run(["collect", "clean", "features", "train", "report"])
    return folder


@pytest.mark.slow
def test_the_blend_of_the_shop_s_models_is_on_the_leaderboard(shop: Path) -> None:
    with Shop.open(shop) as opened:
        board = opened.leaderboard()
        assert board is not None
        value = {row["model"]: row["metrics"]["NDCG@10"] for row in board["leaderboard"]}
        assert set(value) == {"ensemble", "popularity", "sequence_knn", "rnn"}
        choice = board["cards"]["ensemble"]["choice"]
        assert set(choice["members"]) == {"popularity", "sequence_knn", "rnn"}
        again = opened.run(["train"])
    assert {step["state"] for step in again["steps"]} == {"fresh"}


@pytest.mark.slow
def test_a_card_tells_data_cost_figures_segments_and_limits(shop: Path) -> None:
    with Shop.open(shop) as opened:
        card = opened.card("rnn")
        assert card["data"]["features.sequences"] == opened.assets.current("features.sequences").id
    assert card["cost"]["cpu_seconds"] > 0
    figure = card["metrics"]["NDCG@10"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert card["segments"]["users_returning"]["count"] > 0
    assert any("fitted again on all events" in text for text in card["limits"])
    text = as_markdown(card)
    for heading in ("## Data", "## Cost", "## For whom", "## Settings", "## Limits"):
        assert heading in text
    shown = CliRunner().invoke(app, ["card", "rnn", "--shop", str(shop), "--json"])
    assert json.loads(shown.stdout) == card


@pytest.mark.slow
def test_a_search_of_settings_is_kept_as_an_asset_and_the_test_is_not_read(shop: Path) -> None:
    pytest.importorskip("optuna", reason="the extra [tune] is not installed")
    with Shop.open(shop) as opened:
        told = opened.tune("sequence_knn", space=["window=1:3"], method="grid", trials=9)
        assert len(told["trials"]) == 3
        assert told["best"]["settings"]["window"] in (1, 2, 3)
        assert opened.assets.current("reports.tuning_sequence_knn")
        with pytest.raises(NotFound, match="no model 'nobody'"):
            opened.tune("nobody")


@pytest.mark.slow
def test_a_model_is_exported_with_what_it_takes(shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    with Shop.open(shop) as opened:
        told = opened.export_model("rnn", tmp_path)
        assert told["largest_difference"] < 1e-4
        assert told["same_first"] == 1.0
        with pytest.raises(InputError, match="Popularity cannot be exported"):
            opened.export_model("popularity", tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["output"].startswith("logits")
    assert len(json.loads((tmp_path / "vocabulary.json").read_text())) == 40
