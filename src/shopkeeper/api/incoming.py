"""Reading a request's body: bounded while it comes in, then parsed strictly from its bytes."""

from typing import Any, TypeVar

from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from shopkeeper.api.bodies import MAX_BODY_BYTES
from shopkeeper.api.failures import invalid_body

Read = TypeVar("Read")


async def body_of(request: Request, form: TypeAdapter[Read]) -> Read:
    """The body as `form`. InputError names the place; a body over the limit is not read further."""
    try:
        return form.validate_json(await bytes_of(request))
    except ValidationError as error:
        raise invalid_body(error) from None


async def bytes_of(request: Request) -> bytes:
    """The body as it came; over the limit it is not read further."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise too_large()
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > MAX_BODY_BYTES:
            raise too_large()
    return bytes(parts)


def too_large() -> HTTPException:
    return HTTPException(413, f"the body is over {MAX_BODY_BYTES:,} bytes; send smaller batches")


def documented(*names: str) -> dict[str, Any]:
    """OpenAPI's description of a JSON body that is one of the named forms."""
    forms = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    schema = forms[0] if len(forms) == 1 else {"oneOf": forms}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
