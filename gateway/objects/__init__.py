"""Pictures and texts by key: on the disk, or in a bucket."""

from gateway.objects.disk import DiskObjects
from gateway.objects.port import ObjectMissing, ObjectStore
from gateway.objects.s3 import S3Objects

__all__ = ["DiskObjects", "ObjectMissing", "ObjectStore", "S3Objects"]
