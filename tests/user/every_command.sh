#!/usr/bin/env bash
# Every command in the environment that a user gets (`pip install '.[hpc,s3]'`), from a folder of its own:
#   tests/user/every_command.sh BIN
# BIN is the folder of the environment's programs. A command that prints a traceback, or ends with another status than
# expected, is reported; the exit status is the number of such commands. The developers' environment holds more
# packages, so that its tests cannot see what is missing here.
set -uo pipefail
nsdflow=$(cd "$1" && pwd)/nsdflow
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export HOME=$folder COLUMNS=80 OMP_NUM_THREADS=2

passed=0 failed=0
expect() { # STATUS COMMAND...: run a command of nsdflow and compare its exit status
    local status=$1
    shift
    local output found
    output=$("$nsdflow" "$@" 2>&1 </dev/null)
    found=$?
    if [ "$found" != "$status" ] || grep -q 'Traceback' <<<"$output"; then
        failed=$((failed + 1))
        printf 'FAILED: nsdflow %s: exit status %s, expected %s\n%s\n' "$*" "$found" "$status" "$output"
    else
        passed=$((passed + 1))
        printf 'passed: nsdflow %s\n' "$*"
    fi
}

expect 0 --version
for command in $("$nsdflow" --help | sed -n 's/^[│|] \([a-z]\{1,\}\)  .*/\1/p'); do
    expect 0 "$command" --help
done
expect 0 synth nsd --subjects 1 --sessions 3 --trials 24 --shared 4 --image-size 32 --evc-voxels 20
expect 0 check nsd
expect 0 masks nsd masks
expect 0 ingest --source nsd --store nsd.zarr --image-size 32 --workers 1
expect 0 run gnet8j --store nsd.zarr --runs runs --dry-run
expect 0 run gnet8j --store nsd.zarr --runs runs --workers 1 \
    --set prefilter=gabor --set width=2 --set train.epochs=1 --set train.batch_size=12
expect 0 run gabor_fwrf --store nsd.zarr --runs runs --cluster threads \
    --set candidates.sizes=1 --set candidates.smallest=0.3 --set candidates.largest=0.3 --set lambdas=2
expect 0 status runs/gnet8j --once
expect 0 report runs/gnet8j
expect 0 export runs/gnet8j maps
expect 0 doctor
expect 2 run nothing --store nsd.zarr
expect 2 open
expect 2 check nowhere

# a section as an HPC user writes it; the site has no scheduler, so that only the plan of the jobs can be shown
mkdir -p "$HOME/.config/dask"
printf 'jobqueue:\n  slurm:\n    cores: 2\n    memory: 4GiB\n    walltime: "01:00:00"\n' >"$HOME/.config/dask/jobqueue.yaml"
output=$(PATH=$folder "$nsdflow" doctor --cluster slurm 2>&1 </dev/null)
if grep -q 'Traceback' <<<"$output" || ! grep -qi 'slurm' <<<"$output"; then
    failed=$((failed + 1))
    printf 'FAILED: nsdflow doctor --cluster slurm\n%s\n' "$output"
else
    passed=$((passed + 1))
fi

printf '%d passed, %d failed\n' "$passed" "$failed"
exit "$failed"
