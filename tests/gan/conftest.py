"""Which fixtures do the tests of gan/ share?"""

from contextlib import suppress

from tests.support.mirror_server import mirror as mirror
from tests.support.small_networks import full_networks as full_networks
from tests.support.small_networks import small_networks as small_networks

with suppress(ImportError):  # a machine that is lent for its GPU has no boto3, and runs no test of a store
    from tests.support.s3_server import folder_or_bucket as folder_or_bucket
    from tests.support.s3_server import minio as minio
    from tests.support.s3_server import one_loader as one_loader
    from tests.support.s3_server import s3 as s3
    from tests.support.s3_server import seaweedfs as seaweedfs
