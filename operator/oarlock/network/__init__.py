"""What a container sees of the network."""
