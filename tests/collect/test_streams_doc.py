"""What docs/streams.md promises."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from shopkeeper.collect.sources import find_sources
from shopkeeper.config import Settings, Signature, Source
from shopkeeper.serving.hooks import rows_of

PAGE = (Path(__file__).parents[2] / "docs" / "streams.md").read_text(encoding="utf-8")


def test_the_example_is_a_valid_shop_toml(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    settings = Settings.model_validate(tomllib.loads(block))
    assert [source.format for source in find_sources(settings, tmp_path)] == [
        "kafka", "redis", "webhook", None
    ]  # fmt: skip


@pytest.mark.parametrize("sender", ["GitHub", "Shopify", "Slack"])
def test_the_ways_of_signing_are_valid(sender: str) -> None:
    (keys,) = re.findall(rf"^\| {sender} \| `(.*)` \|$", PAGE, re.M)
    told = tomllib.loads("s = { secret = '${NAME}', " + keys + " }")["s"]
    signature = Signature.model_validate(told)
    assert Source(table="events", format="webhook", stream="x", signature=signature).signature


def test_the_delivery_by_hand_is_one_row_of_its_table() -> None:
    (body,) = re.findall(r"body='(.*?)'", PAGE)
    assert json.loads(rows_of(body.encode())[0])["review_id"] == "r1"
