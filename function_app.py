"""The Azure Functions app: one blueprint for each step. Nothing else stands here."""

import azure.functions as func

from functions import manage, poison, poll, sync, watch

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for module in (poll, sync, poison, watch, manage):
    app.register_functions(module.blueprint)
