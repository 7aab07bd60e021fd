"""The error shapes of Creatio (creatio.md 3): OData, Web API, service, and HTML of what stands in front."""

import json
from typing import Literal, TypeAlias

from sandbox.chaos import html_page

Shape: TypeAlias = Literal["odata", "webapi", "webapi_missing", "html", "empty"]

JSON = "application/json; charset=utf-8"
HTML = "text/html; charset=utf-8"

_QUERY_PREFIX = "The query specified in the URI is not valid. "
_TYPE_DATABASE = "Terrasoft.Common.DbOperationException"
_TYPE_ITEM = "Terrasoft.Common.ItemNotFoundException"
TYPE_ODATA = "Microsoft.OData.ODataException"


class CreatioError(Exception):
    """Refuse a request: `status`, and the message in the body shape that this refusal has."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        shape: Shape = "odata",
        inner: str | None = None,
        kind: str = TYPE_ODATA,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.shape = shape
        self.inner = inner
        self.kind = kind

    def body(self, *, details: bool = False) -> tuple[str, str]:
        """Return content type and text of the answer; `details` is the empty member that .NET adds."""
        match self.shape:
            case "odata":
                return JSON, odata_error(self.message, self.inner, self.kind, details=details)
            case "webapi":
                return JSON, web_api_crash(self.message)
            case "webapi_missing":
                detail = {"MessageDetail": f"No type was found that matches the controller named '{self.inner}'."} if self.inner else {}
                return JSON, json.dumps({"Message": self.message, **detail})
            case "html":
                return HTML, html_page(self.status).decode()
            case "empty":
                return "text/plain", ""


def odata_error(message: str, inner: str | None = None, kind: str = TYPE_ODATA, *, details: bool = False) -> str:
    """Return the OData error body: empty code, and where `inner` is given the cause one level further inside."""
    deepest = {"message": message if inner is None else inner, "type": kind, "stacktrace": "   at Terrasoft.Core"}
    innererror = (
        deepest if inner is None else {"message": message, "type": kind, "stacktrace": "   at Terrasoft.Core", "internalexception": deepest}
    )
    more: dict[str, list[str]] = {"details": []} if details else {}
    return json.dumps({"error": {"code": "", "message": message, **more, "innererror": innererror}}, ensure_ascii=False)


def web_api_crash(message: str) -> str:
    """Return the body of a crash outside the OData layer."""
    crash = {
        "Message": "An error has occurred.",
        "ExceptionMessage": message,
        "ExceptionType": "System.NullReferenceException",
        "StackTrace": "   at Terrasoft.WebApp",
    }
    return json.dumps(crash)


def bad_query(message: str) -> CreatioError:
    """Refuse a query that Microsoft's parser or validator refuses (400)."""
    return CreatioError(400, _QUERY_PREFIX + message)


def no_property(name: str, entity: str) -> CreatioError:
    """Refuse a name that is no property of the type, in a query (400)."""
    return bad_query(f"Could not find a property named '{name}' on type 'Terrasoft.Configuration.OData.{entity}'.")


def flat_lookup(column: str, entity: str) -> CreatioError:
    """Refuse a lookup's flat column where a column path is due (500, creatio.md 2.3)."""
    message = f"Column by path {column} not found in schema {entity}"
    return CreatioError(500, message, kind=_TYPE_ITEM)


def database_error(cause: str) -> CreatioError:
    """Answer what nearly every failure of a save looks like: 500 with the cause inside."""
    return CreatioError(500, "An error has occurred.", inner=cause, kind=_TYPE_DATABASE)


def no_right(status: int, verb: str, entity: str) -> CreatioError:
    """Refuse what the user has no right to do (creatio.md 3: 403, or 500 like nearly everything)."""
    return CreatioError(status, f"Current user does not have sufficient permissions to {verb} {entity}.")


def no_licence(status: int, entity: str) -> CreatioError:
    """Refuse an object that the user has no licence for (creatio.md 3)."""
    return CreatioError(status, f"License for the object {entity} was not found.")


def bad_bytes() -> CreatioError:
    """Refuse a text as PostgreSQL does: it stores neither U+0000 nor half a surrogate pair."""
    return database_error('22021: invalid byte sequence for encoding "UTF8": 0x00')


def not_found() -> CreatioError:
    """Answer that no row has this id, or that the user may not see it."""
    return CreatioError(404, "Not Found", inner="Resource not found for the segment.", kind=TYPE_ODATA)


def render(status: int, kind: str) -> tuple[str, bytes]:
    """Return content type and body of an error of chaos: `webapi`, else the OData shape."""
    if kind == "webapi":
        return JSON, web_api_crash("Object reference not set to an instance of an object.").encode()
    return JSON, odata_error(f"The request was refused with status {status}.").encode()
