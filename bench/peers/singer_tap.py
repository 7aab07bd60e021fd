"""singer-sdk, the reading half: a tap with one REST stream that follows the links of the pages."""

import json
import sys
from typing import Any, ClassVar

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.pagination import BaseHATEOASPaginator

from bench.peers.common_ground import ground, mark
from bench.peers.mapping import map_account

_INTEGERS = {"address1_addresstypecode", "customertypecode", "industrycode", "accountcategorycode", "ownershipcode", "numberofemployees"}
_TEXTS = {
    *("name", "description", "accountnumber", "telephone1", "telephone2", "fax", "websiteurl", "emailaddress1", "address1_postalcode"),
    *("tandem_creatioid", "address1_city", "address1_stateorprovince", "address1_country", "address1_line1", "address1_line2"),
    *("address1_line3", "ownerid@odata.bind"),
}


class Pages(BaseHATEOASPaginator):
    """The link of each page to the next."""

    def get_next_url(self, response: Any) -> str | None:
        """Return the link."""
        return response.json().get("@odata.nextLink")


class Accounts(RESTStream):
    """The accounts, mapped as they come."""

    name = "account"
    path = "/Account"
    records_jsonpath = "$.value[*]"
    primary_keys: ClassVar[tuple[str, ...]] = ("tandem_creatioid",)
    schema = th.PropertiesList(
        *(th.Property(name, th.StringType) for name in sorted(_TEXTS)),
        *(th.Property(name, th.IntegerType) for name in sorted(_INTEGERS)),
        th.Property("revenue", th.NumberType),
    ).to_dict()

    @property
    def url_base(self) -> str:
        """Return the service's address."""
        return str(self.config["url"]).removesuffix("/Account")

    def get_new_paginator(self) -> Pages:
        """Follow the links."""
        return Pages()

    def get_url_params(self, _context: Any, next_page_token: Any) -> Any:
        """Send the query of the link."""
        return next_page_token.query if next_page_token else {}

    def post_process(self, row: dict[str, Any], context: Any = None) -> dict[str, Any]:  # noqa: ARG002 - the SDK's signature
        """Map one row."""
        return map_account(row, self.config["tables"])


class AccountsTap(Tap):
    """A tap with this one stream."""

    name = "tap-bench"
    config_jsonschema = th.PropertiesList(th.Property("url", th.StringType), th.Property("tables", th.ObjectType())).to_dict()

    def discover_streams(self) -> list[Accounts]:
        """Return the stream."""
        return [Accounts(self)]


if __name__ == "__main__":
    here = ground()
    mark(here.folder, "source")
    config = here.folder / "tap.json"
    config.write_text(json.dumps({"url": here.source, "tables": here.tables}), encoding="utf-8")
    sys.argv = ["tap-bench", "--config", str(config)]
    AccountsTap.cli()
