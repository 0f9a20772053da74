#!/usr/bin/env bash
# A Slurm of one node, from Debian's packages, and what is to be run on it:
#
#     tests/slurm/one_node.sh [COMMAND ...]      (default: Table 1 in the smoke profile)
#
# For trying the launcher out, as root in a container of Debian or Ubuntu; no part of CI. The
# daemons end with the script, the packages stay. There is no accounting database, as on some real
# clusters, so sacct knows nothing.
set -euo pipefail
if [ $# -eq 0 ]; then
    set -- "$(dirname "$0")/../../.venv/bin/b2inst" table table1 --profile smoke --launcher slurm --no-notebook
fi

if ! command -v slurmctld munged >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends slurm-wlm munge >/dev/null
fi

folder=$(mktemp -d)
export SLURM_CONF=$folder/slurm.conf
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
# A container's root has no control groups of its own to keep processes in.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$(nproc --all) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF

stop() {
    scancel --user root 2>/dev/null || true
    sleep 2
    for pid in "$folder"/slurm{d,ctld}.pid /run/munge/munged.pid; do
        if [ -f "$pid" ]; then kill "$(cat "$pid")" || true; fi
    done
}
trap stop EXIT

install -d -o munge -g munge -m 755 /run/munge
runuser -u munge -- munged
slurmctld
slurmd
for _ in $(seq 60); do
    if [ "$(sinfo --noheader --format=%t)" = idle ]; then break; fi
    sleep 1
done
sinfo
"$@"
