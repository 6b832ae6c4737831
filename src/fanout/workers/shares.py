"""The division of a budget among workers: max-min fair, by what each can use."""

from __future__ import annotations

from collections.abc import Container, Sequence


def fair_shares(total: float, demands: Sequence[float]) -> list[float]:
    """Give everybody what it can use, or an equal share of what is left; divide the rest equally.

    No one gets less than another that asks for no more (max-min fairness: Bertsekas and Gallager,
    *Data Networks*, 6.5). The shares add up to ``total``, unless there are no demands.
    """
    shares = [0.0] * len(demands)
    left = max(0.0, total)
    order = sorted(range(len(demands)), key=lambda number: demands[number])
    for place, number in enumerate(order):
        shares[number] = min(demands[number], left / (len(order) - place))
        left -= shares[number]
    if order and left > 0:
        shares = [share + left / len(order) for share in shares]
    return shares


def fair_counts(total: int, demands: Sequence[int], at_work: Container[int] = ()) -> list[int]:
    """As ``fair_shares``, in whole numbers that add up to ``total``.

    The odd ones go to the first that can use more: to those ``at_work`` before all others.
    """
    shares = fair_shares(total, demands)
    counts = [int(share) for share in shares]
    left = max(0, total) - sum(counts) if counts else 0
    unmet = [number for number, demand in enumerate(demands) if counts[number] < demand]
    unmet.sort(key=lambda number: number not in at_work)
    for number in [*unmet, *range(len(counts))]:
        if left <= 0:
            break
        counts[number] += 1
        left -= 1
    return counts
