"""Whom clients of AWS's servers trust: RDS's own authorities, and the public ones that sign for ElastiCache.

RDS's are a file that AWS publishes: downloaded once and kept, or given. The public ones come with botocore.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from infra.spec.errors import InfraError
from infra.spec.world import World

URL = "https://truststore.pki.rds.amazonaws.com/{region}/{region}-bundle.pem"
RDS_FILE, ELASTICACHE_FILE = "rds-ca.pem", "elasticache-ca.pem"
# Where the access image has them; connection strings name these paths.
RDS_PATH, ELASTICACHE_PATH = f"/etc/groundwork/{RDS_FILE}", f"/etc/groundwork/{ELASTICACHE_FILE}"
_SECONDS = 30.0
_FIX = "download it elsewhere from {url}, and name the file in groundwork:awsRdsCaFile"


def authorities(world: World, region: str, given: str = "") -> dict[str, Path]:
    """The files, PEM, by their names in the access image. InfraError where one cannot be had, or is none."""
    import botocore

    public = Path(botocore.__file__).parent / "cacert.pem"
    return {RDS_FILE: rds_authorities(world, region, given), ELASTICACHE_FILE: public}


def rds_authorities(world: World, region: str, given: str = "") -> Path:
    """The file with the region's authorities of RDS, PEM."""
    if given:
        path = world.root / given
        _check(path)
        return path
    path = world.cache_dir / "rds-ca" / f"{region}.pem"
    if not path.is_file():
        _download(region, path)
    return path


def _download(region: str, path: Path) -> None:
    import urllib.error
    import urllib.request

    url = URL.format(region=region)
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            content = answer.read()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            draft = Path(folder) / path.name
            draft.write_bytes(content)
            _check(draft)
            # Only a whole one takes the name.
            draft.replace(path)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise InfraError(
            f"RDS's certificate authorities cannot be downloaded ({reason}); {_FIX.format(url=url)}"
        ) from error


def _check(path: Path) -> None:
    from cryptography import x509

    try:
        x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise InfraError(f"groundwork:awsRdsCaFile: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InfraError(f"{path} holds no certificates in PEM; {_FIX.format(url=URL)}") from error
