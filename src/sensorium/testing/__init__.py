"""What every component of a family must keep; plug-ins import it too."""
