"""Find the app in its module and read its functions through the public interface of ``azure-functions``.

The rules are those of the Python worker (azure.md 1.2, 1.3): one module-level app, and every binding a parameter.
"""

import importlib
import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import azure.functions as func

from sandbox.host.bindings import Binding, HttpBinding, QueueBinding, TimerBinding, Trigger, parse_bindings
from sandbox.host.problems import StartupError
from sandbox.host.retry import RetryPolicy, parse_retry_policy

_TRIGGER_TYPES: Final[Mapping[type, tuple[type, ...]]] = MappingProxyType(
    {
        QueueBinding: (func.QueueMessage, str, bytes),
        TimerBinding: (func.TimerRequest,),
        HttpBinding: (func.HttpRequest,),
    }
)


@dataclass(frozen=True, slots=True)
class HostedFunction:
    """One function of the app, ready to be run."""

    name: str
    handler: Callable[..., Any]
    trigger: Trigger
    outputs: tuple[Binding, ...]
    retry: RetryPolicy | None
    trigger_type: object  # the annotation of the trigger's parameter, or None
    takes_context: bool
    disabled: bool

    @property
    def has_return(self) -> bool:
        """Whether a ``$return`` binding takes what the function returns."""
        return any(binding.name == "$return" for binding in self.outputs)


def index_app(script: Path, environment: Mapping[str, str]) -> tuple[HostedFunction, ...]:
    """Import the script and return its functions in the order of their definition.

    Raises:
        StartupError: The module can't be imported, has not exactly one app, or a function can't be run here.
    """
    app = find_app(script)
    try:
        functions = app.get_functions()
    except ValueError as error:
        raise StartupError(f"{script.name}: {error}") from error
    return tuple(_hosted(function, environment) for function in functions)


def find_app(script: Path) -> Any:
    """Import the script and return the one app (or other function register) that it has at module level.

    Two names for the same app count as two, as in the worker.

    Raises:
        StartupError: The module can't be imported or has not exactly one app.
    """
    if not script.is_file():
        raise StartupError(f"The app {script} does not exist.")
    root = str(script.resolve().parent)
    if root not in sys.path:
        sys.path.insert(0, root)  # the app's folder is the root of its imports, as in Azure
    try:
        module = importlib.import_module(script.stem)
    except Exception as error:
        raise StartupError(f"{script.name} can't be imported: {type(error).__name__}: {error}") from error
    # FunctionRegister is what the worker looks for; the package exports it at its top.
    apps = [name for name, value in vars(module).items() if isinstance(value, func.FunctionRegister)]
    if len(apps) != 1:
        found = ", ".join(apps) or "none"
        raise StartupError(f"{script.name} has {found} as function app at module level; allowed is exactly one.")
    return vars(module)[apps[0]]


def _hosted(function: Any, environment: Mapping[str, str]) -> HostedFunction:
    name = str(function.get_function_name())
    where = f"Function {name!r}"
    handler = function.get_user_function()
    raw = [json.loads(text) for text in function.get_raw_bindings()]
    trigger, outputs = parse_bindings(where, name, raw, environment)
    try:
        hints = typing.get_type_hints(handler)
    except NameError as error:
        raise StartupError(f"{where}: an annotation can't be resolved at run time: {error}.") from error
    takes_context = _check_parameters(where, handler, hints, trigger, outputs)
    retry = function.get_settings_dict("retry_policy")
    return HostedFunction(
        name=name,
        handler=handler,
        trigger=trigger,
        outputs=outputs,
        retry=None if retry is None else parse_retry_policy(where, retry),
        trigger_type=hints.get(trigger.name),
        takes_context=takes_context,
        disabled=environment.get(f"AzureWebJobs.{name}.Disabled", "").lower() in {"1", "true"},
    )


def _check_parameters(
    where: str, handler: Callable[..., Any], hints: Mapping[str, object], trigger: Trigger, outputs: tuple[Binding, ...]
) -> bool:
    """Hold the parameters against the bindings, and return whether the function wants the context."""
    parameters = set(inspect.signature(handler).parameters)
    bound = {trigger.name, *(binding.name for binding in outputs)} - {"$return"}
    takes_context = "context" in parameters - bound
    if takes_context:
        parameters.discard("context")
        if hints.get("context", func.Context) is not func.Context:
            raise StartupError(f"{where}: the parameter 'context' must be of type azure.functions.Context.")
    if unbound := sorted(parameters - bound):
        raise StartupError(f"{where}: the parameters {', '.join(unbound)} belong to no binding.")
    if unused := sorted(bound - parameters):
        raise StartupError(f"{where}: the bindings {', '.join(unused)} have no parameter of that name.")
    _check_types(where, hints, trigger, outputs)
    return takes_context


def _check_types(where: str, hints: Mapping[str, object], trigger: Trigger, outputs: tuple[Binding, ...]) -> None:
    """Refuse the annotations that the worker refuses when it loads a function."""
    hint = hints.get(trigger.name)
    allowed = _TRIGGER_TYPES[type(trigger)]
    if hint is not None and not (isinstance(hint, type) and issubclass(hint, allowed)):
        names = ", ".join(kind.__name__ for kind in allowed)
        raise StartupError(f"{where}: the parameter {trigger.name!r} is annotated as {hint!r}; allowed are {names}.")
    for binding in outputs:
        hint = hints.get(binding.name)
        if binding.name == "$return" or hint is None:
            continue
        if typing.get_origin(hint) is not func.Out:
            raise StartupError(f"{where}: the output {binding.name!r} must be annotated as azure.functions.Out[...].")
        if isinstance(typing.get_args(hint)[0], types.GenericAlias):
            # Seen with azure-functions-runtime 1.3: "invalid non-type annotation".
            raise StartupError(f"{where}: the output {binding.name!r} is {hint!r}, which the worker refuses; write typing.List[...].")
