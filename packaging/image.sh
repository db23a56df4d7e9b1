#!/bin/sh
# Build the image: ./run package image [OPTION...]; its name is fastun, and fastun:VERSION.
#
# With podman, buildah or docker, whichever is there, as any user that may use it. Options are the
# build's, such as --build-arg BASE=... or --network host.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$here/fastun/__init__.py")
container=$here/packaging/container
set -- "$@" -f "$container/Containerfile" -t fastun -t "fastun:$version" "$here"

# Docker's format, since OCI's has no HEALTHCHECK.
for program in podman buildah; do
    if command -v "$program" >/dev/null 2>&1; then
        exec "$program" build --format docker --ignorefile "$container/Containerfile.dockerignore" "$@"
    fi
done
command -v docker >/dev/null 2>&1 && exec docker build "$@"
echo "package: an image needs podman, buildah or docker, and none is here; run: sudo apt install podman" >&2
exit 1
