"""Which fixtures do the tests of faults share?"""

from tests.support.s3_server import minio as minio
from tests.support.s3_server import one_loader as one_loader
from tests.support.s3_server import s3 as s3
from tests.support.s3_server import seaweedfs as seaweedfs
from tests.support.small_networks import small_networks as small_networks
