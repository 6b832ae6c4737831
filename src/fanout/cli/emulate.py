"""``fanout emulate``: serve functions on this machine."""

from __future__ import annotations

from typing import Any

import click

from fanout.emulator.options import OPTIONS, settings_from, split_command

_EPILOG = """\b
Examples:
  1. Serve a handler; at most ten calls at once, the eleventh is throttled:
       fanout emulate app.py:handler --concurrency 10
  2. Call it with the AWS CLI:
       aws lambda invoke --endpoint-url http://127.0.0.1:9001 --function-name app /dev/stdout
  3. Rehearse against a function that is slow at times and fails at times:
       fanout emulate --simulate 'name=orders,latency=lognormal(100ms,2s),error_rate=1%'
  4. A function whose replies get lost in one call of a hundred, while it runs on:
       fanout emulate --simulate 'latency=50ms,lost_rate=0.01,runs_on=3s' --concurrency 50
  5. Run AWS's own runtime client, or any other:
       fanout emulate app.py:handler --bootstrap 'python -m awslambdaric app.handler'
  6. Run a command against it; the emulator ends with it, and so does the exit code:
       fanout emulate app.py:handler -- python script.py
  7. See what it counted:
       curl http://127.0.0.1:9001/_fanout/stats
"""
_COMMAND = "fanout.emulate.command"


def _decorate(function: Any) -> Any:
    for option in reversed(OPTIONS):
        if option.kind is bool:
            add = click.option(option.flag, option.name, is_flag=True, help=option.help)
        else:
            add = click.option(
                option.flag,
                option.name,
                type=option.kind,
                default=None if option.is_repeatable else option.default,
                multiple=option.is_repeatable,
                metavar=option.metavar,
                help=option.help,
            )
        function = add(function)
    return function


class _Emulate(click.Command):
    """Keeps what stands behind ``--`` for the command: click would take its first word for the handler."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, ctx.meta[_COMMAND] = split_command(args)
        return super().parse_args(ctx, own)


@click.command("emulate", cls=_Emulate, epilog=_EPILOG, options_metavar="[OPTIONS]")
@click.argument("handler", metavar="[FILE.py:HANDLER]", required=False)
@_decorate
@click.pass_context
def command(ctx: click.Context, /, **values: Any) -> int:
    """Lambda on this machine: serve FILE.py:HANDLER, or simulated functions, to any SDK.

    With -- COMMAND [ARGUMENT…] at the end: run COMMAND, whose Lambda calls come here, and end with it.

    Handlers run in real processes, one call at a time each, with cold starts, timeouts and limits as
    on Lambda. For learning, tests and rehearsing a batch: it is not a sandbox, and listens on loopback only.
    """
    settings = settings_from(values, ctx.meta[_COMMAND])
    from fanout.emulator.server import serve

    return serve(settings)
