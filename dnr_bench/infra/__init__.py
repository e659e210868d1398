"""Store, fingerprints, devices, the model hub, errors, files of the user's."""
