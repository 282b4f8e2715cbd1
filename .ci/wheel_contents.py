"""Check that the wheel contains exactly the files of the package. ``wheel_contents.py dist/NAME.whl``."""

import subprocess
import sys
from pathlib import PurePosixPath
from zipfile import ZipFile

PACKAGE = "django_invoice_cancel"


def main(wheel: str) -> int:
    shipped = {name for name in ZipFile(wheel).namelist() if not name.endswith("/")}
    metadata = {name for name in shipped if ".dist-info/" in name}
    tracked = set(
        subprocess.run(["git", "ls-files", PACKAGE], check=True, capture_output=True, text=True).stdout.split()
    )
    catalogues = {str(PurePosixPath(name).with_suffix(".mo")) for name in tracked if name.endswith(".po")}
    faults = [
        *(f"not of the package: {name}" for name in sorted(shipped - metadata - tracked)),
        *(f"left out: {name}" for name in sorted((tracked | catalogues | {f"{PACKAGE}/py.typed"}) - shipped)),
        *([] if any(name.endswith("LICENSE") for name in metadata) else ["left out: LICENSE"]),
    ]
    print("\n".join(faults) or f"{wheel}: {len(shipped)} files, exactly those of the package")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
