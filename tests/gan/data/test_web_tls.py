"""Do the time limits hold over https, and are only trusted certificates accepted?"""

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gan.data.web import DEFAULT_LIMITS, Limits, get
from gan.errors import DownloadError
from tests.support.mirror_server import MirrorServer, body, drip, stall

DATA = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a key and a certificate, signed by itself, for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mirror")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    path = tmp_path_factory.mktemp("tls") / "mirror.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls_mirror(certificate: Path) -> Iterator[MirrorServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = MirrorServer(context)
    yield server
    server.close()


def fetch(mirror: MirrorServer, limits: Limits = DEFAULT_LIMITS) -> bytes | None:
    return get(f"{mirror.url}/file", len(DATA), limits, lambda num_bytes, total: None)


def test_a_trusted_certificate_is_accepted(
    tls_mirror: MirrorServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_mirror.answers["file"] = body(DATA)
    assert fetch(tls_mirror) == DATA
    tls_mirror.answers["file"] = stall(DATA)
    with pytest.raises(DownloadError, match="sent nothing for 0.2 s"):
        fetch(tls_mirror, Limits(read=0.2))
    tls_mirror.answers["file"] = drip(b"x", 0.02)
    with pytest.raises(DownloadError, match="took more than 0.2 s"):
        fetch(tls_mirror, Limits(total=0.2))


def test_an_untrusted_certificate_is_refused(tls_mirror: MirrorServer) -> None:
    tls_mirror.answers["file"] = body(DATA)
    with pytest.raises(DownloadError, match="cannot be reached: .*certificate verify failed"):
        fetch(tls_mirror)
    assert tls_mirror.requests == []
