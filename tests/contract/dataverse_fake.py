"""A scripted Dataverse on a fake wire: metadata and WhoAmI as the reference shows them, everything else answered by the test."""

import json
from collections.abc import Callable
from decimal import Decimal

import httpx

from shared.systems.dataverse import Dataverse
from shared.systems.dataverse_connection import recommended_parallelism, same_environment
from shared.systems.dataverse_errors import request_error
from shared.systems.web import Web

ORG = "https://org.crm4.dynamics.com"
API = f"{ORG}/api/data/v9.2"
US = "00000000-aaaa-4000-8000-000000000001"
ID1 = "11111111-1111-4111-8111-111111111111"
ID2 = "22222222-2222-4222-8222-222222222222"
ID3 = "33333333-3333-4333-8333-333333333333"
SET_NAMES = {"account": "accounts", "contact": "contacts", "systemuser": "systemusers", "msdyn_segment": "msdyn_segments"}


def attribute(name, kind, **more):
    """Return one entry of Attributes as the server shows it without $select."""
    writable = {"IsValidForCreate": True, "IsValidForUpdate": True, "IsValidForRead": True}
    return {"LogicalName": name, "AttributeType": kind, "AttributeTypeName": {"Value": f"{kind}Type"}, **writable, **more}


ATTRIBUTES = [
    attribute("accountid", "Uniqueidentifier", IsValidForUpdate=False, RequiredLevel={"Value": "SystemRequired"}),
    attribute("contactid", "Uniqueidentifier", IsValidForUpdate=False),
    attribute("name", "String", MaxLength=160),
    attribute("fullname", "String", MaxLength=160, IsValidForCreate=False, IsValidForUpdate=False),
    attribute("description", "Memo", MaxLength=2000),
    attribute("revenue", "Money", Precision=2),
    attribute("numberofemployees", "Integer"),
    attribute("creditonhold", "Boolean"),
    attribute("birthdate", "DateTime", Format="DateOnly", DateTimeBehavior={"Value": "DateOnly"}),
    attribute("lastonholdtime", "DateTime", Format="DateOnly", DateTimeBehavior={"Value": "UserLocal"}),
    attribute("industrycode", "Picklist"),
    attribute("statecode", "State", IsValidForCreate=False),
    attribute("statuscode", "Status"),
    attribute("primarycontactid", "Lookup", Targets=["contact"]),
    attribute("parentcustomerid", "Customer", Targets=["account", "contact"]),
    attribute("ownerid", "Owner", Targets=["systemuser", "team"]),
    attribute("msdyn_segmentid", "Lookup", Targets=["msdyn_segment"]),
    attribute("modifiedon", "DateTime", DateTimeBehavior={"Value": "UserLocal"}, IsValidForCreate=False, IsValidForUpdate=False),
    attribute("modifiedby", "Lookup", Targets=["systemuser"], IsValidForCreate=False, IsValidForUpdate=False),
    {"LogicalName": "entityimage", "AttributeType": "Virtual", "AttributeTypeName": {"Value": "ImageType"}},
    {"LogicalName": "tags", "AttributeType": "Virtual", "AttributeTypeName": {"Value": "MultiSelectPicklistType"}},
]
RELATIONS = [
    ("primarycontactid", "contact", "primarycontactid"),
    ("parentcustomerid", "account", "parentcustomerid_account"),
    ("parentcustomerid", "contact", "parentcustomerid_contact"),
    ("ownerid", "owner", "ownerid"),
    ("msdyn_segmentid", "msdyn_segment", "msdyn_SegmentId"),
    ("modifiedby", "systemuser", "modifiedby"),
]
OPTIONS = {
    "value": [
        {
            "LogicalName": "industrycode",
            "OptionSet": {
                "Options": [
                    {"Value": 1, "Label": {"UserLocalizedLabel": {"Label": "Accounting"}}},
                    {"Value": 2, "Label": {"UserLocalizedLabel": None, "LocalizedLabels": [{"Label": "Agriculture"}]}},
                ]
            },
            "GlobalOptionSet": None,
        }
    ]
}


def reply(body, status=200, **headers):
    """Return a JSON answer; decimals are printed as numbers."""
    text = json.dumps(body, default=lambda value: float(value) if isinstance(value, Decimal) else str(value))
    return httpx.Response(status, text=text, headers={"content-type": "application/json; odata.metadata=minimal", **headers})


def error(code, message, status=400, **headers):
    """Return an error as the Web API words it."""
    return reply({"error": {"code": code, "message": message}}, status, **headers)


def row(key, etag="1", modified_on="2026-01-01T00:00:00Z", by=US, pk="accountid", **columns):
    """Return a row as the Web API shows it."""
    return {"@odata.etag": f'W/"{etag}"', pk: key, "modifiedon": modified_on, "_modifiedby_value": by, **columns}


def multipart(*parts, status=200):
    """Return a batch reply; a part is (status, body) or a list of them for a change set that went through."""
    lines = []
    for place, part in enumerate(parts):
        lines.append("--batchresponse_1")
        if isinstance(part, list):
            lines += [f"Content-Type: multipart/mixed; boundary=changesetresponse_{place}", ""]
            for inner in part:
                lines += [f"--changesetresponse_{place}", *_lines(inner)]
            lines += [f"--changesetresponse_{place}--", ""]
        else:
            lines += _lines(part)
    content = "\r\n".join([*lines, "--batchresponse_1--", ""]).encode()
    return httpx.Response(status, content=content, headers={"content-type": "multipart/mixed; boundary=batchresponse_1"})


def _lines(part):
    status, body, *headers = part
    text = "" if body is None else json.dumps(body)
    head = ["Content-Type: application/http", "Content-Transfer-Encoding: binary", "", f"HTTP/1.1 {status} X"]
    return [*head, *(f"{n}: {v}" for n, v in (headers[0] if headers else {}).items()), "OData-Version: 4.0", "", text]


class Fake:
    """Answers metadata itself and hands the rest to `script`, a function of the request or a list of answers."""

    def __init__(self, script=(), *, tracked=True, attributes=ATTRIBUTES):
        self.script = script
        self.tracked = tracked
        self.attributes = attributes
        self.seen: list[httpx.Request] = []
        self.metadata: list[str] = []

    async def __call__(self, request):
        target = request.url.raw_path.decode().removeprefix("/api/data/v9.2/")
        if target == "WhoAmI":
            self.metadata.append(target)
            return reply({"UserId": US.upper(), "OrganizationId": ID1, "BusinessUnitId": ID2})
        if target.startswith("EntityDefinitions"):
            self.metadata.append(target)
            return self._definitions(target)
        self.seen.append(request)
        answer = self.script(request) if isinstance(self.script, Callable) else self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _definitions(self, target):
        entity = target.split("'")[1]
        if entity not in SET_NAMES:
            return error("0x80060888", f"Could not find an entity with name {entity}", 404)
        if "/ManyToOneRelationships" in target:
            keys = ("ReferencingAttribute", "ReferencedEntity", "ReferencingEntityNavigationPropertyName")
            return reply({"value": [dict(zip(keys, relation, strict=True)) for relation in RELATIONS]})
        if "PicklistAttributeMetadata" in target:
            return reply(OPTIONS)
        if "/Attributes" in target:
            return reply({"value": [a for a in self.attributes if f"'{a['LogicalName']}'" in target]})
        names = {"LogicalName": entity, "EntitySetName": SET_NAMES[entity], "PrimaryIdAttribute": f"{entity}id"}
        return reply({**names, "PrimaryNameAttribute": "name", "ChangeTrackingEnabled": self.tracked})


class Token:
    """A login that counts renewals."""

    def __init__(self):
        self.renewals = 0

    async def headers(self):
        return {"Authorization": f"Bearer t{self.renewals}"}

    async def renew(self):
        self.renewals += 1

    def ended(self, response):
        return response.status == 401


async def no_sleep(seconds):
    """Stand for sleeping in tests that only look at what is sent."""


def adapter_on(fake, login=None, **options):
    """Make the adapter on a scripted wire."""
    client = httpx.AsyncClient(transport=httpx.MockTransport(fake))
    checks = {"error": request_error, "allowed": same_environment(API), "hint": recommended_parallelism}
    web = Web("dataverse", API, client, login or Token(), sleep=no_sleep, random=lambda: 0.5, **checks)
    return Dataverse(web, **options)


def batch_lines(request):
    """Return the request lines, headers and bodies of a batch as text lines, checking its line ends on the way."""
    assert request.content.count(b"\n") == request.content.count(b"\r\n")
    return request.content.decode().split("\r\n")
