"""What operators do to a house, as rules of a state machine."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.core.records import RangeBy, Side
from shared.core.work import Load, RunKind
from tests.engine.agreement import CONTACTS
from tests.engine.house import SIDES
from tests.engine.rules_of_people import EDITED, TEXTS, Everyday
from tests.engine.world import FLOW


class OperatorsAtWork(Everyday):
    """Those who keep the app running."""

    @rule()
    def stop_or_start(self) -> None:
        """Stop the flow, or start it."""
        flows = self.world.ledger.flows
        if FLOW in flows and not flows[FLOW].started:
            self.guarded(self.world.operate.start(FLOW))
        else:
            self.guarded(self.stop())

    @rule(flow=st.sampled_from([FLOW, CONTACTS]))
    def reprocess(self, flow: str) -> None:
        """Enqueue the failed records again."""
        self.guarded(self.world.operate.reprocess(flow))

    @rule(side=SIDES, row=EDITED, text=TEXTS)
    def edit_everything(self, side: Side, row: str, text: str) -> None:
        """Let somebody import one value into every account: a mass change."""
        for record in self.people.ids(side):
            self.people.edit(side, record, row, text)

    @precondition(lambda self: any(flow.asking and not flow.walking for flow in self.world.ledger.flows.values()))
    @rule()
    def reply_to_a_flow(self) -> None:
        """Answer a flow that asks."""
        asking = next(name for name, flow in sorted(self.world.ledger.flows.items()) if flow.asking and not flow.walking)
        self.guarded(self.reply(asking))

    @rule(kind=st.sampled_from([RunKind.ALIGN, RunKind.REBASE]), side=SIDES, dry=st.booleans())
    def walk(self, kind: RunKind, side: Side, dry: bool) -> None:
        """Start a run over all bindings."""
        if kind is RunKind.REBASE and not dry:
            self.journal.rebased = self.people.reborn = True
        self.guarded(self.world.walk.start(FLOW, kind, side, dry=dry))

    @rule(side=SIDES, by=st.sampled_from(list(RangeBy)), size=st.sampled_from([1, 2, 500]), dry=st.booleans(), both=st.booleans())
    def load_everything(self, side: Side, by: RangeBy, size: int, dry: bool, both: bool) -> None:
        """Start a bulk run from a side."""
        flows = [FLOW, CONTACTS] if both else [FLOW]
        self.guarded(self.world.bulk.start(flows, side, Load(by, size=size), dry=dry))

    @rule()
    def rotate_the_key(self) -> None:
        """Put a new fingerprint key in front of the old ones."""
        number = int(self.world.keys.split(":")[0][1:]) + 1
        self.world.keys = f"k{number}:" + chr(65 + number % 26) * 43 + "=," + self.world.keys
        self.world.start()

    @precondition(lambda self: "," in self.world.keys)
    @rule()
    def drop_old_keys(self) -> None:
        """Take old keys away once nothing in the ledger is under them any more, as after an align run."""
        current = self.world.keys.split(",")[0]
        under = {state.key_id for binding in self.world.ledger.bound for state in binding.fields.values()}
        if under <= {current.split(":")[0]}:
            self.world.keys = current
            self.world.start()

    @precondition(lambda self: self.world.mapping["fields"][-1]["creatio"] != "Extra")
    @rule()
    def add_a_row(self) -> None:
        """Deploy a mapping with one more row."""
        self.journal.all_open = self.journal.window  # law 2: its fields have no base
        self.world.mapping["fields"].append({"creatio": "Extra", "way": "=", "dynamics": "extra"})
        self.world.start()

    @rule(overlong=st.sampled_from(["truncate", "reject"]))
    def change_a_row(self, overlong: str) -> None:
        """Deploy a mapping with another choice for texts that are too long."""
        self.world.mapping["fields"][0]["overlong"] = overlong
        self.world.start()
