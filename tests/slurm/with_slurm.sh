#!/bin/sh
# with_slurm.sh COMMAND...: runs a command beside the SLURM of start_slurm.sh, and stops that SLURM if it did not run
# before. The exit status is the command's; 77 (as automake has it) if there can be no SLURM on this machine.
set -eu

here=$(dirname "$0")
. "$here/settings.sh"

if ! answers; then
    trap 'sh "$here/stop_slurm.sh"' EXIT
    trap 'exit 130' INT TERM
    sh "$here/start_slurm.sh" || exit 77
fi
"$@"
