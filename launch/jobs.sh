#!/bin/bash
# Shards of a run as jobs on GPUs of the Hugging Face hub, whose rows go to a bucket there.
#
#   launch/jobs.sh IMAGE hf://buckets/ME/runs 8 my.yaml             # eight jobs; needs `hf auth login`
#   FLAVOR=h200 TIMEOUT=12h launch/jobs.sh IMAGE hf://buckets/ME/runs 8 my.yaml
#   probe merge 'hf://buckets/ME/runs/my-run/*' --into results/my-run
#
# IMAGE is one that has probe, as launch/Dockerfile makes it. A job that fails is tried again, and goes on with
# what is in the bucket; so does the same command later. DRY=--dry-run shows what would be started.
set -euo pipefail
if [ "$#" -lt 4 ]; then
  echo "usage: launch/jobs.sh IMAGE ADDRESS SHARDS CONFIG [OPTION …]" >&2
  exit 2
fi
image=$1 address=$2 shards=$3 config=$4
shift 4
text=$(base64 -w 0 "$config")
for ((index = 0; index < shards; index++)); do
  hf jobs run --detach ${DRY:-} --flavor "${FLAVOR:-a10g-large}" --timeout "${TIMEOUT:-6h}" --attempts 3 \
    --secrets HF_TOKEN --env CONFIG="$text" --label probe="$(basename "$config" .yaml)" "$image" \
    bash -c 'echo "$CONFIG" | base64 -d > run.yaml && exec probe run run.yaml "$@"' probe \
    --results "$address" --shard "$index/$shards" "$@"
done
