#!/bin/bash
# A run on a Slurm cluster: each task of the array scores its shard into one folder that all nodes see.
#
#   sbatch --array=0-63 launch/slurm.sh my.yaml
#   sbatch --array=0-63 launch/slurm.sh my.yaml --results /shared/runs
#
# The same command goes on where tasks died. Whichever finishes last prints the answer.
#SBATCH --job-name=probe
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus=1
#SBATCH --mem=64G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=probe-%A-%a.log

set -euo pipefail
if [ "$#" -lt 1 ]; then
  echo "usage: sbatch --array=0-63 launch/slurm.sh CONFIG [OPTION …]" >&2
  exit 2
fi
exec probe run "$@" --shard auto
