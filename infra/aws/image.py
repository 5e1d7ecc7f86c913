"""The access image in ECR. The local engine builds and pushes it, or a setting names it by digest (docs/adr/0016)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pulumi
import pulumi_aws as aws
from pulumi import dynamic

from infra.aws.encryption import EncryptionKey
from infra.aws.site import AwsSite
from infra.aws.trust import rds_authorities
from infra.dynamic import Provider
from infra.spec.checkout import Checkout


@dataclass(frozen=True)
class ImageArgs:
    checkout: Checkout
    site: AwsSite
    key: EncryptionKey


class Image(pulumi.ComponentResource):
    """The access image for tasks on AWS."""

    # REPOSITORY@sha256:DIGEST
    reference: pulumi.Output[str]
    repository_arn: pulumi.Output[str]

    def __init__(self, name: str, args: ImageArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("groundwork:aws:Image", name, None, opts)
        given = args.site.settings.aws_access_image
        if given:
            self.reference = pulumi.Output.from_input(given)
            registry, _, path = given.partition("/")
            account, repository = registry.split(".")[0], path.partition("@")[0]
            self.repository_arn = args.site.partition.apply(
                lambda partition: f"arn:{partition}:ecr:{args.site.region}:{account}:repository/{repository}"
            )
        else:
            self._push(args)
        self.register_outputs({"reference": self.reference})

    def _push(self, args: ImageArgs) -> None:
        from infra.images.context import aws_access_digest

        child = pulumi.ResourceOptions(parent=self)
        site, settings = args.site, args.site.settings
        given = settings.aws_rds_ca_file
        repository = aws.ecr.Repository(
            "access",
            name=site.name("access"),
            # A tag must always refer to the same content.
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration=aws.ecr.RepositoryImageScanningConfigurationArgs(scan_on_push=True),
            encryption_configurations=[
                aws.ecr.RepositoryEncryptionConfigurationArgs(encryption_type="KMS", kms_key=args.key.arn)
            ],
            # Images can be built again.
            force_delete=True,
            tags=site.tags("access"),
            opts=child,
        )
        aws.ecr.LifecyclePolicy("access", repository=repository.name, policy=_KEEP_THE_NEWEST, opts=child)
        pushed = PushedImage(
            "access-image",
            region=site.region,
            repository_url=repository.repository_url,
            architecture=settings.aws_access_architecture,
            digest=aws_access_digest(
                args.checkout.root,
                settings.aws_access_architecture,
                settings.image_refresh,
                settings.migrations_folder,
                rds_authorities(args.checkout, site.region, given) if given else None,
            ),
            refresh=settings.image_refresh,
            ca_file=given,
            migrations=settings.migrations_folder,
            opts=child,
        )
        self.reference, self.repository_arn = pushed.reference, repository.arn


# The running image is among the newest thirty, unless thirty others were pushed since its deployment.
_KEEP_THE_NEWEST = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "description": "Keep the newest thirty",
                "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 30},
                "action": {"type": "expire"},
            }
        ]
    }
)


class PushedImageProvider(Provider):
    """Builds an image and pushes it, unless the repository already has an image with the same digest of its context.

    Deleting the resource does nothing, because running tasks may need the image. The images are deleted with the
    repository.
    """

    # The digest covers what these files contain.
    ignored: ClassVar[frozenset[str]] = frozenset({"ca_file", "migrations"})

    def create(self, props: dict[str, Any]) -> dynamic.CreateResult:
        return dynamic.CreateResult(id_=props["digest"][:16], outs=self._pushed(props))

    def update(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> dynamic.UpdateResult:
        return dynamic.UpdateResult(outs=self._pushed(_news))

    @staticmethod
    def _pushed(props: dict[str, Any]) -> dict[str, Any]:
        from infra.aws.pushing import push

        reference = push(
            Checkout.here(),
            region=props["region"],
            repository_url=props["repository_url"],
            architecture=props["architecture"],
            digest=props["digest"],
            refresh=props["refresh"],
            ca_file=props["ca_file"],
            migrations=props["migrations"],
        )
        return {**props, "reference": reference}


class PushedImage(dynamic.Resource, module="aws", name="PushedImage"):
    """An image in a repository, tagged with the digest of its context. `reference` contains the registry's digest."""

    reference: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        region: str,
        repository_url: pulumi.Input[str],
        architecture: str,
        digest: str,
        refresh: str,
        ca_file: str,
        migrations: str,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {
            "region": region,
            "repository_url": repository_url,
            "architecture": architecture,
            "digest": digest,
            "refresh": refresh,
            "ca_file": ca_file,
            "migrations": migrations,
            "reference": None,
        }
        super().__init__(PushedImageProvider(), name, props, opts)
