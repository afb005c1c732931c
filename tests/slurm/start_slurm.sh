#!/bin/sh
# A real SLURM on this one machine (Debian, as root): installs it, starts it, waits until its node is idle.
#
#   sh tests/slurm/start_slurm.sh          then   export SLURM_CONF=/tmp/nsdflow-slurm/slurm.conf
#   sh tests/slurm/stop_slurm.sh
#
# All files are in one folder (NSDFLOW_SLURM, default /tmp/nsdflow-slurm); the machine's own /etc/slurm is not touched.
# The node pretends to have two GPUs: SLURM hands them out as 0 and 1 in CUDA_VISIBLE_DEVICES.
set -eu

folder=${NSDFLOW_SLURM:-/tmp/nsdflow-slurm}
node=$(hostname -s)
export SLURM_CONF="$folder/slurm.conf"

if ! command -v slurmctld >/dev/null || ! command -v slurmd >/dev/null || ! command -v munged >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
fi
if [ -e "$SLURM_CONF" ] && sinfo --noheader >/dev/null 2>&1; then
    echo "SLURM runs already; export SLURM_CONF=$SLURM_CONF"
    exit 0
fi

if ! munge -n 2>/dev/null | unmunge >/dev/null 2>&1; then
    mkdir -p /run/munge
    chown munge: /run/munge
    runuser -u munge -- /usr/sbin/munged --force
fi

cpus=$(nproc)
memory=$(awk '/MemTotal/ { printf "%d", $2 / 1024 * 0.9 }' /proc/meminfo)
mkdir -p "$folder/state" "$folder/spool" "$folder/log"
cat >"$SLURM_CONF" <<CONF
ClusterName=nsdflow
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
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
PartitionName=debug Nodes=$node Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
CONF
echo "NodeName=$node Name=gpu File=/dev/null,/dev/zero" >"$folder/gres.conf"

slurmctld
slurmd
for _ in $(seq 60); do
    if sinfo --noheader --format %t 2>/dev/null | grep -q -x -e idle -e mix -e alloc; then
        echo "SLURM runs; export SLURM_CONF=$SLURM_CONF"
        exit 0
    fi
    sleep 0.5
done
echo "SLURM did not come up within 30 s; its logs are in $folder/log" >&2
exit 1
