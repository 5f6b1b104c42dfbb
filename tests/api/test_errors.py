"""One shape for every error, on every route there is."""

import shutil
from typing import Any

import pytest

from shopkeeper.api.app import create_app
from shopkeeper.shop import Shop


def assert_shape(response: Any) -> dict[str, str]:
    assert response.headers["content-type"] == "application/json", response.text
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message", "where", "next"]
    assert all(isinstance(part, str) for part in body["error"].values())
    assert body["error"]["code"]
    assert body["error"]["message"]
    return body["error"]


def test_a_wrong_method_on_every_route_answers_in_the_one_shape(served) -> None:
    schema = served.http.get("/openapi.json").json()
    paths = {path: set(methods) for path, methods in schema["paths"].items()}
    assert len(paths) >= 15
    for path, methods in paths.items():
        address = (
            path.replace("{item_id}", "i01").replace("{answer_id}", "a").replace("{name}", "n")
        )
        wrong = next(m for m in ("put", "patch", "delete", "post", "get") if m not in methods)
        if wrong in ("put", "patch", "delete") and "{item_id}" in path:
            continue  # /items/{id}/similar is also the address of an item called id/similar
        response = served.http.request(wrong.upper(), address)
        assert response.status_code == 405, (wrong, address)
        error = assert_shape(response)
        assert error["code"] == "method"
        assert response.headers["allow"]


def test_every_route_refuses_a_stranger_in_the_one_shape(fresh) -> None:
    fresh.clients.add("till")
    fresh.http.headers["accept"] = "application/json"
    app = create_app(Shop.open(fresh.folder), clients=fresh.clients)
    routes = [
        (method, path) for path, methods in app.openapi()["paths"].items() for method in methods
    ]
    pages = (
        "/",
        "/console",
        "/console/quality",
        "/cart",
        "/docs",
        "/item/i01",
        "/images/i01",
        "/why/x",
    )
    open_doors = {"/healthz", "/readyz"}
    for method, path in [*routes, *(("get", page) for page in pages)]:
        if path in open_doors:
            continue
        address = (
            path.replace("{item_id}", "i01").replace("{answer_id}", "a").replace("{name}", "n")
        )
        response = fresh.http.request(method.upper(), address)
        assert response.status_code == 401, (method, address, response.status_code)
        assert assert_shape(response)["code"] == "unauthenticated"
        assert response.headers["www-authenticate"] == "Bearer"
    app.state.shop.close()


@pytest.mark.parametrize(
    ("method", "address", "status", "where", "says"),
    [
        ("GET", "/nope", 404, "/nope", "nothing at /nope"),
        ("GET", "/v1/nope", 404, "/v1/nope", "nothing at"),
        ("GET", "/v1/items/ghost", 404, "", "ghost"),
        ("GET", "/v1/items/ghost/similar", 404, "", "ghost"),
        ("GET", "/v1/answers/ghost", 404, "", "ghost"),
        ("GET", "/v1/assets/no.such", 404, "catalogue", "no.such"),
        ("GET", "/v1/assets/no.such/lineage", 404, "catalogue", "no.such"),
        ("GET", "/v1/recommendations?k=0", 422, "query.k", "found '0'"),
        ("GET", "/v1/recommendations?k=101", 422, "query.k", "100"),
        ("GET", "/v1/recommendations?k=x", 422, "query.k", "found 'x'"),
        ("GET", "/v1/recommendations?zzz=1", 422, "query.zzz", "unknown name"),
        ("GET", "/v1/recommendations?scene=moon", 422, "query.scene", "found 'moon'"),
        ("GET", "/v1/recommendations?scene=item", 422, "query.item_id", "which item"),
        ("GET", "/v1/recommendations?user_id=", 422, "query.user_id", "at least 1"),
        ("GET", "/v1/recommendations?filter=lamp", 422, "query.filter", "field:value"),
        ("GET", "/v1/recommendations?filter=moon:1", 422, "", "moon"),
        ("GET", "/v1/search", 422, "query.q", "required"),
        ("GET", f"/v1/search?q={'x' * 201}", 422, "query.q", "200"),
        ("GET", "/v1/search?q=lamp&page=0", 422, "query.page", "greater"),
        ("GET", "/v1/search?q=lamp&sort=zzz", 422, "query.sort", "found 'zzz'"),
        ("DELETE", "/v1/items/ghost", 404, "", "ghost"),
        ("GET", "/images/ghost", 404, "", "ghost"),
        ("GET", "/static/none.js", 404, "/static/none.js", "nothing"),
        ("GET", "/console/assets/no.such", 404, "catalogue", "no.such"),
    ],
)
def test_an_error_says_where_and_what_was_found(
    served, method, address, status, where, says
) -> None:
    response = served.http.request(method, address)
    assert response.status_code == status, response.text
    error = assert_shape(response)
    assert says in error["message"]
    assert error["where"] == where or not where


def test_a_browser_gets_the_same_four_fields_as_a_page(served) -> None:
    response = served.http.get("/item/ghost?lang=zh", headers={"accept": "text/html"})
    assert response.status_code == 404
    assert "ghost" in response.text
    assert "没有成功" in response.text


def test_what_breaks_on_our_side_is_a_500_with_a_request_id_and_no_detail(fresh) -> None:
    (fresh.folder / "store" / "catalog.db").write_bytes(b"this is no database at all" * 400)
    for extra in ("-wal", "-shm"):
        (fresh.folder / "store" / f"catalog.db{extra}").unlink(missing_ok=True)
    response = fresh.http.get("/v1/assets", headers={"x-request-id": "trace-me-1"})
    assert response.status_code == 500, response.text
    error = assert_shape(response)
    assert error["code"] == "internal"
    assert "trace-me-1" in error["next"]
    assert response.headers["x-request-id"] == "trace-me-1"
    assert "sqlite" not in response.text.lower()
    assert fresh.http.get("/healthz").status_code == 200


def test_before_a_first_release_answers_are_503_with_the_step_to_take(folder, serving) -> None:
    shutil.rmtree(folder / "store")
    with serving(folder) as young:
        for address in ("/v1/recommendations", "/v1/search?q=x", "/readyz", "/v1/counters"):
            response = young.http.get(address)
            assert response.status_code == 503, address
            assert response.headers["retry-after"] == "5"
            assert "shopkeeper run" in assert_shape(response)["next"]
        assert young.http.get("/healthz").status_code == 200
        assert "shopkeeper_service_ready 0.0" in young.http.get("/metrics").text
        assert young.http.get("/console").status_code == 200


def test_a_first_release_is_taken_up_without_a_restart(folder, serving, tmp_path) -> None:
    shutil.move(folder / "store", tmp_path / "kept")
    with serving(folder) as young:
        assert young.http.get("/readyz").status_code == 503
        shutil.rmtree(folder / "store")
        shutil.copytree(tmp_path / "kept", folder / "store")
        assert young.http.get("/readyz").status_code == 200
        assert young.http.get("/v1/recommendations").status_code == 200
