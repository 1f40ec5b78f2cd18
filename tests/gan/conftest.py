"""Which fixtures do the tests of gan/ share?"""

from tests.support.mirror_server import mirror as mirror
from tests.support.s3_server import minio as minio
from tests.support.s3_server import s3 as s3
from tests.support.s3_server import seaweedfs as seaweedfs
