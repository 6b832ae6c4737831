# %% [markdown]
# # Orders, priced from a notebook
#
# Open this file in an editor that knows `# %%` cells, or run it as a script. First, in a terminal:
#
#     fanout emulate examples/handler.py:handler --name price-order --concurrency 20
#
# and the settings that lead there (leave them out for a function on AWS):
#
#     export AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:9001 AWS_REGION=us-east-1
#     export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local

# %%
import json
from collections import Counter
from pathlib import Path

import fanout

lines = Path(__file__).with_name("orders.jsonl").read_text(encoding="utf-8").splitlines()
orders = [json.loads(line) for line in lines[:200]]
print(f"{len(orders)} orders, in {sorted({order['currency'] for order in orders})}")

# %% [markdown]
# `fanout.run` blocks until every order has its outcome. In a notebook, whose event loop is running
# already, it works in a thread of its own.

# %%
outcomes: list[fanout.Outcome] = []
report = fanout.run("price-order", orders, on_outcome=outcomes.append)
report  # noqa: B018 - a notebook shows it as a table

# %%
print(report.render())

# %% [markdown]
# Outcomes come as calls finish; `seq` says which order each belongs to.

# %%
totals: Counter[str] = Counter()
for outcome in outcomes:
    if outcome.ok:
        totals[orders[outcome.seq]["shipping_address"]["country"]] += outcome.output["total_eur"]
for country, total in totals.most_common():
    print(f"{country}  {total:10,.2f} EUR")

# %%
for outcome in outcomes:
    if outcome.error is not None:
        print(f"{orders[outcome.seq]['id']}: {outcome.status}: {outcome.error.type}: {outcome.error.message}")
