"""A local Ray for these tests."""

from ray_cluster import ray_cluster

__all__ = ["ray_cluster"]
