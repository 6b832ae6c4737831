"""Make orders.jsonl: 1,000 orders of a web shop, a dozen of them wrong. The same ones every time.

python examples/make_orders.py > examples/orders.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

RECORDS = 1_000
SEED = 20_260_115

# seq -> what is wrong with that order
FAULTS = {
    **dict.fromkeys((41, 187, 402, 640, 913), "unknown currency"),
    **dict.fromkeys((96, 333, 578, 871), "negative quantity"),
    **dict.fromkeys((259, 511, 760), "no address"),
}

CUSTOMERS = [
    ("C-1001", "Ana Sánchez", "ES"),
    ("C-1002", "Jürgen Weiß", "DE"),
    ("C-1003", "Zoë Brontë", "GB"),
    ("C-1004", "Łukasz Wójcik", "PL"),
    ("C-1005", "山田 花子", "JP"),
    ("C-1006", "Nguyễn Thị Mai", "VN"),
    ("C-1007", "Chloé Lefèvre", "FR"),
    ("C-1008", "Oisín Ó Súilleabháin", "IE"),
    ("C-1009", "Γιώργος Παπαδόπουλος", "GR"),
    ("C-1010", "Amara Okafor", "NG"),
    ("C-1011", "Sigríður Jónsdóttir", "IS"),
    ("C-1012", "Liam O'Brien", "US"),
]
PLACES = {
    "ES": ("Calle de Alcalá 48", "Madrid", "28014"),
    "DE": ("Lange Straße 7", "Köln", "50667"),
    "GB": ("12 Saint Mary's Rd", "London", "W5 5RA"),
    "PL": ("ul. Świętokrzyska 30", "Warszawa", "00-116"),
    "JP": ("中央区銀座 4-6-16", "東京", "104-0061"),
    "VN": ("36 Hàng Bạc", "Hà Nội", "100000"),
    "FR": ("3 rue de l'Église", "Orléans", "45000"),
    "IE": ("1 Sráid Uí Chonaill", "Baile Átha Cliath", "D01 F5P2"),
    "GR": ("Ερμού 15", "Αθήνα", "105 63"),
    "NG": ("22 Adeola Odeku St", "Lagos", "101241"),
    "IS": ("Laugavegur 77", "Reykjavík", "101"),
    "US": ("500 E 4th St, Apt 3B", "Austin, TX", "78701"),
}
CURRENCIES = ["EUR", "EUR", "EUR", "USD", "USD", "GBP", "JPY", "PLN"]
GOODS = [
    ("MUG-BLK-03", 12.9),
    ("TEE-L-NAVY", 24.0),
    ("BOOK-0441", 18.75),
    ("CABLE-USBC-2M", 9.49),
    ("LAMP-OAK", 89.0),
    ("SOCKS-5P", 14.95),
    ("NOTE-A5-DOT", 7.2),
    ("CHAIR-ERGO", 349.0),
    ("TEA-EG-250", 11.6),
    ("STICKER", 0.99),
]
NOTES = [
    "Please leave it with the neighbours at no. 9.",
    "Geschenk 🎁: bitte ohne Rechnung",
    "門の前に置いてください",
    'The bell reads "Brontë & Sons"',
    "Line one\nLine two",
    "No nuts, please!",
    "",
]


def orders() -> Iterator[dict[str, Any]]:
    """The orders, each as it would come out of a shop's database."""
    rng = random.Random(SEED)
    placed_at = datetime(2026, 1, 14, tzinfo=UTC)
    for seq in range(RECORDS):
        customer, name, country = rng.choice(CUSTOMERS)
        street, city, postcode = PLACES[country]
        placed_at += timedelta(seconds=rng.uniform(5, 160))
        order: dict[str, Any] = {
            "id": f"order-{seq + 10_001}",
            "placed_at": placed_at.isoformat(timespec="seconds"),
            "customer": {"id": customer, "name": name},
            "currency": rng.choice(CURRENCIES),
            "items": [
                {"sku": sku, "quantity": rng.choice([1, 1, 1, 2, 2, 3, 6, 12]), "price": price}
                for sku, price in rng.sample(GOODS, rng.randint(1, 5))
            ],
            "shipping_address": {"street": street, "city": city, "postcode": postcode, "country": country},
        }
        if rng.random() < 0.4:
            order["note"] = rng.choice(NOTES)
        if rng.random() < 0.15:
            order["coupon"] = rng.choice(["WELCOME10", "WINTER25"])
        yield _spoilt(order, FAULTS.get(seq))


def _spoilt(order: dict[str, Any], fault: str | None) -> dict[str, Any]:
    if fault == "unknown currency":
        order["currency"] = "DOGE"
    elif fault == "negative quantity":
        order["items"][0]["quantity"] = -1
    elif fault == "no address":
        del order["shipping_address"]
    return order


if __name__ == "__main__":
    for order in orders():
        sys.stdout.write(json.dumps(order, ensure_ascii=False) + "\n")
