# Sourced by the tasks' run.sh, with $task set: goes to the project's root, installs what is missing, builds, fetches the task's data.
# Afterwards: $train, $dsrt, $work (for all tasks), $out (for this one), $precision (arguments of train).
set -eu
cd "$(dirname "$0")/../../.."
work=examples/work/tasks
out=$work/$task
say() { printf '\n== %s\n' "$*"; }

say "Packages"
sh tests/deps.sh python3-pip unzip
echo "all there"

say "Building"
mkdir -p "$work"
cmake --preset release >/dev/null
cmake --build --preset release --target train dsrt_command >"$work/build.log" 2>&1 || { tail -n 40 "$work/build.log"; exit 1; }
train=build/release/examples/train
dsrt=build/release/bindings/cli/dsrt
if grep -qw avx512_bf16 /proc/cpuinfo; then PRECISION=${PRECISION:-bf16}; else PRECISION=${PRECISION:-f32}; fi
if [ "$PRECISION" = bf16 ]; then precision='bf16={"enabled": true}'; else precision='bf16={"enabled": false}'; fi

# A small GPT that has learned English from two dictionaries of computing, once for all tasks that begin with it: $work/english/model.
english() {
    say "Plain text"
    sh examples/tasks/fetch.sh text "$work"
    [ -d "$work/english/model" ] || "$train" examples/tasks/pretrain-finetune/pretrain.json --output "$work/english" --steps 2400 --eval-every 300 --title "English from two dictionaries" --add "$precision"
}

# The numbers of a scored model: title, then arguments of dsrt evaluate.
score() {
    say "$1"
    shift
    "$dsrt" evaluate "$@"
}
