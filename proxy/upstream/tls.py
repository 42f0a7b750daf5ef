"""How providers' certificates are checked."""

import ssl

from proxy.config.models import TlsSettings
from proxy.errors import ConfigError, Fault


def make_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make the context for all connections of a provider; reads the file of authorities once.

    Raises:
        ConfigError: `caFile` cannot be read, or has no certificate in it.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as exc:  # ssl.SSLError is one
        reason = "not a PEM file of certificates" if isinstance(exc, ssl.SSLError) else exc.strerror
        fault = Fault("tls.caFile", f"{reason}", settings.ca_file)
        raise ConfigError(f"tls.caFile: {settings.ca_file}: {reason}", (fault,)) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
