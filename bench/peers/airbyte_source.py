"""airbyte-cdk, the reading half: a source with one HTTP stream that follows the links of the pages."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import requests
from airbyte_cdk.entrypoint import launch
from airbyte_cdk.models import ConnectorSpecification
from airbyte_cdk.sources import AbstractSource
from airbyte_cdk.sources.streams import Stream
from airbyte_cdk.sources.streams.http import HttpStream

from bench.peers.airbyte_catalog import NAME, write_catalog
from bench.peers.common_ground import ground, mark
from bench.peers.mapping import Tables, map_account


class Accounts(HttpStream):
    """The accounts, mapped as they come."""

    name = NAME
    primary_key = "tandem_creatioid"
    url_base = ""

    def __init__(self, url: str, tables: Tables) -> None:
        """Read from an address."""
        super().__init__()
        self._url, self._tables = url, tables

    def path(self, *, next_page_token: Any = None, **_options: Any) -> str:
        """Return the address of the first page, or the link to the next."""
        return str(next_page_token["link"]) if next_page_token else self._url

    def next_page_token(self, response: requests.Response) -> Mapping[str, Any] | None:
        """Return the link to the next page."""
        link = response.json().get("@odata.nextLink")
        return {"link": link} if link else None

    def parse_response(self, response: requests.Response, **_options: Any) -> Iterable[Mapping[str, Any]]:
        """Map the rows of a page."""
        return (map_account(row, self._tables) for row in response.json()["value"])

    def get_json_schema(self) -> Mapping[str, Any]:
        """Return a schema that takes every column: nothing is checked or turned."""
        return {"type": "object", "additionalProperties": True, "properties": {}}


class AccountsSource(AbstractSource):
    """A source with this one stream."""

    def check_connection(self, logger: Any, config: Mapping[str, Any]) -> tuple[bool, Any]:  # noqa: ARG002 - the CDK's signature
        """Say that it can be reached: the platform asks before a sync, this comparison does not."""
        return True, None

    def spec(self, logger: Any) -> ConnectorSpecification:  # noqa: ARG002 - the CDK's signature
        """Say what the configuration holds."""
        return ConnectorSpecification(connectionSpecification={"type": "object", "properties": {}})

    def streams(self, config: Mapping[str, Any]) -> list[Stream]:
        """Return the stream."""
        return [Accounts(config["url"], config["tables"])]


if __name__ == "__main__":
    here = ground()
    mark(here.folder, "source")
    config, catalog = here.folder / "source.json", here.folder / "catalog.json"
    config.write_text(json.dumps({"url": here.source, "tables": here.tables}), encoding="utf-8")
    write_catalog(catalog)
    launch(AccountsSource(), ["read", "--config", str(config), "--catalog", str(catalog)])
