"""Everything we raise on purpose; the edges (API, CLI, scheduler) translate these, no others.

ShopkeeperError
├── InputError    the caller can fix it          HTTP 422   exit 2
│   ├── NotFound  no such thing                  HTTP 404   exit 2
│   ├── Denied    not allowed                    HTTP 403   exit 2
│   │   └── Unauthenticated   we do not know who asks   HTTP 401   exit 2
│   └── Conflict  somebody else is at it         HTTP 409   exit 2
├── NotReady      a step has to run first        HTTP 503   exit 3
└── SourceError   an outside system failed       HTTP 502   exit 4   `retryable`: can trying again help?

A message says where, what was found and what was wanted; `next` says what to do about it.
"""


class ShopkeeperError(Exception):
    """Base of all errors raised on purpose."""

    status = 500
    exit_code = 1
    code = "error"

    def __init__(self, message: str, *, where: str = "", next: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.next = next

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        step = f"; {self.next}" if self.next else ""
        return f"{where}{self.message}{step}"

    def as_dict(self) -> dict[str, dict[str, str]]:
        """The one JSON shape of an error: {"error": {"code", "message", "where", "next"}}."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "where": self.where,
                "next": self.next,
            }
        }


class InputError(ShopkeeperError):
    """The caller can fix it."""

    status = 422
    exit_code = 2
    code = "input"


class NotFound(InputError):
    """There is no such thing."""

    status = 404
    code = "not_found"


class Denied(InputError):
    """The caller may not do this."""

    status = 403
    code = "denied"


class Unauthenticated(Denied):
    """We do not know who asks."""

    status = 401
    code = "unauthenticated"


class Conflict(InputError):
    """Somebody else is at it; wait or stop the other one."""

    status = 409
    code = "conflict"


class NotReady(ShopkeeperError):
    """A step has to run first."""

    status = 503
    exit_code = 3
    code = "not_ready"


class SourceError(ShopkeeperError):
    """An outside system failed."""

    status = 502
    exit_code = 4
    code = "source"

    def __init__(
        self, message: str, *, where: str = "", next: str = "", retryable: bool = False
    ) -> None:
        super().__init__(message, where=where, next=next)
        self.retryable = retryable
