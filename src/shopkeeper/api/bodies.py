"""What comes in and goes out over HTTP: strict, closed, bounded.

Requests are parsed from their bytes by pydantic itself: in strict mode, refusing unknown keys,
NaN and infinity. Answers are written from plain values without validating them again; the answer
models below only document them.
"""

from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import to_json
from starlette.responses import Response

from shopkeeper.words import Kind

MAX_EVENTS = 1_000
MAX_ITEMS = 1_000
MAX_BODY_BYTES = 4 * 1024 * 1024

# an id is any text the shop uses, without control characters
Id = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Money = Annotated[int, Field(ge=0, le=10**15)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class EventBody(Body):
    """One behaviour. It says who (user_id or session_id), what (kind) and, mostly, on which item."""

    event_id: Id | None = Field(
        None, description="Sent again with the same id it changes nothing. Left out: we make one."
    )
    user_id: Id | None = None
    session_id: Id | None = None
    item_id: Id | None = None
    shop_id: Id | None = None
    kind: Kind
    ts: AwareDatetime | None = Field(
        None, description="ISO 8601 with a UTC offset; now where left out"
    )
    dwell_ms: Annotated[int, Field(ge=0, le=10**12)] | None = None
    query: Annotated[str, StringConstraints(max_length=500)] | None = None
    price_minor: Money | None = None
    quantity: Annotated[int, Field(ge=1, le=10**9)] | None = None
    channel: Word | None = None
    region: Word | None = None
    position: Annotated[int, Field(ge=0, le=10**6)] | None = Field(
        None, description="where in the answer the item stood"
    )
    answer_id: Id | None = Field(None, description="of the answer that this event follows from")
    propensity: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _who(self) -> "EventBody":
        if self.user_id is None and self.session_id is None:
            raise ValueError("an event needs user_id or session_id")
        return self


class EventsBody(Body):
    """Several events; all are written or none."""

    events: Annotated[list[EventBody], Field(min_length=1, max_length=MAX_EVENTS)]


def _one_or_batch(value: Any) -> str:
    return "batch" if isinstance(value, dict) and "events" in value else "one"


OneOrBatch = Annotated[
    Annotated[EventBody, Tag("one")] | Annotated[EventsBody, Tag("batch")],
    Discriminator(_one_or_batch),
]


class ItemPatch(Body):
    """Fields of an item that are given replace the stored ones; null empties a field.

    Of `attributes`, those given replace the stored ones, null takes one out, and the others stay;
    `attributes: null` takes out all.
    """

    title: Annotated[str, StringConstraints(max_length=1_000)] | None = None
    title_zh: Annotated[str, StringConstraints(max_length=1_000)] | None = None
    description: Annotated[str, StringConstraints(max_length=20_000)] | None = None
    category: Word | None = None
    brand: Word | None = None
    shop_id: Id | None = None
    price_minor: Money | None = None
    stock: Annotated[int, Field(ge=0, le=10**12)] | None = None
    image: Annotated[str, StringConstraints(max_length=2_000)] | None = None
    attributes: dict[str, str | int | float | bool | list[float] | list[str] | None] | None = None


class ItemBody(ItemPatch):
    """A whole item: fields left out are empty."""

    item_id: Id


class ItemsBody(Body):
    """Several whole items; all are written or none."""

    items: Annotated[list[ItemBody], Field(min_length=1, max_length=MAX_ITEMS)]


# What goes out: documentation only, see the module's docstring.


class ReceiptOut(BaseModel):
    accepted: int = Field(description="events now on disk that were new")
    duplicates: int = Field(description="events that were there already, by event_id")
    event_ids: list[str] = Field(description="of all events sent, in order")


class HitOut(BaseModel):
    item_id: str
    score: float
    position: int = Field(description="from 1; send it back with the event that follows")
    source: str = Field(description="the model or rule that proposed the item")
    reason: dict[str, Any] = Field(description="why it is here: key, params, and in words (en, zh)")


class AnswerOut(BaseModel):
    answer_id: str = Field(description="send it with every event that follows from this answer")
    items: list[HitOut]
    degraded: bool = Field(description="true where a floor answered instead of the model")
    release: str


class SearchOut(AnswerOut):
    total: int
    facets: dict[str, Any]
    stage: str = Field(description="how strictly the hits match the query")
    corrected: str | None = Field(description="the query as it was understood, where changed")


class ErrorDetail(BaseModel):
    code: str
    message: str
    where: str
    next: str


class ErrorOut(BaseModel):
    """Every error, on every route."""

    error: ErrorDetail


REQUEST_BODIES: tuple[type[BaseModel], ...] = (
    EventBody,
    EventsBody,
    ItemPatch,
    ItemBody,
    ItemsBody,
)


def reply(value: Any, status: int = 200) -> Response:
    """`value` (plain values and dataclasses) as JSON; what is not a finite number becomes null."""
    return Response(
        to_json(value, inf_nan_mode="null"), status_code=status, media_type="application/json"
    )


def plain_event(event: EventBody) -> dict[str, Any]:
    """The event as serving/ records it: only what was given, `ts` as text."""
    row = {name: value for name, value in event.__dict__.items() if value is not None}
    row["kind"] = event.kind.value
    if event.ts is not None:
        row["ts"] = event.ts.isoformat()
    return row
