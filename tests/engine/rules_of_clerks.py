"""What clerks do to the documents of a house, as rules of a state machine."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from shared.core.records import RangeBy, Side
from shared.core.work import Load, RunKind
from tests.engine.paperwork import CLOSED, NAMELESS, OPEN, ORDERS, TOO_MANY
from tests.engine.rules_of_people import CODES, NAMES, WHICH, Everyday

NUMBERS = st.sampled_from([1, 2, 3, 1, 2, 3, TOO_MANY, NAMELESS])
PLACES = st.integers(0, 2)
SAVES = st.dictionaries(PLACES, NUMBERS | st.none(), min_size=1, max_size=3)


class ClerksAtWork(Everyday):
    """Those who write documents."""

    papers = True

    def order(self, which: int) -> str | None:
        """Return a document of Creatio, if there is any."""
        there = self.paperwork.orders()
        return there[which % len(there)] if there else None

    @rule(name=NAMES, code=CODES, account=st.none() | WHICH, numbers=st.lists(NUMBERS, max_size=3), person=st.none() | WHICH)
    def write_an_order(self, name: str, code: str | None, account: int | None, numbers: list[int], person: int | None) -> None:
        """Let a clerk write an order, for an account and with people that may be newer than the last poll."""
        above = None if account is None else self.pick(Side.CREATIO, account)
        self.paperwork.create(name, code, above, numbers, None if person is None else self.pick(Side.CREATIO, person, "Contact"))

    @rule(name=NAMES, parent=WHICH, numbers=st.lists(NUMBERS, min_size=1, max_size=3))
    def write_an_order_for_new_people(self, name: str, parent: int, numbers: list[int]) -> None:
        """Let a clerk write an order for an account and a contact that were made this very moment."""
        people = self.people
        people.create(Side.CREATIO, name, None, None, None)
        account = max(people.ids(Side.CREATIO))
        people.create(Side.CREATIO, name, None, parent, None, "Contact")
        self.paperwork.create(name, None, account, numbers, max(people.ids(Side.CREATIO, "Contact")))

    @rule(which=WHICH, numbers=SAVES, person=st.none() | WHICH, calm=st.booleans())
    def save_lines(self, which: int, numbers: dict[int, int | None], person: int | None, calm: bool) -> None:
        """Let a clerk save lines together: some are new, some change, some go; what follows is an everyday cycle, or anything."""
        if (order := self.order(which)) is not None:
            self.paperwork.save(order, numbers, None if person is None else self.pick(Side.CREATIO, person, "Contact"))
            if calm:
                self.guarded(self.world.cycle(1))

    @rule(which=WHICH, numbers=SAVES, place=PLACES, parent=WHICH)
    def save_lines_for_new_people(self, which: int, numbers: dict[int, int | None], place: int, parent: int) -> None:
        """Let a clerk save a line that names a contact who was made this very moment, together with others."""
        if (order := self.order(which)) is not None:
            self.people.create(Side.CREATIO, "one", None, parent, None, "Contact")
            self.paperwork.save(order, {place: 1}, max(self.people.ids(Side.CREATIO, "Contact")))
            self.paperwork.save(order, {key: number for key, number in numbers.items() if key != place})

    @rule(which=WHICH, values=st.fixed_dictionaries({}, optional={"Name": NAMES, "State": st.sampled_from([OPEN, CLOSED])}))
    def edit_a_header(self, which: int, values: dict[str, str]) -> None:
        """Let a clerk rename a document, close it, or open it again."""
        if (order := self.order(which)) is not None:
            self.paperwork.edit(order, **values)

    @rule(which=WHICH, place=PLACES, number=st.none() | NUMBERS)
    def meddle(self, which: int, place: int, number: int | None) -> None:
        """Let somebody change or remove one of our lines in Dynamics."""
        if (order := self.order(which)) is not None:
            self.paperwork.meddle(order, place, number)

    @rule(which=WHICH, numbers=SAVES, place=PLACES, number=st.none() | NUMBERS, late=st.booleans())
    def save_lines_inside_a_write(self, which: int, numbers: dict[int, int | None], place: int, number: int | None, late: bool) -> None:
        """Let lines be saved on both sides just before our write of whatever record, or just after it."""
        system = self.world.dynamics

        def once(_record_id: str) -> None:
            system.after_plan = system.between = lambda _record_id: None
            if (order := self.order(which)) is not None:
                self.paperwork.save(order, numbers)
                self.paperwork.meddle(order, place, number)

        if late:
            system.between = once
        else:
            system.after_plan = once

    @rule(silent=st.booleans())
    def sum_up_by_sql(self, silent: bool) -> None:
        """Let Creatio leave a document's own time as it is when its lines change, or move it, from now on."""
        self.world.creatio.sums_by_sql = silent

    @rule(overlong=st.sampled_from(["truncate", "reject"]))
    def change_the_lines_mapping(self, overlong: str) -> None:
        """Deploy a mapping with another row for the lines."""
        self.world.further[1]["lines"]["fields"][0]["overlong"] = overlong
        self.world.start()

    @precondition(lambda self: self.paperwork.orders())
    @rule(by=st.sampled_from(list(RangeBy)), size=st.sampled_from([1, 500]), dry=st.booleans())
    def load_documents(self, by: RangeBy, size: int, dry: bool) -> None:
        """Start a bulk run of all documents."""
        self.guarded(self.world.bulk.start([ORDERS], Side.CREATIO, Load(by, size=size), dry=dry))

    @rule(kind=st.sampled_from([RunKind.ALIGN, RunKind.REBASE]))
    def walk_documents(self, kind: RunKind) -> None:
        """Start a run over all bindings of documents."""
        self.guarded(self.world.walk.start(ORDERS, kind, Side.CREATIO, dry=False))
