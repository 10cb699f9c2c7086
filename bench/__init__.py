"""Measurements that compare with a peer or a limit in the same run."""
