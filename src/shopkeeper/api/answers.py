"""Recommendations, search, suggestions, similar items, and the trace of an answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from shopkeeper.api.bodies import AnswerOut, Id, SearchOut, reply
from shopkeeper.api.doors import Keeper, Visitor
from shopkeeper.api.incoming import bytes_of
from shopkeeper.console.filters import Sort, parse_filters
from shopkeeper.errors import InputError
from shopkeeper.recommend.reasons import reason
from shopkeeper.serving.service import Answer, Service
from shopkeeper.words import Scene

router = APIRouter(tags=["answers"])

# Answers computed at once in one worker. They share one interpreter lock; 8 callers on two cores got
# 133 answers/s at p99 89 ms two at a time, 96/s at 331 ms with the usual forty.
_TURNS = CapacityLimiter(2)

K = Annotated[int, Field(ge=1, le=100, description="how many items")]
Ids = Annotated[
    list[str], Field(max_length=50, description="item ids, repeated or separated by commas")
]
FilterTexts = Annotated[
    list[str],
    Field(max_length=50, description="field:value or price_minor:low..high; repeat for more"),
]
MAX_IDS = 500
_PICTURE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Params(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    key: str | None = Field(None, description="a publishable key, where no header can be sent")


class RecommendParams(Params):
    user_id: Id | None = None
    session_id: Id | None = None
    scene: Scene = Scene.HOME
    item_id: Annotated[Id | None, Field(description="the item looked at, for scene=item")] = None
    history: Annotated[
        list[str], Field(max_length=50, description="item ids, oldest first, of an unknown visitor")
    ] = []
    k: K = 20
    exclude: Ids = []
    filter: FilterTexts = []


class SearchParams(Params):
    q: Annotated[str, Field(min_length=1, max_length=200)]
    user_id: Id | None = None
    session_id: Id | None = None
    k: K = 20
    page: Annotated[int, Field(ge=1, le=1_000)] = 1
    filter: FilterTexts = []
    sort: Sort = "relevance"


class SuggestParams(Params):
    q: Annotated[str, Field(min_length=1, max_length=100)]
    k: Annotated[int, Field(ge=1, le=20)] = 8


class SimilarParams(Params):
    k: K = 20
    by: Annotated[
        Literal["people", "looks"],
        Field(description="what the same people want, or what looks alike in pictures"),
    ] = "people"


class PictureParams(Params):
    k: K = 20
    filter: FilterTexts = []


@router.get("/recommendations", response_model=AnswerOut)
async def recommendations(
    request: Request, params: Annotated[RecommendParams, Query()], caller: Visitor
) -> Response:
    """Items for a user, a visitor's session or a history, best first; never an empty page."""
    if params.scene is Scene.ITEM and params.item_id is None:
        raise InputError(
            "scene=item needs to know which item", where="query.item_id", next="add item_id=…"
        )
    history = split_ids(params.history, "query.history") or None
    exclude = split_ids(params.exclude, "query.exclude")
    filters = parse_filters(params.filter)
    told = (lambda answer: answer) if caller.trusted else _discreet
    return await _answer(
        request,
        "recommend",
        lambda service: service.recommend(
            user_id=params.user_id,
            session_id=params.session_id,
            scene=params.scene,
            item_id=params.item_id,
            history=history,
            k=params.k,
            exclude=exclude,
            filters=filters,
        ),
        told,
    )


@router.get("/search", response_model=SearchOut)
async def search(
    request: Request, params: Annotated[SearchParams, Query()], _: Visitor
) -> Response:
    """Items for a query, best first, and how strictly they match; never an empty page."""
    filters = parse_filters(params.filter)
    return await _answer(
        request,
        "search",
        lambda service: service.search(
            params.q,
            user_id=params.user_id,
            session_id=params.session_id,
            k=params.k,
            page=params.page,
            filters=filters,
            sort=params.sort,
        ),
    )


@router.get("/suggest")
def suggest(request: Request, params: Annotated[SuggestParams, Query()], _: Visitor) -> Response:
    """Queries that begin with what was typed."""
    return reply({"suggestions": request.app.state.shop.service.suggest(params.q, params.k)})


@router.get("/items/{item_id:path}/similar", response_model=AnswerOut)
async def similar(
    request: Request, item_id: Id, params: Annotated[SimilarParams, Query()], _: Visitor
) -> Response:
    """Items that the same people want, or (`by=looks`) whose pictures look alike."""
    if params.by == "looks":
        return await _answer(request, "looks", lambda s: s.looks_like(item_id, params.k))
    return await _answer(request, "similar", lambda service: service.similar(item_id, params.k))


@router.post("/search/image", response_model=AnswerOut, openapi_extra=_PICTURE)
async def search_image(
    request: Request, params: Annotated[PictureParams, Query()], _: Visitor
) -> Response:
    """Items that look like the picture in the body (JPEG, PNG, WebP or GIF); it is not kept."""
    content = await bytes_of(request)
    filters = parse_filters(params.filter)
    return await _answer(
        request, "looks", lambda s: s.search_picture(content, params.k, filters=filters)
    )


@router.get("/answers/{answer_id}")
def trace(request: Request, answer_id: Id, _: Keeper) -> Response:
    """Where an answer came from: candidates, scores, models, snapshot, and what became of it."""
    return reply(request.app.state.shop.service.trace(answer_id))


def _discreet(answer: Answer) -> Answer:
    """Without what a user did: anybody can read a page's key and ask with anybody's user_id."""
    items = [
        replace(hit, reason=reason("for_you"))
        if str(hit.reason["key"]).startswith("because_")
        else hit
        for hit in answer.items
    ]
    return replace(answer, items=items)


async def _answer(
    request: Request,
    kind: str,
    ask: Callable[[Service], Answer],
    told: Callable[[Answer], Answer] = lambda answer: answer,
) -> Response:
    """What `ask` gets from the service, computed in a thread when its turn comes."""
    state = request.app.state

    def work() -> Response:
        service = state.shop.service  # the first time this opens the release
        answer = state.gauges.answer(kind, lambda: ask(service))
        return reply(told(answer).as_dict())

    return await to_thread.run_sync(work, limiter=_TURNS)


def split_ids(texts: list[str], where: str) -> list[str]:
    """`["a,b", "c"]` -> `["a", "b", "c"]`. InputError over MAX_IDS."""
    ids = [part for text in texts for part in text.split(",") if part]
    if len(ids) > MAX_IDS:
        raise InputError(f"{len(ids)} ids; at most {MAX_IDS} are read", where=where)
    return ids
