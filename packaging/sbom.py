"""What is in a package, as CycloneDX has it: ``python packaging/sbom.py DIR LIBRARIES OUT``.

DIR has Python packages with their metadata, LIBRARIES a line for each library in C that was built
into fastun's: name, version, licence, the source's URL and its SHA-256. The list's number and time
come from SOURCE_DATE_EPOCH and what is listed, so the same package gives the same list.
"""

import datetime as dt
import os
import re
import sys
import uuid
from importlib.metadata import Distribution, distributions
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

# Libraries in C that wheels of others have in them. They do not say which version.
_INSIDE_OTHERS = {"pynacl": ("libsodium", "ISC"), "cffi": ("libffi", "MIT")}


def of_library(
    name: str, version: str | None, licence: str, *references: ExternalReference
) -> Component:
    """Return a library in C."""
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}@{version}" if version else name,
        purl=PackageURL("generic", name=name, version=version),
        licenses=[LicenseFactory().make_from_string(licence)],
        external_references=references,
    )


def source(url: str, sha256: str) -> ExternalReference:
    """Return where a library's source is from."""
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]
    return ExternalReference(
        type=ExternalReferenceType.SOURCE_DISTRIBUTION, url=XsUri(url), hashes=hashes
    )


def of_package(found: Distribution) -> Component:
    """Return a Python package."""
    name = re.sub(r"[-_.]+", "-", found.name).lower()
    return Component(
        name=name,
        version=found.version,
        type=ComponentType.APPLICATION if name == "fastun" else ComponentType.LIBRARY,
        bom_ref=f"{name}@{found.version}",
        purl=PackageURL("pypi", name=name, version=found.version),
        licenses=[LicenseFactory().make_from_string(licence_of(found))],
    )


def licence_of(found: Distribution) -> str:
    """Return a package's licence: an expression, or what its classifiers call it."""
    given = found.metadata.get("License-Expression") or found.metadata.get("License", "")
    if given and "\n" not in given:
        return given
    classifiers = found.metadata.get_all("Classifier") or []
    return " AND ".join(each.rsplit(" :: ", 1)[-1] for each in classifiers if "License ::" in each)


def main() -> None:
    """Write the list."""
    directory, libraries, out = map(Path, sys.argv[1:])
    packages = {each.name: each for each in map(of_package, distributions(path=[str(directory)]))}
    fastun = packages.pop("fastun")
    lines = map(str.split, libraries.read_text(encoding="utf-8").splitlines())
    own = [of_library(name, number, licence, source(*of)) for name, number, licence, *of in lines]
    bom = Bom(components=[*packages.values(), *own])
    bom.metadata.component = fastun
    bom.register_dependency(fastun, [*packages.values(), *own])
    for name, (library, licence) in _INSIDE_OTHERS.items():
        if name in packages:
            part = of_library(library, None, licence)
            bom.components.add(part)
            bom.register_dependency(packages[name], [part])
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    bom.metadata.timestamp = dt.datetime.fromtimestamp(epoch, dt.UTC)
    listed = sorted(each.bom_ref.value or "" for each in bom.components)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{fastun.bom_ref.value} {epoch} {listed}")
    JsonV1Dot6(bom).output_to_file(str(out), allow_overwrite=True, indent=2)


if __name__ == "__main__":
    main()
