"""Settings: the environment, filled up from ``local.settings.json``, and the ``%NAME%`` tokens that name them."""

import json
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from sandbox.host.problems import StartupError

_TOKEN: Final = re.compile(r"%([^%]*)%")


def load_local_settings(path: Path, environment: MutableMapping[str, str]) -> tuple[str, ...]:
    """Copy the ``Values`` of a ``local.settings.json`` into the environment and return the names that were added.

    What the environment has already wins, so that a test or a shell can override a file.

    Raises:
        StartupError: The file can't be read, or a value is not a text.
    """
    document = read_json_object(path)
    values = document.get("Values", {})
    if not isinstance(values, dict):
        raise StartupError(f"{path.name}: 'Values' is {type(values).__name__}; allowed is an object of texts.")
    wrong = sorted(name for name, value in values.items() if not isinstance(value, str))
    if wrong:
        raise StartupError(f"{path.name}: the values of {', '.join(wrong)} are not texts; put them in quotation marks.")
    added = tuple(name for name in values if name not in environment)
    environment.update({name: values[name] for name in added})
    return added


def resolve_tokens(text: str, environment: Mapping[str, str], where: str) -> str:
    """Replace each ``%NAME%`` by the setting of that name; ``where`` says who asks, for the error (azure.md 2.4).

    Raises:
        StartupError: A setting does not exist.
    """
    missing = sorted({name for name in _TOKEN.findall(text) if not environment.get(name)})
    if missing:
        raise StartupError(
            f"{where}: {text!r} names the setting {', '.join(missing)}, which does not exist; "
            "add it to local.settings.json or to the environment."
        )
    return _TOKEN.sub(lambda token: environment[token[1]], text)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file whose root is an object.

    Raises:
        StartupError: The file is missing, is not JSON or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise StartupError(f"{path} does not exist.") from None
    except ValueError as error:
        raise StartupError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(document, dict):
        raise StartupError(f"{path} holds {type(document).__name__}; allowed is a JSON object.")
    return document
