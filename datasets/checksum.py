"""CRC-32C, the checksum of TFRecord files, compiled."""

import numpy as np

from ytrue.jit import kernel


@kernel
def crc32c(data, table):  # type: ignore[no-untyped-def]
    """Return the CRC-32C of data (N,) uint8; table (256,) uint32."""
    crc = np.uint32(0xFFFFFFFF)
    for byte in data:
        crc = table[(crc ^ byte) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    return crc ^ np.uint32(0xFFFFFFFF)
