"""Which fixtures do the tests of stores share?"""

from collections.abc import Iterator

import pytest

from tests.support.quirk_proxy import QuirkProxy, plain, quirky
from tests.support.s3_server import S3Server


@pytest.fixture(scope="module")
def module_proxy(seaweedfs: S3Server) -> Iterator[QuirkProxy]:
    with pytest.MonkeyPatch.context() as patch, quirky(seaweedfs, plain) as proxy:
        seaweedfs.use(patch, proxy.url)
        yield proxy


@pytest.fixture
def proxy(module_proxy: QuirkProxy) -> QuirkProxy:
    """Come between boto3 and the server, without a quirk yet."""
    module_proxy.quirk = plain
    module_proxy.requests.clear()
    return module_proxy
