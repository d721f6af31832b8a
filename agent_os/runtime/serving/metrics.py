"""What `agentos serve` shows to Prometheus: requests, streams, models' usage and budgets. Needs the extra `metrics`.

Usage and budgets are read from the state when they are scraped, so that they count every process and survive restarts. Labels
are tenants, teams, models, providers and tiers: never users' prompts, and users only in the budgets' own names. Threat: a
page of everybody's spending that anyone on the machine, or another tenant, can read: it is behind a credential of its own right,
which shows its tenant's figures; the server's own counters, and every tenant's, need `all-metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from agent_os.core.errors import MissingPartError

BUCKETS_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
Rows = Callable[[], Iterable[Mapping[str, Any]]]


class Metrics:
    """Counters of this server, and collectors over `usage` and `budgets`. Raises MissingPartError without the library."""

    def __init__(self, usage: Rows, budgets: Rows) -> None:
        """`usage` gives rows with tenant, team, provider, model, tier and counts; `budgets` those of `agentos budget show`."""
        try:
            import prometheus_client as prometheus  # noqa: PLC0415 - an extra
        except ImportError:
            raise MissingPartError("the Prometheus client", "metrics") from None
        self._prometheus = prometheus
        self._registry = prometheus.CollectorRegistry(auto_describe=False)
        self.requests = prometheus.Counter(
            "agentos_http_requests", "Requests answered.", ["path", "status"], registry=self._registry
        )
        self.seconds = prometheus.Histogram(
            "agentos_http_first_byte_seconds",
            "Time to the answer or its first piece.",
            ["path"],
            buckets=BUCKETS_SECONDS,
            registry=self._registry,
        )
        self.streams = prometheus.Gauge("agentos_http_streams", "Streams under way.", registry=self._registry)
        self._usage, self._budgets = usage, budgets

    def page(self, tenant: str | None = None) -> tuple[bytes, str]:
        """Return the exposition of one tenant, or (None) of every one and of this server, and its content type."""
        stored = self._prometheus.CollectorRegistry(auto_describe=False)
        stored.register(_Stored(self._usage, self._budgets, tenant))
        pages = [stored] if tenant is not None else [self._registry, stored]
        return b"".join(map(self._prometheus.generate_latest, pages)), self._prometheus.CONTENT_TYPE_LATEST


class _Stored:
    """Collects what the state directory holds of one tenant, or (None) of every one."""

    def __init__(self, usage: Rows, budgets: Rows, tenant: str | None) -> None:
        self._usage, self._budgets, self._tenant = usage, budgets, tenant

    def collect(self) -> Iterable[Any]:
        """Yield the families; called at each scrape."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415

        labels = ["tenant", "team", "provider", "model", "tier"]
        tokens = CounterMetricFamily("agentos_model_tokens", "Tokens by direction.", labels=[*labels, "direction"])
        calls = CounterMetricFamily("agentos_model_calls", "Calls of models.", labels=labels)
        usd = CounterMetricFamily("agentos_model_usd", "US dollars by the policy's prices.", labels=labels)
        for row in self._usage():
            if self._tenant not in (None, row["tenant"]):
                continue
            named = [str(row[label]) for label in labels]
            for direction in ("input", "output", "cached", "reasoning"):
                tokens.add_metric([*named, direction], row[direction])
            calls.add_metric(named, row["calls"])
            usd.add_metric(named, row["usd"])
        yield from (tokens, calls, usd)
        keys = ["budget", "for", "period", "unit"]
        families = {
            column: GaugeMetricFamily(f"agentos_budget_{column}", f"Of a budget: {column}.", labels=keys)
            for column in ("used", "reserved", "limit")
        }
        for row in self._budgets():
            if self._tenant not in (None, row["tenant"]):
                continue
            for column, family in families.items():
                family.add_metric([str(row[key]) for key in keys], row[column])
        yield from families.values()
