"""What goes into the Creatio stand-in comes out again, whatever it is."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.creatio.schema import Column
from sandbox.creatio.values import emit, fragment, take
from tests.contract.creatio_stand_in import open_tenant

_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
_CHARACTERS_OF_ODATA = st.text("'\"%&+;,/()$@ =\\Aß東😀", min_size=1, max_size=12)


async def _round(texts: list[str]) -> None:
    async for tenant in open_tenant():
        for text in texts:
            row = await tenant.post("Account", {"Name": text})
            assert row["Name"] == text
            quoted = text.replace("'", "''")
            found = await tenant.rows("Account", f"Name eq '{quoted}' and contains(Name,'{quoted}')", select="Name")
            assert {"Name": text} in found
            assert all(other["Name"] == text for other in found)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(_TEXTS, _CHARACTERS_OF_ODATA), min_size=1, max_size=6))
def test_every_text_is_kept_and_found_again(texts):
    """Any text that a database takes survives a create, and a filter with it quoted finds it and nothing else."""
    asyncio.run(_round(texts))


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=8), st.integers(0, 8))
def test_every_decimal_is_rounded_to_its_scale_once(number, scale):
    """A decimal comes back with exactly its column's digits, off by no more than half of the last one."""
    column = Column("Amount", "decimal", scale=scale)
    stored = take(column, number)
    shown = str(emit(column, stored))
    assert len(shown.partition(".")[2]) == scale
    assert abs(Decimal(shown) - number) * 2 <= Decimal(1).scaleb(-scale)
    assert take(column, Decimal(shown)) == stored
    assert fragment(column)(stored) == shown
    assert fragment(column, text_decimals=True)(stored) == json.dumps(shown)


@given(
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive
    st.timedeltas(timedelta(hours=-14), timedelta(hours=14)),
)
def test_stored_times_sort_as_times(one, other, offset):
    """A time survives in any offset's notation, and stored texts compare as the times do."""
    column = Column("ModifiedOn", "datetime")
    whole_minutes = timedelta(minutes=offset // timedelta(minutes=1))
    stored_one = take(column, (one + whole_minutes).replace(tzinfo=None).isoformat() + _notation(whole_minutes))
    stored_other = take(column, other.isoformat())
    assert datetime.fromisoformat(emit(column, stored_one)) == one
    assert (stored_one < stored_other, stored_one == stored_other) == (one < other, one == other)


def _notation(offset: timedelta) -> str:
    minutes = abs(offset) // timedelta(minutes=1)
    return f"{'-' if offset < timedelta() else '+'}{minutes // 60:02}:{minutes % 60:02}"
