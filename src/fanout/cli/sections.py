"""Sections of a long help: options of one theme stand together, in the order given here."""

from __future__ import annotations

import click

SECTIONS: dict[str, tuple[str, ...]] = {
    "The run": (
        "out",
        "name",
        "label",
        "resumes",
        "may_have_run",
        "statuses",
        "error_types",
        "canary",
        "what_ifs",
        "yes",
        "dry_run",
        "preflight",
    ),
    "Input": (
        "take",
        "format",
        "items",
        "csv_delimiter",
        "csv_header",
        "encoding",
        "nan",
        "request_payer",
        "spool",
        "payload",
        "repeat",
        "follow",
        "empty_after",
    ),
    "What is sent": (
        "key",
        "select",
        "qualifier",
        "invocation_type",
        "client_context",
        "tenant_id",
        "durable",
        "durable_name",
        "stream",
    ),
    "Batches": (
        "batch",
        "batch_bytes",
        "batch_wait",
        "batch_shape",
        "batch_input",
        "batch_reply",
        "bisect",
    ),
    "Limits": (
        "concurrency",
        "rate",
        "leave",
        "timeout",
        "function_timeout",
        "max_bytes_in_flight",
        "transport",
    ),
    "Workers": ("workers", "scheduler"),
    "Retries": (
        "retries",
        "retry_function_errors",
        "retry_on",
        "idempotent",
        "hedge",
        "throttle_patience",
        "outage_patience",
        "breaker",
    ),
    "Stopping": (
        "deadline",
        "max_cost",
        "prices",
        "enough",
        "wants_all",
        "tolerated_failure_count",
        "tolerated_failure_percentage",
        "threshold",
        "threshold_abort",
        "grace",
    ),
    "Output": (
        "results",
        "collect",
        "keep_order",
        "log_type",
        "fsync",
        "report",
        "on_finish",
        "dashboard",
        "as_json",
        "quiet",
    ),
    "Account": ("profile", "region", "endpoint_url"),
    "This machine": ("local", "local_concurrency", "local_timeout"),
}
_HEADINGS = {name: heading for heading, names in SECTIONS.items() for name in names}
_OTHERS = "Other"
_WIDEST_OPTION = 26  # the same column in all sections


class SectionedCommand(click.Command):
    """A command whose help has its options by theme; one that has no place here stands at the end."""

    def left_out(self) -> frozenset[str]:
        """Options that the help does not name."""
        return frozenset()

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections. Completion and parsing are click's own."""
        rows: dict[str, dict[str, tuple[str, str]]] = {heading: {} for heading in (*SECTIONS, _OTHERS)}
        for param in self.get_params(ctx):
            if param.name in self.left_out():
                continue
            row = param.get_help_record(ctx)
            if isinstance(param, click.Option) and row is not None:
                name = str(param.name)
                rows[_HEADINGS.get(name, _OTHERS)][name] = (row[0].ljust(_WIDEST_OPTION), row[1])
        for heading, found in rows.items():
            if found:
                order = [name for name in SECTIONS.get(heading, found) if name in found]
                with formatter.section(heading):
                    formatter.write_dl([found[name] for name in order], col_max=_WIDEST_OPTION)


class LaterCommand(SectionedCommand):
    """A verb on a run: its help leaves out what a run keeps, which is parsed to be refused in words."""

    def left_out(self) -> frozenset[str]:
        """Options that change what is sent; of a redrive those too that are said of a whole run."""
        from fanout.commands.options import KEPT_ON_RESUME, OF_WHOLE_RUNS

        return KEPT_ON_RESUME | OF_WHOLE_RUNS if self.name == "redrive" else KEPT_ON_RESUME
