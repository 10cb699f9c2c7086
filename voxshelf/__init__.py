"""The command line: the only package that stands above both the converter and the service."""
