"""What names say: whether a column is likely a quantity, a table a warehouse, a key an owner's.

Names only. What the catalog knows of a table, and what its rows say, is weighed beside this.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

QUANTITIES: Mapping[str, int] = {
    "quantity": 10,
    "qty": 10,
    "on_hand": 10,
    "onhand": 10,
    "in_stock": 10,
    "stock": 8,
    "inventory": 7,
    "remaining": 6,
    "available": 6,
    "avail": 6,
    "unit": 5,
    "balance": 4,
    "level": 3,
    "count": 3,
    "amount": 2,
}
"""Words of a column that says how much there is, and how surely."""

RESERVED = (
    "reserved",
    "reservation",
    "allocated",
    "committed",
    "booked",
    "promised",
    "held",
    "locked",
    "earmarked",
    "alloc",
)
"""Words of a column that says how much of it is promised to somebody."""

NET = ("available", "avail", "free", "sellable", "salable", "saleable")
"""Words of a quantity that open orders are taken off already."""

NO_STOCK = frozenset(
    (
        "adjusted", "adjustment", "alert", "allowed", "average", "backordered", "billed",
        "capacity", "change", "cost", "counted", "damaged", "day", "default", "delivered",
        "delta", "difference", "discount", "expected", "factor", "fulfilled", "height", "id",
        "incoming", "inbound", "initial", "invoiced", "length", "limit", "lost", "max", "maximum",
        "measure", "min", "minimum", "minute", "multiple", "new", "notify", "old", "on_order",
        "order", "ordered", "original", "outgoing", "pack", "per", "percent", "percentage",
        "picked", "position", "previous", "price", "priority", "purchased", "quota", "rank",
        "review", "rate", "ratio", "received", "reorder", "requested", "required", "returned",
        "safety", "scrapped", "second", "sequence", "shipped", "sold", "sort", "step", "target",
        "tax", "threshold", "total", "transferred", "transit", "value", "version", "view",
        "volume", "warning", "weight", "width", "year",
    )
)  # fmt: skip
"""Words of a number that says something else than what is there now."""

RECORDS: Mapping[str, int] = {
    "stock": 5,
    "inventory": 4,
    "batch": 3,
    "lot": 3,
    "variant": 2,
    "sku": 2,
    "item": 2,
    "article": 2,
    "product": 1,
    "part": 1,
    "material": 1,
    "good": 1,
}
"""Words of a table whose rows are stock records, and how surely."""

EVENTS = frozenset(
    (
        "adjustment", "allocation", "archive", "audit", "backup", "basket", "bundle", "cart",
        "change", "checkout", "component", "detail", "event", "export", "forecast", "fulfillment",
        "fulfilment", "history", "import", "invoice", "journal", "ledger", "line", "log",
        "movement", "old", "order", "purchase", "quote", "receipt", "receiving", "refund",
        "request", "reservation", "return", "sale", "shipment", "snapshot", "staging", "temp",
        "tmp", "transaction", "transfer", "wishlist",
    )
)  # fmt: skip
"""Words of a table that says what happened or was wanted, and not what is there."""

OWNERS: Mapping[str, int] = {
    "company": 10,
    "tenant": 10,
    "organization": 9,
    "organisation": 9,
    "org": 8,
    "merchant": 9,
    "seller": 9,
    "vendor": 8,
    "supplier": 8,
    "business": 7,
    "shop": 7,
    "store": 6,
    "workspace": 6,
    "account": 6,
    "firm": 6,
    "owner": 6,
    "client": 5,
    "team": 5,
    "brand": 4,
    "partner": 4,
    "manufacturer": 4,
    "customer": 3,
    "site": 3,
}
"""Words of who owns stock, and how surely."""

NO_OWNERS: Mapping[str, int] = {
    **dict.fromkeys(
        (
            "product", "item", "variant", "sku", "article", "part", "batch", "lot", "template",
            "status", "currency", "country", "unit", "uom", "tax", "language", "image", "address",
            "order", "line", "user", "employee", "warehouse", "location", "depot", "price",
            "profile", "media", "file", "zone",
        ),
        6,
    ),
    "category": 2,
    "tag": 2,
    "collection": 2,
    "group": 1,
}  # fmt: skip
"""Words of what belongs to stock otherwise than as its owner, and how surely."""

LOCATIONS: Mapping[str, int] = {
    "warehouse": 10,
    "location": 10,
    "whse": 8,
    "depot": 8,
    "store": 7,
    "branch": 6,
    "facility": 6,
    "outlet": 5,
    "site": 4,
}
"""Words of a table of places where stock can be, and how surely."""

DEFAULTS = ("default", "main", "primary", "principal", "headquarter")
"""Words of the flag that marks one location of several."""

ITEMS: Mapping[str, int] = {
    "sku": 10,
    "item_code": 9,
    "item_number": 9,
    "product_code": 9,
    "part_number": 9,
    "article_number": 9,
    "item_no": 9,
    "part_no": 9,
    "article_no": 9,
    "batch_number": 8,
    "lot_number": 8,
    "batch_no": 8,
    "lot_no": 8,
    "barcode": 7,
    "ean": 7,
    "upc": 7,
    "gtin": 7,
    "code": 6,
    "product_name": 5,
    "item_name": 5,
    "name": 4,
    "title": 4,
    "number": 3,
    "description": 1,
}
"""Words of what an application calls an item by, and how well."""

NAMES: Mapping[str, int] = {
    "name": 10,
    "title": 8,
    "label": 7,
    "slug": 5,
    "code": 4,
    "domain": 4,
    "email": 3,
}
"""Words of what a company is called by, and how well."""

GONE = ("deleted", "removed", "destroyed", "trashed")
"""Words of a column that says that a record is no longer meant."""

OPEN_UNTIL = ("shipped", "fulfilled", "delivered", "dispatched", "closed")
"""Words of the moment at which an order is no longer open; a completed one may be just placed."""

CANCELLED = ("cancelled", "canceled", "voided", "deleted")
"""Words of the moment from which an order is none."""


@functools.cache
def words(name: str) -> tuple[str, ...]:
    """The words of a name, lower-case and singular: `"reservedQuantity"`, `stock_items`."""
    apart = re.sub(r"([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])", r"\1\3 \2", name)
    found = re.findall(r"[^\W_]+", apart.lower())
    return tuple(_singular(part) for word in found for part in _apart(word))


def says(name: str, known: Iterable[str]) -> bool:
    """Whether a name has one of these words, or of these phrases."""
    return bool(_said(name, known))


def weight(name: str, known: Mapping[str, int]) -> int:
    """How surely a name says it: the weight of its weightiest word; 0 where it has none."""
    return max((known[phrase] for phrase in _said(name, known)), default=0)


def head(name: str, known: Mapping[str, int]) -> int:
    """The weight of a table's last word, which says what a row of it is: a stock location."""
    return known.get((words(name) or ("",))[-1], 0)


def stem(column: str) -> tuple[str, ...]:
    """What a referring column refers to by its name: `companyId` to a company; () for others."""
    found = words(column)
    if len(found) > 1 and found[-1] in {"id", "key", "uuid", "code", "ref", "no"}:
        return found[:-1]
    if len(found) == 1 and re.fullmatch(r"\w{3,}id", found[0]):
        return (found[0][:-2],)
    return ()


def endings(table: str) -> set[str]:
    """What a column may call a table by: `product_producttype` is a producttype as well."""
    named = words(table)
    return {"".join(named[place:]) for place in range(len(named))}


def _said(name: str, known: Iterable[str]) -> list[str]:
    spelled = f"_{'_'.join(words(name))}_"
    return [phrase for phrase in known if f"_{phrase}_" in spelled]


def _apart(word: str) -> list[str]:
    """The words that a word is written together from, if all are known: `qtyonhand`."""
    ways: dict[int, list[str]] = {0: []}
    for end in range(2, len(word) + 1):
        for begin in [place for place in ways if end - place >= 2]:
            way = [*ways[begin], word[begin:end]]
            # The fewest words: what is one word is not two.
            fewest = end not in ways or len(way) < len(ways[end])
            if fewest and _singular(word[begin:end]) in _vocabulary():
                ways[end] = way
    return ways.get(len(word), [word])


@functools.cache
def _vocabulary() -> frozenset[str]:
    tables = (QUANTITIES, RESERVED, NET, NO_STOCK, RECORDS, EVENTS, OWNERS, NO_OWNERS, LOCATIONS,
              DEFAULTS, ITEMS, NAMES, GONE, OPEN_UNTIL, CANCELLED)  # fmt: skip
    glue = {"at", "by", "date", "id", "in", "is", "key", "no", "of", "on", "online", "tbl", "was"}
    return frozenset(glue).union(*(phrase.split("_") for table in tables for phrase in table))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return f"{word[:-3]}y"
    if len(word) > 4 and re.search(r"(ss|x|ch|sh)es$", word):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not re.search(r"(ss|us|is)$", word):
        return word[:-1]
    return word
