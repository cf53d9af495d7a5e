"""The examples: what moved, which files say so, and the cases in which stock was lost on the way.

A case that is a stock record has its key, so that `inventory-migration show` can tell of it. What
is done about each is said in the example's page in `docs/`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from inventory_migration.errors import ExampleUnknown

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """Something in the data that made others lose stock, or what it means.

    Attributes:
        name: What it is called in the example's page.
        said: What it is, in a line.
        key: The key of the stock record that has it; None where it is no record.
    """

    name: str
    said: str
    key: str | None = None


@dataclass(frozen=True)
class Example:
    """An application before and after its move.

    Attributes:
        name: What commands call it; its mapping has the same name.
        title: Which releases.
        source: The table and columns that hold stock before.
        target: The tables that hold it afterwards.
        cases: What is planted in the data.
    """

    name: str
    title: str
    source: str
    target: str
    cases: tuple[Case, ...]

    @property
    def page(self) -> str:
        """The page about it."""
        return f"docs/{self.name}.md"

    @property
    def tables(self) -> list[str]:
        """Every table of its schema."""
        return re.findall(r'^CREATE TABLE "?(\w+)"? \($', self.text("schema.sql"), flags=re.M)

    @property
    def files(self) -> dict[str, str]:
        """What a user starts from: the mapping, and what is done before and after, by file name."""
        named = {"mapping.yaml": f"{self.name}.yaml"}
        named |= {f"{step}.sql": f"{self.name}.{step}.sql" for step in ("prepare", "after")}
        return {name: self.text(file) for file, name in named.items() if self.has(file)}

    def has(self, file: str) -> bool:
        """Whether it has a file of that name."""
        return (_FOLDER / self.name / file).is_file()

    def text(self, file: str) -> str:
        """One of its files."""
        return (_FOLDER / self.name / file).read_text(encoding="utf-8")


def functions() -> str:
    """What the data of all examples is drawn with."""
    return (_FOLDER / "functions.sql").read_text(encoding="utf-8")


def named_example(name: str) -> Example:
    """Find an example.

    Raises:
        ExampleUnknown: There is none of that name.
    """
    if name not in EXAMPLES:
        raise ExampleUnknown(name=name, known=list(EXAMPLES))
    return EXAMPLES[name]


_SPREE = Example(
    name="spree",
    title="Spree 1.3 to 2.0",
    source="spree_variants.count_on_hand",
    target="spree_stock_items at a spree_stock_locations row",
    cases=(
        Case("count_missing", "a count that is NULL", "1"),
        Case("oversold", "a negative count, with a backordered unit for each", "2"),
        Case("negative_unexplained", "a negative count without backordered units", "3"),
        Case("variant_deleted", "a soft-deleted variant that still has stock", "4"),
        Case("product_deleted", "a deleted product whose variant is live", "5"),
        Case("product_null", "a variant of no product", "6"),
        Case("product_gone", "a variant whose product is not there", "7"),
        Case("on_demand", "made on demand, with a count that means nothing", "8"),
        Case("master_with_stock", "a master that holds stock beside real variants", "9"),
        Case("product_count", "a product's cached count that differs from its variants", "11"),
        Case("no_sku", "several variants without a SKU", "12"),
        Case("sku_twice", "two variants with one SKU", "14"),
        Case("open_order", "units that are promised and not shipped", "16"),
        Case("unit_states", "units that are on_hand before any is renamed to that"),
        Case("not_backorderable", "a variant that must not be sold without stock", "18"),
        Case("shipment_without_location", "open shipments that get no location"),
        Case("second_run", "a second location called default, from running it twice"),
    ),
)

_SALEOR = Example(
    name="saleor",
    title="Saleor 2.9 to 2.10",
    source="product_productvariant.quantity and quantity_allocated",
    target="warehouse_stock at a warehouse_warehouse row, linked to every shipping zone",
    cases=(
        Case("both_negative", "-388 units of which -389 are allocated", "1"),
        Case("allocated_negative", "a negative number of allocated units", "2"),
        Case("oversold", "more allocated than there is", "3"),
        Case("counter_drift", "a counter that differs from the open order lines", "4"),
        Case("no_shipping_method", "an open order without a shipping method", "5"),
        Case("second_zone", "an open order in a second shipping zone", "6"),
        Case("draft_order", "an order line of a draft", "7"),
        Case("canceled_order", "an order line of a canceled order", "8"),
        Case("untracked", "a variant whose inventory is not tracked", "9"),
        Case("many_lines", "several open order lines of one variant", "10"),
        Case("partially_fulfilled", "an order of which a part is fulfilled", "11"),
        Case("variant_gone", "an open order line whose variant was deleted"),
        Case("no_address", "two sites without a company address"),
        Case("nothing_there", "no variants, and no shipping zones"),
    ),
)

_MEDUSA = Example(
    name="medusa",
    title="Medusa 1.7 to 1.8",
    source="product_variant.inventory_quantity",
    target="inventory_level of each variant's inventory_item at a stock_location row",
    cases=(
        Case("oversold", "a negative quantity, with open orders and backorder", "variant_case_01"),
        Case("negative_unexplained", "a negative quantity without backorder", "variant_case_02"),
        Case("open_order", "an open order, taken off at placement", "variant_case_03"),
        Case("variant_deleted", "a soft-deleted variant that still has stock", "variant_case_04"),
        Case("sku_shared", "a live variant with a deleted one's SKU", "variant_case_05"),
        Case("item_exists", "an inventory item of its SKU from elsewhere", "variant_case_06"),
        Case("unmanaged", "a variant that is not counted, with a quantity", "variant_case_07"),
        Case("gift_card", "a gift card, which is not shipped", "variant_case_08"),
        Case("no_sku", "several variants without a SKU", "variant_case_09"),
        Case("link_without_level", "an item and a link, and no level", "variant_case_11"),
        Case("level_exists", "a level that says something else", "variant_case_12"),
        Case("item_shared", "two variants of one inventory item", "variant_case_13"),
        Case("kit", "a variant of several inventory items", "variant_case_15"),
        Case("canceled_order", "lines of a canceled order and of a cart", "variant_case_16"),
        Case("variant_during_run", "a variant that comes after the preparation"),
        Case("two_locations", "two locations, of which none is the default"),
        Case("no_channel", "sales channels that no location serves"),
        Case("text_keys", "keys that are text and sort as text"),
    ),
)

EXAMPLES = {example.name: example for example in (_SPREE, _SALEOR, _MEDUSA)}
