#!/usr/bin/env bash
# A Slurm on this machine, from Debian's packages, and what is to be run on it:
#
#     [NODES=1] tests/slurm/local_cluster.sh [COMMAND ...]     (default: Table 1, smoke profile)
#
# For trying the launcher out, as root in a container of Debian or Ubuntu; no part of CI. Several
# nodes all are this machine, under names of their own. The daemons end with the script; packages
# and names stay. There is no accounting database, as on some real clusters: sacct knows nothing.
set -euo pipefail
if [ $# -eq 0 ]; then
    set -- "$(dirname "$0")/../../.venv/bin/b2inst" table table1 --profile smoke \
        --launcher slurm --no-notebook
fi
nodes=$(seq --format 'node%g' "${NODES:-1}")

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
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/%n
# A container's root has no control groups of its own to keep processes in.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdParameters=config_overrides
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
port=17000
for node in $nodes; do
    port=$((port + 1))
    where="NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=$port"
    echo "NodeName=$node $where CPUs=$(nproc --all) State=UNKNOWN" >>"$SLURM_CONF"
    grep -qw "$node" /etc/hosts || echo "127.0.0.1 $node" >>/etc/hosts
done

stop() {
    scancel --user root 2>/dev/null || true
    sleep 2
    for pid in "$folder"/*.pid /run/munge/munged.pid; do
        if [ -f "$pid" ]; then kill "$(cat "$pid")" || true; fi
    done
}
trap stop EXIT

install -d -o munge -g munge -m 755 /run/munge
runuser -u munge -- munged
slurmctld
for node in $nodes; do slurmd -N "$node"; done
for _ in $(seq 60); do
    if [ "$(sinfo --noheader --format=%t)" = idle ]; then break; fi
    sleep 1
done
sinfo
"$@"
