"""The app under Python 3.13, the version it is deployed on: azure-functions 2.x and the worker's own runtime.

The machine's own Python may be older and then uses another major version of azure-functions (azure.md 1.1).
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
FIXTURE_APP = PROJECT / "tests" / "functions" / "host_app" / "function_app.py"
PRODUCT_APP = PROJECT / "function_app.py"
PYTHON = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")

# Runs under either interpreter: prints each function with its bindings as the worker would send them to the host.
INDEX = """
import json, sys
from pathlib import Path
script = Path(sys.argv[1])
sys.path.insert(0, str(script.parent))
module = __import__(script.stem)
import azure.functions as func
(app,) = [value for value in vars(module).values() if isinstance(value, func.FunctionRegister)]
functions = app.get_functions()
print(json.dumps({f.get_function_name(): [json.loads(raw) for raw in f.get_raw_bindings()] for f in functions}))
"""

# The loader of azure-functions-runtime, fed with plain objects in place of its protocol buffers.
LOAD = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from azure_functions_runtime.bindings.meta import load_binding_registry
from azure_functions_runtime.functions import Registry
from azure_functions_runtime.loader import index_function_app, process_indexed_function
script = Path(sys.argv[1])
sys.path.insert(0, str(script.parent))
class BindingInfo(SimpleNamespace):
    inout, out, undefined = "inout", 1, object()
protos = SimpleNamespace(BindingInfo=BindingInfo, RpcFunctionMetadata=SimpleNamespace, RpcRetryOptions=SimpleNamespace)
load_binding_registry()
registry = Registry()
metadata, _ = process_indexed_function(protos, registry, index_function_app(str(script)), str(script.parent))
types = {}
for function in metadata:
    info = registry.get_function(function.function_id)
    parameters = {name: kind.binding_name for name, kind in {**info.input_types, **info.output_types}.items()}
    types[function.name] = {"parameters": parameters, "asynchronous": info.is_async, "context": info.requires_context}
print(json.dumps({"bindings": {f.name: [json.loads(raw) for raw in f.raw_bindings] for f in metadata}, "types": types}))
"""


def _candidates() -> list[str]:
    """Return what might be a Python 3.13: this one, those on the PATH, and those of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [sys.executable if sys.version_info[:2] == (3, 13) else None, shutil.which("python3.13")]
    found += [str(path) for path in sorted(pyenv.glob("versions/3.13*/bin/python"), reverse=True)]
    return [path for path in found if path]


def _python_313() -> str | None:
    probe = "import sys, venv; print(sys.version_info[:2] == (3, 13))"
    for path in _candidates():
        try:
            # A pyenv shim exists without the version behind it, so only running it tells.
            answer = subprocess.run([path, "-c", probe], capture_output=True, text=True, timeout=30, check=False)
        except OSError:
            continue
        if answer.stdout.strip() == "True":
            return path
    return None


def _environment(interpreter: str) -> Path:
    """Return the Python of ``.venv-3.13``, made anew when requirements.txt is not the one it was made from.

    It is made under another name and then renamed, because several test processes may want it at once.
    """
    folder = PROJECT / ".venv-3.13"
    wanted = hashlib.sha256((PROJECT / "requirements.txt").read_bytes()).hexdigest()
    stamp = folder / "requirements.sha256"
    if not (stamp.exists() and stamp.read_text(encoding="utf-8") == wanted):
        fresh = PROJECT / f".venv-3.13-{os.getpid()}"
        subprocess.run([interpreter, "-m", "venv", str(fresh)], check=True, capture_output=True)
        install = [str(fresh / PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", "requirements.txt"]
        subprocess.run(install, cwd=PROJECT, check=True, capture_output=True)
        (fresh / stamp.name).write_text(wanted, encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            fresh.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(fresh)
    return folder / PYTHON


@pytest.fixture(scope="module")
def python_313() -> Path:
    """Return a Python 3.13 with the packages of the product, or skip and say why there is none."""
    interpreter = _python_313()
    if interpreter is None:
        pytest.skip("NOT RUN: no working Python 3.13 was found on the PATH or in pyenv, so the deployed version was not tested.")
    try:
        return _environment(interpreter)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"NOT RUN: the packages for Python 3.13 can't be installed: {error.stderr.decode()[-300:]}")


def run(python: Path | str, script: str, app: Path) -> dict[str, Any]:
    """Run a script with an app and return the JSON of its last line."""
    environment = {**os.environ, "HOST_APP_JOURNAL": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(python), "-c", script, str(app)]
    ended = subprocess.run(command, cwd=app.parent, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    document: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return document


APPS = [pytest.param(FIXTURE_APP, id="fixture"), pytest.param(PRODUCT_APP, id="product")]

# design.md 1: a queue for each step and one for what dies in it; one timer that decides what is due, one that watches.
QUEUES = {name + end for name in ("polls", "changes", "bulk") for end in ("", "-poison")}
TIMERS = {"%POLL_SCHEDULE%", "%WATCH_SCHEDULE%"}
OPEN_TO_ALL = {"health"}


@pytest.mark.parametrize("app", APPS)
def test_bindings_are_the_same_on_both_versions(python_313, app):
    """Python 3.13 with azure-functions 2.x indexes the same functions and bindings as the Python of this test run."""
    expected = run(sys.executable, INDEX, app)

    assert expected
    assert run(python_313, INDEX, app) == expected


@pytest.mark.parametrize("app", APPS)
def test_the_worker_runtime_loads_the_app(python_313, app):
    """The loader of azure-functions-runtime accepts every function: parameters, types, and the same bindings."""
    loaded = run(python_313, LOAD, app)
    bindings = run(sys.executable, INDEX, app)

    assert loaded["bindings"] == bindings
    assert set(loaded["types"]) == set(bindings)
    for name, types in loaded["types"].items():
        bound = {binding["name"] for binding in bindings[name]} - {"$return"}
        assert set(types["parameters"]) == bound, name


def test_the_worker_runtime_sees_the_types_that_are_meant(python_313):
    """Message, text, timer, request and output parameters of the fixture app are what their annotations say."""
    types = run(python_313, LOAD, FIXTURE_APP)["types"]

    assert types["work"] == {"parameters": {"message": "queueTrigger"}, "asynchronous": True, "context": True}
    # A text parameter is decoded by the generic converter; the output keeps the type of its binding.
    assert types["plain"] == {"parameters": {"text": "generic", "relayed": "queue"}, "asynchronous": False, "context": False}
    assert types["tick"]["parameters"] == {"timer": "timerTrigger"}
    assert types["order"]["parameters"] == {"req": "httpTrigger"}


def test_the_product_has_the_triggers_that_are_meant(python_313):
    """Every queue and timer of the design has one async function, timers are monitored, and only the health check is open."""
    loaded = run(python_313, LOAD, PRODUCT_APP)
    bindings = {
        name: found[0] for name, kinds in loaded["bindings"].items() if (found := [b for b in kinds if b["type"].endswith("Trigger")])
    }
    queues = [binding for binding in bindings.values() if binding["type"] == "queueTrigger"]
    timers = [binding for binding in bindings.values() if binding["type"] == "timerTrigger"]
    routes = [binding for binding in bindings.values() if binding["type"] == "httpTrigger"]

    assert sorted(binding["queueName"] for binding in queues) == sorted(QUEUES)
    assert {binding["connection"] for binding in queues} == {"AzureWebJobsStorage"}
    assert sorted(binding["schedule"] for binding in timers) == sorted(TIMERS)
    assert not [binding for binding in timers if binding.get("runOnStartup") or binding.get("useMonitor") is False]
    assert {binding["route"] for binding in routes if binding["authLevel"].lower() == "anonymous"} == OPEN_TO_ALL
    assert [name for name, types in loaded["types"].items() if not types["asynchronous"]] == []


def test_the_interpreter_is_the_deployed_one(python_313):
    """The comparison runs on Python 3.13 with azure-functions 2.x and the runtime, as requirements.txt has it for Azure."""
    script = """
import json, sys
from importlib.metadata import version
print(json.dumps([list(sys.version_info[:2]), version("azure-functions").split(".")[0], bool(version("azure-functions-runtime"))]))
"""

    assert run(python_313, script, FIXTURE_APP) == [[3, 13], "2", True]
