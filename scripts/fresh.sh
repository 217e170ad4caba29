#!/usr/bin/env bash
# What a stranger gets. The two commands of README.md, as they are printed there, in a clean clone with nothing beside
# it: once as it is, once with the package taken from a wheel. The environment is empty: a new HOME without anybody's
# caches, no variables but PATH, those of pip and npm, and those of proxies. What the commands make is verified and used.
# Arguments go to the second command, so to pytest: ./scripts/fresh.sh -m 'not slow'
# PYTHON=/path/to/python3.12 chooses the Python, KEEP=yes leaves the folder there.
set -euo pipefail
checkout=$(cd "$(dirname "$0")/.." && pwd)
# The interpreter itself: what stands on PATH may be a shim that looks for its settings in HOME.
python=$("${PYTHON:-python3}" -c 'import os, sys; print(os.path.realpath(sys.executable))')
work=$(mktemp -d "${TMPDIR:-/tmp}/mbn-fresh-XXXXXX")
[ "${KEEP:-}" = yes ] || trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # tests look from other users' side, too
mkdir "$work/home" "$work/tmp"
mapfile -t kept < <(env | grep -E '^(PIP_[A-Z_]+|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY|SSL_CERT_FILE|NODE_EXTRA_CA_CERTS|npm_config_[a-z_]+|MBN_[A-Z]+)=' || true)
failed=0

fresh() {
    env -i "${kept[@]}" HOME="$work/home" TMPDIR="$work/tmp" LANG=C.UTF-8 PYTHON="$python" \
        PATH="$(dirname "$python"):$PATH" "$@"
}

step() { # NAME COMMAND...: says how long it took; the end of what was said where it failed
    local name=$1 start=$SECONDS code=0
    shift
    fresh "$@" </dev/null >"$work/out" 2>"$work/err" || code=$?
    printf '%-58s %4d s  %s\n' "$name" $((SECONDS - start)) "$([ $code = 0 ] && echo ok || echo "exit code $code")"
    if [ $code != 0 ]; then
        failed=1
        tail -n 40 "$work/err" "$work/out" >&2
    fi
}

size() { printf '%-58s %6s\n' "$1" "$(du -sh --apparent-size "$2" | cut -f1)"; }

commands_of() { # what README.md prints; there are two
    sed -nE 's/^    (\.\/scripts\/[a-z_]+\.sh) .*/\1/p' "$1/README.md" | head -n 2
}

use() { # FOLDER: what the demo made there is verified, and what it says a person would type is typed
    local program=$1/.venv/bin/mbn-deploy bundle line
    for bundle in "$1"/demo-output/mobilenet_*; do
        step "verify $(basename "$bundle")" "$program" verify "$bundle"
        size "$(basename "$bundle")" "$bundle"
    done
    while read -r line; do
        step "$line" bash -c "cd '$1' && $line"
    done < <(sed -nE 's/^  (\S*mbn-deploy .*)/\1/p' "$work/demo.err")
    for bundle in "$1"/demo-output/mobilenet_*; do # a held-back digit lies in the folder of its name
        step "$(basename "$bundle") knows a 7" bash -c "
            '$program' run '$bundle' \"\$(ls -d '$1'/demo-output/digits/held-back/7/* | head -n 1)\" --top-k 1 --json |
            grep -E '^ *\"label\": \"7\"'"
    done
}

both() { # FOLDER [ARGUMENT...]
    local folder=$1 demo tests
    shift
    { read -r demo; read -r tests; } < <(commands_of "$folder")
    step "$demo" bash -c "cd '$folder' && $demo"
    cp "$work/err" "$work/demo.err"
    use "$folder"
    step "$tests $*" bash -c "cd '$folder' && $tests \"\$@\"" bash "$@"
    tail -n 1 "$work/out"
    size "its .venv" "$folder/.venv/"
}

clone() { git clone --quiet --no-hardlinks "$checkout" "$1"; }

echo "$("$python" --version), $(fresh "$python" -m pip --version | cut -d' ' -f1-2), commit $(git -C "$checkout" rev-parse --short HEAD)"
[ -z "$(git -C "$checkout" status --porcelain)" ] || echo "what is not committed is not tried" >&2

echo "From a clone"
clone "$work/clone/mbn-deploy"
both "$work/clone/mbn-deploy" "$@"
"$work/clone/mbn-deploy/.venv/bin/python" -m pip list --format freeze |
    grep -E '^(tensorflow|keras|numpy|pillow|typer|onnx|onnxruntime|ai-edge-litert)[-_a-z]*==' | tr '\n' ' '
echo
rm -rf "$work/clone"

echo "From a wheel, its environment outside of the clone"
there=$work/wheel/mbn-deploy
clone "$there"
step "the wheel" "$python" -m pip wheel --quiet --no-deps --wheel-dir "$work" "$there"
wheel=$(echo "$work"/*.whl)
size "$(basename "$wheel")" "$wheel"
step "an environment" bash -c "'$python' -m venv '$work/venv' && cd '$there' &&
    '$work/venv/bin/python' -m pip install --quiet --upgrade 'pip>=25.1' &&
    '$work/venv/bin/python' -m pip install --quiet '$wheel[export,serve]' --group test"
# The clone has no package of its own any more, and takes the environment as made.
rm -rf "$there/mbn_deploy" "$there/build" "$there"/*.egg-info
ln -s "$work/venv" "$there/.venv"
ln -s "$(fresh "$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mbn_deploy" "$there/mbn_deploy"
cp "$there/pyproject.toml" "$work/venv/.installed-for"
both "$there" "$@"

echo "Left behind in HOME and in the folder for temporary files:"
find "$work/home" "$work/tmp" -type f | sed "s|$work/||" | head -n 20
[ $failed = 0 ] || echo "something is wrong (above)" >&2
exit $failed
