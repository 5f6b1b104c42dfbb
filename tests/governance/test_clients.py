from pathlib import Path

import pytest

from shopkeeper.errors import Denied, InputError, NotFound
from shopkeeper.governance.clients import Clients, KeyType, may_bind


@pytest.fixture
def clients(tmp_path: Path):
    with Clients.of(tmp_path) as made:
        yield made


def test_a_key_is_shown_once_and_only_its_digest_is_stored(clients, tmp_path) -> None:
    client, key = clients.add("till")
    assert clients.check(key).client_id == client.client_id
    secret = key.rsplit("_", 1)[-1]
    for file in (tmp_path / "store").iterdir():
        assert secret.encode() not in file.read_bytes(), file


def test_a_wrong_or_malformed_key_is_denied_with_one_and_the_same_message(clients) -> None:
    _, key = clients.add("till")
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    messages = set()
    for bad in (wrong, "", "sk_", "nonsense", "sk_000000000000_" + "x" * 43, "\udcff"):
        with pytest.raises(Denied) as caught:
            clients.check(bad)
        messages.add(str(caught.value))
    assert len(messages) == 1
    assert "shopkeeper clients add NAME" in messages.pop()


def test_a_revoked_key_stops_at_once_here_and_its_sessions_with_it(clients) -> None:
    _, key = clients.add("till")
    token = clients.sign_in(key)
    assert clients.signed_in(token) is not None
    clients.revoke("till")
    with pytest.raises(Denied):
        clients.check(key)
    assert clients.signed_in(token) is None
    with pytest.raises(NotFound, match="shopkeeper clients ls"):
        clients.revoke("till")


def test_another_process_sees_new_keys_and_last_use(clients, tmp_path) -> None:
    _, key = clients.add("till")
    with Clients.of(tmp_path) as other:
        assert other.check(key).name == "till"
    assert clients.all()[0].last_used is not None


def test_a_name_can_be_used_again_only_after_it_was_revoked(clients) -> None:
    clients.add("till")
    with pytest.raises(InputError, match="already"):
        clients.add("till")
    clients.revoke("till")
    clients.add("till")
    assert [client.revoked_at is None for client in clients.all()].count(True) == 1


def test_a_publishable_key_needs_origins_and_a_secret_one_has_none(clients) -> None:
    with pytest.raises(InputError, match="--origin"):
        clients.add("page", KeyType.PUBLISHABLE)
    with pytest.raises(InputError, match="--publishable"):
        clients.add("page", origins=["https://shop.example"])
    client, key = clients.add("page", KeyType.PUBLISHABLE, origins=["https://Shop.example/"])
    assert client.origins == ("https://shop.example",)
    assert key.startswith("pk_")
    with pytest.raises(Denied, match="publishable"):
        clients.sign_in(key)


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://a/b", "https://*.a", "ftp://a", "https://u@a", "*", ""]
)
def test_an_origin_is_scheme_and_host_and_nothing_else(clients, origin: str) -> None:
    with pytest.raises(InputError, match="origin"):
        clients.add("page", KeyType.PUBLISHABLE, origins=[origin])


def test_without_a_key_only_this_machine_may_be_served(clients) -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        may_bind(host, clients)
    with pytest.raises(InputError, match="shopkeeper clients add NAME"):
        may_bind("0.0.0.0", clients)
    clients.add("till")
    may_bind("0.0.0.0", clients)
    clients.revoke("till")
    with pytest.raises(InputError):
        may_bind("192.168.1.7", clients)


def test_a_session_ends_when_the_person_signs_out(clients) -> None:
    _, key = clients.add("me")
    token = clients.sign_in(key)
    clients.sign_out(token)
    assert clients.signed_in(token) is None
    assert clients.signed_in("made up") is None
