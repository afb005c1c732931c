#!/bin/sh
# Stops what start_slurm.sh started (munged stays: others may use it).
set -eu

folder=${NSDFLOW_SLURM:-/tmp/nsdflow-slurm}
for daemon in slurmd slurmctld; do
    if [ -e "$folder/$daemon.pid" ]; then
        kill "$(cat "$folder/$daemon.pid")" 2>/dev/null || true
    fi
done
