#!/bin/bash
# Trains one model on several machines without SLURM. Start it on every machine, each with its own NODE (0, 1, ...).
# HEAD is the address of machine 0 in the private network.
#   HEAD=10.0.0.1 NODES=2 NODE=0 EACH=4 examples/cluster/torchrun.sh
set -euo pipefail
export SENSORIUM_CACHE="${SENSORIUM_CACHE:-$PWD/cache}"
export OMP_NUM_THREADS=1

exec python -m torch.distributed.run \
    --nnodes "${NODES:-1}" --node_rank "${NODE:-0}" --nproc_per_node "${EACH:-2}" \
    --master_addr "${HEAD:-127.0.0.1}" --master_port "${PORT:-29500}" \
    -m sensorium fit "${TABLE:-train.csv}" --target "${TARGET:-label}" --out "${OUT:-run}" --resume "$@"
