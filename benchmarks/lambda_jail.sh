#!/bin/sh
# Runs AWS's runtime client as Lambda does: code in a place that cannot be written, /tmp alone can, little
# memory, no file of whoever builds it. $1 is the Python, $2 the code's folder, mounted at /opt.
exec unshare --mount --propagation private sh -ec '
mount --bind "$2" /opt
mount --bind /dev/null /etc/machine-id 2>/dev/null || true
mount -o remount,bind,ro /
mount -o remount,bind,ro /opt
mount -t tmpfs -o size=64m,mode=1777 tmpfs /tmp
cd /opt
export HOME=/nowhere LAMBDA_TASK_ROOT=/opt PYTHONPATH=/opt PYTHONDONTWRITEBYTECODE= PYTHONSAFEPATH=
unset VIRTUAL_ENV
ulimit -d 131072
exec "$1" -m awslambdaric "$_HANDLER"
' jail "$1" "$2"
