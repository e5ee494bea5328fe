"""Sample events: what a small web shop sends. The same for the same run number.

Some are sent twice on purpose, as producers do that retry: within Kafka, within HTTP, and by both ways. They share
their event id, so ClickHouse shows each once in the end.
"""

import json
import random
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

# Every run of `make run` has ids of its own, so that its events can be told from those of earlier runs.
_PRODUCTS = (
    ("tea-0017", "Sencha, 100 g", 890), ("tea-0042", "Earl Grey, 250 g", 1250), ("cup-0003", "Tasse »Zoë«", 1590),
    ("pot-0008", "Gaiwan 蓋碗", 3400), ("can-0011", "Tea caddy \"Nº 5\"", 1990), ("set-0001", "차 세트", 7800),
)  # fmt: skip
_CUSTOMERS = ("Zoë Müller", "김민준", "Ana-Lucía Peña", "O'Brien, Siân", "Иван Петров", "Ada Lovelace")
_PAGES = ("/", "/tea/green", "/tea/black", "/cups", "/cart", "/search?q=sencha&sort=price")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_2 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)",
)


@dataclass(frozen=True)
class Samples:
    """The events of one run as lines of JSON, by the way they take."""

    prefix: str
    """What the event ids of this run begin with."""
    kafka: list[bytes]
    http: list[bytes]
    distinct: int
    """Number of different event ids."""


def make_samples(run_number: int, count: int) -> Samples:
    """The events of a run: `count` different ones, half by each way, and 3 % of them twice."""
    generator = random.Random(run_number)
    prefix = f"run{run_number:04d}-"
    now = datetime.now(timezone.utc)
    events = [
        _event(generator, prefix, number, now - timedelta(milliseconds=(count - number) * 7)) for number in range(count)
    ]
    half = count // 2
    kafka, http = events[:half], events[half:]
    copies = max(1, count // 100)
    by_both = generator.sample(kafka, copies)
    kafka += generator.sample(kafka, copies)
    http += generator.sample(http, copies) + by_both
    return Samples(prefix, kafka, http, count)


def _event(generator: random.Random, prefix: str, number: int, when: datetime) -> bytes:
    kind = generator.choices(("page_viewed", "cart_updated", "order_placed"), (80, 15, 5))[0]
    event = {
        "event_id": f"{prefix}{number:06d}",
        "type": kind,
        "occurred_at": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "session": str(uuid.UUID(int=generator.getrandbits(128), version=4)),
    }
    if kind == "page_viewed":
        event |= {"page": generator.choice(_PAGES), "duration_ms": generator.randint(3, 900)}
        event |= {"user_agent": generator.choice(_AGENTS), "ip": f"192.0.2.{generator.randint(1, 254)}"}
    else:
        items = [
            {"sku": sku, "name": name, "quantity": generator.randint(1, 4), "price_cents": price}
            for sku, name, price in generator.sample(_PRODUCTS, generator.randint(1, 3))
        ]
        event |= {"customer": {"id": generator.randint(1, 500), "name": generator.choice(_CUSTOMERS)}, "items": items}
        if kind == "order_placed":
            total = sum(item["quantity"] * item["price_cents"] for item in items)
            event |= {"total_cents": total, "currency": "EUR", "coupon": generator.choice((None, "SPRING"))}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
