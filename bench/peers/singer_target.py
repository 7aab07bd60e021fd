"""singer-sdk, the writing half: a target whose sink sends batches."""

import json
import sys
from typing import Any, ClassVar

import requests
from singer_sdk import BatchSink, Target
from singer_sdk import typing as th

from bench.peers.common_ground import WRITE_SIZE, ground, mark, targets


class Accounts(BatchSink):
    """Writes accounts; the SDK's default of 10,000 is more than one CreateMultiple takes."""

    max_size = WRITE_SIZE
    include_sdc_metadata_properties = False
    session: ClassVar[requests.Session] = requests.Session()

    def process_batch(self, context: dict[str, Any]) -> None:
        """Send one batch."""
        self.session.post(self.config["url"], json=targets(context["records"])).raise_for_status()


class AccountsTarget(Target):
    """A target with this one sink."""

    name = "target-bench"
    default_sink_class = Accounts
    config_jsonschema = th.PropertiesList(th.Property("url", th.StringType)).to_dict()


if __name__ == "__main__":
    here = ground()
    mark(here.folder, "destination")
    config = here.folder / "target.json"
    config.write_text(json.dumps({"url": here.create_multiple}), encoding="utf-8")
    sys.argv = ["target-bench", "--config", str(config)]
    try:
        AccountsTarget.cli()
    except SystemExit as end:  # what click ends every command with
        mark(here.folder, "ended")
        sys.exit(end.code)
