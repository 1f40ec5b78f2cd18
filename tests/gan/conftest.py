"""Which fixtures do the tests of gan/ share?"""

from tests.support.mirror_server import mirror as mirror
from tests.support.s3_server import minio as minio
from tests.support.s3_server import s3 as s3
from tests.support.s3_server import seaweedfs as seaweedfs
from tests.support.small_networks import full_networks as full_networks
from tests.support.small_networks import small_networks as small_networks
