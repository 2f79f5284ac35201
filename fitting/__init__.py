"""How the models in assets/ were fitted. Needs material that is not part of this repository."""
