"""A stand-in of Microsoft Dataverse's Web API 9.2, written from reference/dataverse.md only.

Start it with ``python -m sandbox.dataverse``; in tests serve `sandbox.dataverse.server.create_app`. Switches are the
fields of `sandbox.dataverse.switches.Settings`. Beside the kinds of chaos that every stand-in has (`sandbox.chaos`):

- ``normalise``: texts written to ``column`` of ``entity`` are stored changed; ``how``: ``trim``, ``collapse``, ``upper``.
- ``user_edit_in_batch``: before operation number ``position`` (default 1, counted from 0) of a batch a user edits
  ``values`` of the row ``id`` of ``entity``.
- ``part_status``: operation number ``position`` of a batch is answered ``status`` instead of being done.
- ``insert_then_fail``: the request is done and committed, and answered 500 0x80040216.
- ``repeat_delta``: delta links answer every change twice.
- ``stale_read`` with ``seconds``: reads show rows before their last write, if that was at most so long ago (0: always).
- ``status`` with ``body``: ``json``, ``deadlock`` (SQL 1205), ``sql_timeout``, ``concurrency``, ``time``, ``workers``
  and ``too_many`` (429), ``customization`` (another one is running), ``crash`` (a plug-in).
"""
