"""The figures in the forms that Prometheus reads, as prometheus_client writes them.

It is imported where it is used, since most commands have no use for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from inventory_migration.metrics.catalogue import METRICS
from inventory_migration.metrics.samples import Sample

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def registry(ask: Callable[[], Iterable[Sample]]) -> CollectorRegistry:
    """What prometheus_client serves and pushes; `ask` is called each time that it is shown."""
    from prometheus_client import CollectorRegistry
    from prometheus_client.registry import Collector

    class Ledger(Collector):
        def collect(self) -> Iterable[Any]:
            return _families(ask())

        def describe(self) -> Iterable[Any]:
            # Nothing is asked of a database for being registered.
            return ()

    made = CollectorRegistry()
    made.register(Ledger())
    return made


def text(found: Iterable[Sample]) -> str:
    """The figures in Prometheus' text format."""
    from prometheus_client import generate_latest

    return generate_latest(registry(lambda: found)).decode()


def _families(found: Iterable[Sample]) -> list[Any]:
    """Samples by their metrics, in the catalogue's order; those that have none are left out."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}
    by_name: dict[str, list[Sample]] = {}
    for sample in found:
        by_name.setdefault(sample.name, []).append(sample)
    families = []
    for name, metric in METRICS.items():
        if name in by_name:
            family = kinds[metric.kind](metric.full_name, metric.meaning, labels=metric.labels)
            for sample in by_name[name]:
                family.add_metric(sample.labels, sample.value)
            families.append(family)
    return families
