"""What happened while serving, in the next release: nothing comes back, nothing is lost."""

import time
from pathlib import Path

import pytest

from shopkeeper.errors import NotFound
from shopkeeper.governance.access import OWNER
from shopkeeper.shop import Shop
from shopkeeper.words import Purpose


def test_a_deleted_item_does_not_come_back_with_the_next_release(folder: Path) -> None:
    with Shop.open(folder) as shop:
        service = shop.service
        title = service.item("i00")["title"]
        service.delete_item("i00")
        release = shop.run()["release"]
        service.reload()
        live = service._live
        assert live.release.id == release
        assert "i00" in live.catalogue.ids[: live.catalogue.model_items]  # events know it
        pages = [service.recommend(user_id=f"u{n:02d}", k=20).items for n in range(60)]
        assert "i00" not in {hit.item_id for page in pages for hit in page}
        assert "i00" not in {hit.item_id for hit in service.search(title, k=20).items}
        with pytest.raises(NotFound, match="no item 'i00'"):
            service.item("i00")


def test_a_release_made_without_cleaning_skips_no_write_and_no_event(folder: Path) -> None:
    with Shop.open(folder) as shop:
        service = shop.service
        service.put_items([{"item_id": "i12", "price_minor": 77}], "patch")
        service.record([{"user_id": "newcomer", "item_id": "i01", "kind": "view"}])
        shop.run(["collect"])
        release = shop.run(["release"], force=True)["release"]
        service.reload()
        assert service._live.release.id == release
        assert service.item("i12")["price_minor"] == 77
        assert len(service._live.histories.of("newcomer").acts) == 1


def test_reading_the_log_anew_keeps_what_forgotten_answers_said(folder: Path) -> None:
    with Shop.open(folder) as shop:
        service = shop.service
        answer = service.recommend(user_id="u03", k=5)
        item = answer.items[1].item_id
        service.record(
            [{"user_id": "u03", "item_id": item, "kind": "view", "answer_id": answer.answer_id}]
        )
        service.answers.flush()
        for _ in range(2):
            shop.run(["collect.feedback"], force=True)
            rows = shop.assets.read("raw.feedback", by=OWNER, purpose=Purpose.ANALYSE)
            assert rows.select("position", "propensity").rows() == [("2", "1.0")]
            service.answers.forget(time.time_ns() // 1000 + 1)
