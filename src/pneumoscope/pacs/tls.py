"""TLS contexts of a node from PEM files, after the BCP 195 profile (PS3.15, section B.9)."""

import ssl
from pathlib import Path

from pneumoscope.errors import UsageError


def read_tls(
    certificate: Path | None, key: Path | None, authorities: Path | None
) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """The contexts for listening and for sending; each side must show a certificate.

    Args:
        certificate: of the node.
        key: of the certificate.
        authorities: that must have signed the certificate of the other side.

    Returns:
        Two contexts of TLS 1.2 or newer; None twice if no file is given.

    Raises:
        UsageError: some of the files only, or one that cannot be used.
    """
    if not (certificate or key or authorities):
        return None, None
    if not (certificate and key and authorities):
        raise UsageError("expected --tls-certificate, --tls-key and --tls-ca together, received some of them")
    for option, path in (("--tls-certificate", certificate), ("--tls-key", key), ("--tls-ca", authorities)):
        if not path.is_file():
            raise UsageError(f"expected a PEM file with {option}, there is none at {path}: check the name")
    contexts = []
    for purpose in (ssl.Purpose.CLIENT_AUTH, ssl.Purpose.SERVER_AUTH):
        context = ssl.create_default_context(purpose)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(authorities)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"expected PEM certificates at {authorities}, they cannot be used: {error}") from None
        try:
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(
                f"expected a PEM certificate at {certificate} and its key at {key}, they cannot be used: {error}"
            ) from None
        contexts.append(context)
    return contexts[0], contexts[1]
