"""Files of endpoints: pools without a cluster."""

from inferencepool.adapters.endpoints_file._reading import MAX_FILE_SIZE, EndpointsFile, read_endpoints

__all__ = ["MAX_FILE_SIZE", "EndpointsFile", "read_endpoints"]
