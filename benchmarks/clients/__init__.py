"""What people write when they write it themselves, and what fanout is compared with.

Each client is a program: ``python -m benchmarks.clients.NAME FILE CONCURRENCY ENDPOINT_URL``. It invokes
``lab-100000`` once for each line of FILE and prints how many calls succeeded and how long they took.
"""
