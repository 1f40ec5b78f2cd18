"""Which fixtures do the tests of gan/ share?"""

from tests.mirror_server import mirror as mirror
from tests.s3_server import minio as minio
from tests.s3_server import s3 as s3
from tests.s3_server import seaweedfs as seaweedfs
