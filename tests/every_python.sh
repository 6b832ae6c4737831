#!/bin/sh
# Run the suite on every Python from 3.11 to 3.14 that this machine has, each in a virtual environment of its own.
#
#     sh tests/every_python.sh [pytest arguments]
#
# Looks on PATH and under ~/.pyenv/versions. One line for each version says what became of it; the exit code is 1
# if the suite failed on any, or there is none.
set -u
cd "$(dirname "$0")/.." || exit 1

works() { # is "$1" a Python $2 that starts? (a shim of a version that is not chosen does not)
    [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$2" ]
}

find_python() { # a Python $1, or nothing
    candidate=$(command -v "python$1" 2>/dev/null)
    if [ -n "$candidate" ] && works "$candidate" "$1"; then
        echo "$candidate"
        return
    fi
    for candidate in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        if [ -x "$candidate" ] && works "$candidate" "$1"; then
            echo "$candidate"
            return
        fi
    done
}

found=0 failed=0 report=""
for version in 3.11 3.12 3.13 3.14; do
    python=$(find_python "$version")
    if [ -z "$python" ]; then
        report="$report
Python $version: not on this machine"
        continue
    fi
    found=$((found + 1))
    echo "Python $version: $python"
    if ! make --no-print-directory ".venv-$version/.installed" VENV=".venv-$version" PYTHON="$python"; then
        report="$report
Python $version: FAILED to install"
        failed=$((failed + 1))
        continue
    fi
    # pandas, polars and DuckDB may not be there yet for the newest Python: their tests are skipped then.
    make --no-print-directory ".venv-$version/.installed-frames" VENV=".venv-$version" PYTHON="$python" ||
        echo "Python $version: without data frames"
    if ".venv-$version/bin/python" -m pytest -q "$@"; then
        report="$report
Python $version: passed"
    else
        report="$report
Python $version: FAILED"
        failed=$((failed + 1))
    fi
done
echo "$report"
[ "$found" -gt 0 ] && [ "$failed" -eq 0 ]
