"""The certificate authorities that clients on AWS trust: RDS's own, and the public ones that sign for ElastiCache.

AWS publishes a file with RDS's authorities, which is downloaded or given by a setting. botocore contains the public
ones.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from pathlib import Path

from infra.spec.checkout import Checkout
from infra.spec.errors import InfraError

URL = "https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem"
RDS_FILE, ELASTICACHE_FILE = "rds-ca.pem", "elasticache-ca.pem"
# Their paths in the access image, which the connection strings contain.
RDS_PATH, ELASTICACHE_PATH = f"/etc/groundwork/{RDS_FILE}", f"/etc/groundwork/{ELASTICACHE_FILE}"
_SECONDS = 30.0
# AWS adds authorities to the published file long before it uses them.
_MAX_AGE_SECONDS = 30 * 86400.0
_FIX = "download the file elsewhere from {url}, and set groundwork:awsRdsCaFile to it"


def authorities(checkout: Checkout, region: str, given: str = "") -> dict[str, Path]:
    """Return the PEM files by their names in the access image. Raises InfraError if a file is missing or invalid."""
    import botocore

    public = Path(botocore.__file__).parent / "cacert.pem"
    return {RDS_FILE: rds_authorities(checkout, region, given), ELASTICACHE_FILE: public}


def rds_authorities(checkout: Checkout, region: str, given: str = "") -> Path:
    """Return the PEM file with RDS's authorities for the region."""
    if given:
        path = checkout.root / given
        _check(path, region)
        return path
    path = checkout.cache_dir / "rds-ca" / f"{region}.pem"
    if not path.is_file():
        _download(region, path)
    elif time.time() - path.stat().st_mtime > _MAX_AGE_SECONDS:
        # Most of its authorities are valid for decades.
        with suppress(InfraError):
            _download(region, path)
    return path


def _download(region: str, path: Path) -> None:
    import http.client
    import urllib.request

    url = URL.format(region=region)
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            content = answer.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            draft = Path(folder) / path.name
            draft.write_bytes(content)
            _check(draft, region)
            # Renamed only when it is complete and valid.
            draft.replace(path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or " ".join(str(error).split())
        raise InfraError(
            f"cannot download RDS's certificate authorities ({reason}); {_FIX.format(url=url)}"
        ) from error


def _check(path: Path, region: str) -> None:
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise InfraError(f"groundwork:awsRdsCaFile: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        url = URL.format(region=region)
        raise InfraError(f"{path} contains no certificates in PEM format; {_FIX.format(url=url)}") from error
