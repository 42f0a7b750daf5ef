"""Where requests can go, and with which credentials."""
