"""Decoders of untrusted media files: images, sound, video, series, point clouds, volumes and graphs."""
