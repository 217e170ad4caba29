"""Package a bundle for one kind of device."""
