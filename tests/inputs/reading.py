"""Reading a whole source, as the tests need it."""

from __future__ import annotations

from fanout.errors import SourceError
from fanout.inputs import Item, Source


async def read_all(source: Source) -> list[Item]:
    """Every item of a source, which is closed after."""
    items, failure = await read_until_failure(source)
    if failure is not None:
        raise failure
    return items


async def read_until_failure(source: Source) -> tuple[list[Item], SourceError | None]:
    """The items before the source failed, and how it failed."""
    items: list[Item] = []
    failure: SourceError | None = None
    try:
        async for batch in source.batches():
            assert batch, "a batch is never empty"
            items += batch
    except SourceError as error:
        failure = error
    finally:
        await source.aclose()
    return items, failure
