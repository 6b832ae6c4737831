#!/bin/sh
# A scheduler, two workers and a run over them, on this machine. The settings of AWS are those of the shell.
#   sh examples/workers.sh my-function orders.jsonl
set -e
address=tcp://127.0.0.1:${PORT:-8786}
dask scheduler --host 127.0.0.1 --port "${PORT:-8786}" --no-dashboard 2>scheduler.log &
scheduler=$!
dask worker "$address" --nworkers 2 --nthreads 1 --no-dashboard 2>workers.log &
workers=$!
trap 'kill $workers $scheduler' EXIT
fanout run "$1" "$2" --scheduler "$address"
