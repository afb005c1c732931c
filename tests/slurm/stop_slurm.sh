#!/bin/sh
# Stops what start_slurm.sh started, jobs first, and waits until it is gone.
set -eu

. "$(dirname "$0")/settings.sh"

# stop NAME PIDFILE
stop() {
    pid=$(pid_of "$1" "$2") || return 0
    kill "$pid"
    for _ in $(seq 100); do
        [ -e "/proc/$pid" ] || return 0
        sleep 0.1
    done
    kill -9 "$pid"
}

if answers; then
    scancel --user "$(id -un)"
    for _ in $(seq 100); do
        [ -n "$(squeue --noheader)" ] || break
        sleep 0.1
    done
fi
stop slurmd "$folder/slurmd.pid"
stop slurmctld "$folder/slurmctld.pid"
if [ -e "$folder/munged-is-ours" ]; then
    stop munged /run/munge/munged.pid
    rm -f "$folder/munged-is-ours"
fi
