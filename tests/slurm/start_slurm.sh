#!/bin/sh
# A real SLURM on this one machine (Debian, as root): installs it, starts it, waits until its node is idle.
#
#   sh tests/slurm/start_slurm.sh          then   export SLURM_CONF=/tmp/nsdflow-slurm/slurm.conf
#   sh tests/slurm/stop_slurm.sh           or, for one command:   sh tests/slurm/with_slurm.sh sinfo
#
# All files are in one folder (NSDFLOW_SLURM, default /tmp/nsdflow-slurm); the machine's own /etc/slurm is not touched.
# The node pretends to have two GPUs: SLURM hands them out as 0 and 1 in CUDA_VISIBLE_DEVICES.
set -eu

here=$(dirname "$0")
node=$(hostname -s)
. "$here/settings.sh"

if [ "$(id -u)" != 0 ]; then
    echo "starting a SLURM takes root, and you are $(id -un)" >&2
    exit 1
fi
if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
    if ! command -v apt-get >/dev/null; then
        echo "no slurmctld, slurmd and munged here, and no apt-get to install them with" >&2
        exit 1
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi
if answers; then
    echo "SLURM runs already; export SLURM_CONF=$SLURM_CONF"
    exit 0
fi
sh "$here/stop_slurm.sh" # daemons that run but do not answer
rm -rf "$folder"
mkdir -p "$folder/state" "$folder/spool" "$folder/log"

if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    mkdir -p /run/munge
    chown munge: /run/munge
    runuser -u munge -- /usr/sbin/munged --force 2>"$folder/log/munged.log"
    touch "$folder/munged-is-ours"
fi

cpus=$(nproc)
memory=$(awk '/MemTotal/ { printf "%d", $2 / 1024 * 0.9 }' /proc/meminfo)
cat >"$SLURM_CONF" <<CONF
ClusterName=nsdflow
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
GresTypes=gpu
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=$node Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
CONF
echo "NodeName=$node Name=gpu File=/dev/null,/dev/zero" >"$folder/gres.conf"

slurmctld
for _ in $(seq 100); do # a slurmd that is there first waits for a quarter of a minute before it tries again
    scontrol ping 2>/dev/null | grep -q UP && break
    sleep 0.1
done
slurmd
for _ in $(seq 120); do
    if sinfo --noheader --format %t 2>/dev/null | grep -q -x -e idle -e mix -e alloc; then
        echo "SLURM runs; export SLURM_CONF=$SLURM_CONF"
        exit 0
    fi
    sleep 0.5
done
echo "SLURM did not come up within 60 s; its logs in $folder/log end:" >&2
tail -n 5 "$folder"/log/*.log >&2
exit 1
