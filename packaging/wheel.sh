#!/bin/sh
# Build the wheel that runs on any x86-64 Linux with glibc 2.28 or later: ./run package wheel
#
# The compiler is zig's (clang with glibc's symbols by version, from PyPI), since what a host's own
# compiler makes needs a glibc as new as that host's. libgcrypt is built with it and comes inside the
# wheel (auditwheel); intel-ipsec-mb is only looked for at run time, so its header is enough.
#
# The same commit gives the same bytes, in whatever directory: tools of pinned versions, the commit's
# time, nothing compiled with the name of this directory, and no symbols, which would have it.
#
#     packaging/wheel.sh [PYTHON]      the wheel and the list of its contents are in dist/; what it is
#                                      made with in .package/
set -eu
umask 022

here=$(cd "$(dirname "$0")/.." && pwd)
work=$here/.package
python=${1:-$here/.venv/bin/python}
debian=http://deb.debian.org/debian/pool/main
glibc=2.28

say() { echo "package: $*" >&2; }
die() { say "$*"; exit 1; }

# fetch URL SHA256: a file of this name in $work, fetched once, checked each time.
fetch() {
    file=$work/$(basename "$1")
    [ -f "$file" ] || { say "fetching $(basename "$1")"; curl -sSf -o "$file.new" "$1" && mv "$file.new" "$file"; } ||
        die "$1 cannot be fetched"
    echo "$2  $file" | sha256sum --check --quiet || die "$file is not what it should be; remove it and try again"
}

# The tools, in a virtual environment of their own.
tools() {
    cmp -s "$here/packaging/tools.txt" "$work/tools/made-of" && return 0
    say "installing zig, build and auditwheel into .package/tools"
    "$python" -m venv --clear "$work/tools"
    "$work/tools/bin/pip" -q install --disable-pip-version-check -r "$here/packaging/tools.txt"
    cp "$here/packaging/tools.txt" "$work/tools/made-of"
}

# build_library NAME VERSION PARTS SOURCE SHA256 [OPTION...]: with configure and make, into $root.
build_library() {
    name=$1 version=$2 parts=$3 source=$4 sum=$5
    shift 5
    echo "$name $version LGPL-2.1-or-later $source $sum" >>"$work/libraries"
    [ -e "$root/$name-$version.built" ] && return 0
    fetch "$source" "$sum"
    say "building $name $version for glibc $glibc (a minute or two)"
    rm -rf "${work:?}/$name-$version"
    tar -C "$work" -xf "$work/$(basename "$source")"
    # configure's probes call what they do not declare, and an export list has names that are left out.
    # A library's own tests run on the machine that builds, and are the distributions' to run. Installed,
    # it says that it is in /usr, so that no name of this directory is in it.
    (
        cd "$work/$name-$version" &&
            CC=$work/zigcc CFLAGS='-O2 -fno-sanitize=all -Wno-implicit-function-declaration' \
                LDFLAGS="-L$root/lib -Wl,-s,--undefined-version" GPGRT_CONFIG=$root/bin/gpgrt-config \
                ./configure --host=x86_64-linux-gnu --prefix=/usr --disable-static --disable-doc "$@" &&
            sed -i "s/^SUBDIRS = .*/SUBDIRS = $parts/" Makefile &&
            make -j"$(nproc)" &&
            make install DESTDIR="$work/root" &&
            rm -f "$root"/lib/*.la &&
            sed -i "s|^prefix=.*|prefix=$root|" "$root"/lib/pkgconfig/*.pc
    ) >"$work/$name.log" 2>&1 || die "that failed; see .package/$name.log"
    install -D -m 644 "$work/$name-$version/COPYING.LIB" "$work/licenses/$name/COPYING.LIB"
    touch "$root/$name-$version.built"
}

# Only a header: what it declares is opened at run time.
ipsec_mb_header() {
    [ -f "$root/include/intel-ipsec-mb.h" ] && return 0
    fetch "$debian/i/intel-ipsec-mb/libipsec-mb-dev_1.3-2_amd64.deb" "$ipsec_mb_sum"
    dpkg-deb -x "$work/libipsec-mb-dev_1.3-2_amd64.deb" "$work/ipsec-mb"
    cp "$work/ipsec-mb/usr/include/intel-ipsec-mb.h" "$root/include/"
}
ipsec_mb_sum=87f789b8238afee73877cd132615dfb835a16b64d14fecbda9410b7dcf8e6219

root=$work/root/usr
mkdir -p "$root/include"
: >"$work/libraries"
tools
cat >"$work/zigcc" <<END
#!/bin/sh
exec "$work/tools/bin/python" -m ziglang cc -target x86_64-linux-gnu.$glibc -I$root/include "\$@"
END
chmod +x "$work/zigcc"
build_library libgpg-error 1.51 src "$debian/libg/libgpg-error/libgpg-error_1.51.orig.tar.bz2" \
    be0f1b2db6b93eed55369cdf79f19f72750c8c7c39fc20b577e724545427e6b2 --disable-nls --disable-tests \
    --enable-install-gpg-error-config
build_library libgcrypt 1.11.0 "compat mpi cipher random src" "$debian/libg/libgcrypt20/libgcrypt20_1.11.0.orig.tar.bz2" \
    09120c9867ce7f2081d6aaa1775386b98c2f2f246135761aae47d81f58685b9c --with-libgpg-error-prefix="$root"
ipsec_mb_header

say "building the wheel"
rm -rf "$work/checkout" "$work/wheel"
# From what is committed or would be: a build leaves no file here, and takes none that is ignored.
mkdir "$work/checkout"
(cd "$here" && git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$work/checkout")
SOURCE_DATE_EPOCH=$(git -C "$here" log -1 --format=%ct)
export SOURCE_DATE_EPOCH
PYTHONPATH=$here "$python" "$here/packaging/man.py" "$work/checkout/man"
cp -a "$work/licenses" "$work/checkout/"
sed -i 's|^license-files = .*|license-files = ["LICENSE", "licenses/*/*"]|' "$work/checkout/pyproject.toml"
(
    cd "$work/checkout" &&
        CC=$work/zigcc LDSHARED="$work/zigcc -shared" LDFLAGS="-s -L$root/lib" \
            CFLAGS="-fno-sanitize=all -ffile-prefix-map=$work/checkout=." \
            "$work/tools/bin/python" -m build --wheel --no-isolation --outdir "$work/wheel"
) >"$work/wheel.log" 2>&1 || die "that failed; see .package/wheel.log"
mkdir -p "$here/dist"
rm -f "$here"/dist/fastun-*manylinux*
LD_LIBRARY_PATH=$root/lib PATH=$work/tools/bin:$PATH "$work/tools/bin/auditwheel" repair \
    --plat manylinux_2_28_x86_64 -w "$here/dist" "$work/wheel"/fastun-*.whl >>"$work/wheel.log" 2>&1 ||
    die "that failed; see .package/wheel.log"
wheel=$(ls "$here"/dist/fastun-*manylinux*.whl)
rm -rf "$work/content"
"$python" -m zipfile -e "$wheel" "$work/content"
"$work/tools/bin/python" "$here/packaging/sbom.py" "$work/content" "$work/libraries" "${wheel%.whl}.cdx.json"
echo "$wheel"
