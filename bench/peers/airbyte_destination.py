"""airbyte-cdk, the writing half: a destination that sends records in lists, and every state on once its records are written."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import requests
from airbyte_cdk.destinations import Destination
from airbyte_cdk.models import AirbyteConnectionStatus, AirbyteMessage, ConfiguredAirbyteCatalog, ConnectorSpecification, Status, Type

from bench.peers.airbyte_catalog import write_catalog
from bench.peers.common_ground import WRITE_SIZE, ground, mark, targets


class AccountsDestination(Destination):
    """Writes accounts."""

    def write(
        self,
        config: Mapping[str, Any],
        configured_catalog: ConfiguredAirbyteCatalog,  # noqa: ARG002 - the CDK's signature
        input_messages: Iterable[AirbyteMessage],
    ) -> Iterable[AirbyteMessage]:
        """Write each list when it is full, and what is left before a state."""
        session = requests.Session()
        waiting: list[dict[str, Any]] = []

        def send() -> None:
            session.post(config["url"], json=targets(waiting)).raise_for_status()
            waiting.clear()

        for message in input_messages:
            if message.type is Type.RECORD:
                waiting.append(message.record.data)
                if len(waiting) == WRITE_SIZE:
                    send()
            elif message.type is Type.STATE:
                if waiting:
                    send()
                yield message
        if waiting:
            send()

    def check(self, logger: Any, config: Mapping[str, Any]) -> AirbyteConnectionStatus:  # noqa: ARG002 - the CDK's signature
        """Say that it can be reached: the platform asks before a sync, this comparison does not."""
        return AirbyteConnectionStatus(status=Status.SUCCEEDED)

    def spec(self, *_arguments: Any, **_options: Any) -> ConnectorSpecification:
        """Say what the configuration holds."""
        return ConnectorSpecification(connectionSpecification={"type": "object", "properties": {}})


if __name__ == "__main__":
    here = ground()
    mark(here.folder, "destination")
    config, catalog = here.folder / "destination.json", here.folder / "destination_catalog.json"
    config.write_text(json.dumps({"url": here.create_multiple}), encoding="utf-8")
    write_catalog(catalog)
    AccountsDestination().run(["write", "--config", str(config), "--catalog", str(catalog)])
    mark(here.folder, "ended")
