"""The service as a client sees it."""

from shopkeeper.serving import Service


def test_an_event_changes_the_same_users_next_answer_and_nobody_elses(service: Service) -> None:
    before = service.recommend(user_id="new", k=5)
    other = service.recommend(user_id="other", k=5)
    receipt = service.record([{"user_id": "new", "item_id": "tea3", "kind": "view"}])
    after = service.recommend(user_id="new", k=5)
    assert receipt.accepted == 1
    assert [hit.item_id for hit in after.items] != [hit.item_id for hit in before.items]
    assert all(hit.item_id.startswith("tea") for hit in after.items[:2])
    assert after.items[0].reason["key"] == "because_view"
    assert service.recommend(user_id="other", k=5).items == other.items
