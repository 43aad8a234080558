"""Decoders of media files that may hold anything: images, sound, video, series, point clouds, volumes, graphs."""
