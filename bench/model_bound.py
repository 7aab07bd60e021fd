"""The bottleneck law: no simulation, and no app, is faster than the resource that has the most to do."""

from collections.abc import Mapping

from bench.model_terms import CREATIO, DATAVERSE, Assumptions, Load
from bench.model_work import Request, Rows, Step, Think, chunks, closing, demand, page, pages, steps


def bounds(terms: Assumptions, load: Load) -> Mapping[str, float]:
    """Return the least seconds that each resource needs for a load by itself.

    Echoes are left out: they may come after the last record. A window of the service protection limits may be used up at once, so that
    the first of them is free.
    """
    asked = demand(Load(load.records, load.bulk, echoes=False), terms)
    slow = 1 - terms.spread  # each service time may turn out so much shorter
    windows = terms.accounts * terms.dataverse_servers
    least = {
        "slots": _holding(terms, load) / terms.most_batches(bulk=load.bulk),
        "execution time of Dataverse": _windows(asked.seconds[DATAVERSE] * slow, windows * terms.dataverse_seconds, terms),
        "requests of Dataverse": _windows(asked.requests[DATAVERSE], windows * terms.dataverse_requests, terms),
        "requests at a time of Dataverse": asked.seconds[DATAVERSE] * slow / (windows * terms.dataverse_concurrent),
        "requests at a time of Creatio": _creatio(terms, asked.requests[CREATIO], asked.seconds[CREATIO] * slow),
        "processor": asked.processor / terms.most_instances,
        "ledger account": sum(asked.operations.values()) / terms.account_rate,
        "feed": _feed(terms, load),
    }
    least |= {f"partition {name}": number / terms.partition_rate for name, number in asked.operations.items()}
    if terms.creatio_daily:
        least["daily requests of Creatio"] = (asked.requests[CREATIO] / terms.creatio_daily - 1) * 86_400
    return least


def bound(terms: Assumptions, load: Load) -> tuple[str, float]:
    """Return the resource that needs the longest, and how long."""
    least = bounds(terms, load)
    name = max(least, key=least.__getitem__)
    return name, least[name]


def _windows(amount: float, a_window: float, terms: Assumptions) -> float:
    return max(0.0, amount / a_window - 1) * terms.dataverse_window


def _creatio(terms: Assumptions, requests: int, seconds: float) -> float:
    return (requests * terms.creatio_latency + seconds) / terms.creatio_parallel


def _alone(step: Step, terms: Assumptions) -> float:
    """Return the least time of one step when nobody else is there."""
    match step:
        case Think():
            return step.seconds
        case Rows():
            rounds = -(-step.requests // terms.ledger_side_by_side)
            return max(step.operations / terms.partition_rate, rounds * terms.ledger_latency)
        case Request():
            return terms.latency(step.system) + step.seconds * (1 - terms.spread)


def _holding(terms: Assumptions, load: Load) -> float:
    """Add up how long all batches hold their slots."""
    sizes = [(kind, some) for kind, rows in pages(load, terms) for some in chunks(rows, terms.batch_size)]
    known = {one: sum(_alone(step, terms) for step in [*steps(*one, terms), *closing()]) for one in set(sizes)}
    return sum(known[one] for one in sizes)


def _feed(terms: Assumptions, load: Load) -> float:
    """Return how long the longest feed takes to be read, page after page; feeds are read side by side."""
    least = dict.fromkeys(load.records, 0.0)
    for kind, rows in pages(load, terms):
        least[kind] += sum(_alone(step, terms) for step in page(kind.source, rows, terms))
    return max(least.values(), default=0.0)
