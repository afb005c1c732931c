# What the scripts beside this one share.

export PATH="$PATH:/usr/sbin:/sbin" # where Debian has daemons
folder=${NSDFLOW_SLURM:-/tmp/nsdflow-slurm}
export SLURM_CONF="$folder/slurm.conf"

# pid_of NAME PIDFILE: the daemon's pid, if it runs; a pid file may be older than the machine's last start, so the name
# has to agree
pid_of() {
    pid=$(cat "$2" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && echo "$pid"
}

# answers: whether our SLURM does; where none listens, SLURM's own commands take ten seconds to say so
answers() {
    pid_of slurmctld "$folder/slurmctld.pid" >/dev/null && sinfo --noheader >/dev/null 2>&1
}
