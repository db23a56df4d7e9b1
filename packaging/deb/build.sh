#!/bin/sh
# Build the Debian package from the wheel that packaging/wheel.sh has made: ./run package deb
#
# It has an environment of its own, /usr/lib/fastun: a venv that needs nothing made at installation,
# since its lib/python3.11 … lib/python3.14 are one directory, in which each Python finds the compiled
# modules that have its name. So one package is for Debian 12 and 13 and Ubuntu 22.04 and later.
#
#     packaging/deb/build.sh      the package and the list of its contents are in dist/
set -eu
umask 022

here=$(cd "$(dirname "$0")/../.." && pwd)
work=$here/.package/deb
tree=$work/tree
own=$tree/usr/lib/fastun
packages=$own/lib/python3/site-packages
pythons="3.11 3.12 3.13 3.14"
python=$here/.venv/bin/python
SOURCE_DATE_EPOCH=$(git -C "$here" log -1 --format=%ct)
export SOURCE_DATE_EPOCH

say() { echo "package: $*" >&2; }
die() { say "$*"; exit 1; }
fastun() { PYTHONPATH=$here "$python" -m fastun "$@"; }

# The pinned dependencies' wheels, for each Python.
wheels() {
    for each in $pythons; do
        "$python" -m pip -qq download --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
            --implementation cp --python-version "$each" --platform manylinux2014_x86_64 \
            --platform manylinux_2_28_x86_64 --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 \
            --dest "$here/.package/wheels" -r "$here/packaging/runtime.txt" || return 1
    done
}

# unpack WHEEL: its modules; what several Pythons have in common must be the same.
unpack() {
    rm -rf "$work/one"
    "$python" -m zipfile -e "$1" "$work/one"
    rm -f "$work/one"/*.dist-info/RECORD # it lists one Python's files
    (cd "$work/one" && find . -type f ! -path '*.dist-info/*' ) | while read -r file; do
        [ ! -e "$packages/$file" ] || cmp -s "$work/one/$file" "$packages/$file" ||
            die "$file is not the same in all wheels of $(basename "$1")"
    done
    cp -a "$work/one/." "$packages/"
}

# The venv, the command and the manual pages.
environment() {
    mkdir -p "$packages" "$own/bin" "$tree/usr/bin"
    for wheel in "$here"/dist/fastun-"$version"-*manylinux*.whl "$here"/.package/wheels/*.whl; do unpack "$wheel"; done
    cp -a "$packages"/fastun-*.data/data/share "$own/"
    rm -rf "$packages"/*.data
    mkdir -p "$tree/usr/share"
    mv "$own/share/man" "$tree/usr/share/man"
    find "$tree" -type f -exec chmod 644 {} +
    for each in $pythons; do ln -s python3 "$own/lib/python$each"; done
    printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$own/pyvenv.cfg"
    ln -s /usr/bin/python3 "$own/bin/python3"
    install -m 755 "$here/packaging/deb/fastun" "$own/bin/fastun"
    ln -s ../lib/fastun/bin/fastun "$tree/usr/bin/fastun"
    install -m 755 "$here/packaging/deb/prepare" "$own/prepare"
    install -D -m 755 "$here/packaging/deb/rtupdate" "$tree/usr/share/python3/runtime.d/fastun.rtupdate"
}

completions() {
    mkdir -p "$tree/usr/share/bash-completion/completions" "$tree/usr/share/zsh/vendor-completions" \
        "$tree/usr/share/fish/vendor_completions.d"
    fastun completion bash >"$tree/usr/share/bash-completion/completions/fastun"
    fastun completion zsh >"$tree/usr/share/zsh/vendor-completions/_fastun"
    fastun completion fish >"$tree/usr/share/fish/vendor_completions.d/fastun.fish"
}

# The units, their user, and its rights.
units() {
    fastun install-service --package "$tree" --command /usr/lib/fastun/bin/fastun >/dev/null
}

has_debhelper() { command -v dh >/dev/null && command -v dpkg-buildpackage >/dev/null; }

version=$("$python" -c 'import fastun; print(fastun.__version__)')
"$here/packaging/wheel.sh"
has_debhelper || die "debhelper is missing; install it with: apt-get install debhelper"
rm -rf "$work" "$here/.package/wheels"
mkdir -p "$tree"
say "fetching the wheels of what fastun needs, for Python $pythons"
wheels || die "that failed; see above"
environment
completions
units
"$here/.package/tools/bin/python" "$here/packaging/sbom.py" "$packages" "$here/.package/libraries" \
    "$work/sbom.cdx.json"
cp -a "$here/packaging/deb/debian" "$work/debian"
cp "$here/fastun/service/fastun.sysusers" "$here/fastun/service/fastun.tmpfiles" "$work/debian/"
cp "$here/CHANGELOG.md" "$work/"
printf 'fastun (%s-1) stable; urgency=medium\n\n  * See /usr/share/doc/fastun/CHANGELOG.md.\n\n -- %s  %s\n' "$version" \
    "The fastun authors <maintainers@fastun.example>" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" >"$work/debian/changelog"
say "building the package"
find "$work" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
(cd "$work" && dpkg-buildpackage -b -us -uc -tc) >"$here/.package/deb.log" 2>&1 ||
    die "that failed; see .package/deb.log"
mkdir -p "$here/dist"
rm -f "$here"/dist/fastun_*
mv "$here/.package/fastun_${version}-1_amd64.deb" "$here/dist/"
cp "$work/sbom.cdx.json" "$here/dist/fastun_${version}-1_amd64.cdx.json"
echo "$here/dist/fastun_${version}-1_amd64.deb"
