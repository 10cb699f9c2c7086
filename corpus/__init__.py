"""What a mirror stores, said once: the contract between the converter, the service and every reader."""
