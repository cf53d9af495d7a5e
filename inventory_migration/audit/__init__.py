"""Looking at an inventory before anything is moved; nothing in here writes or refuses."""
