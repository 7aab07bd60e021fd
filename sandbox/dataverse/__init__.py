"""A stand-in of Microsoft Dataverse's Web API 9.2, written from reference/dataverse.md only.

Chaos of its own, beside the kinds every stand-in has (`sandbox.chaos`): ``admin_mode`` (403 for everybody) and
``normalise`` (``entity``, ``column``, ``how``: ``trim``, ``collapse``, ``upper``), see `sandbox.dataverse.disturb`.
Switches are the fields of `sandbox.dataverse.switches.Switches`.
"""
